//! Models that are wanted and not in memory yet: who may have them unloaded, and who gets the memory they wait for.

use super::*;

#[tokio::test]
async fn memory_that_a_model_has_waited_for_too_long_is_not_given_to_one_that_came_later() {
    let mut world = World::new();
    world.budget = 100_000_000;
    world.config.memory.patience = Duration::from_millis(100);
    let scripts =
        [("going", r#"{"megabytes": 50}"#), ("large", r#"{"megabytes": 99}"#), ("late", r#"{"load": "hang"}"#)];
    let (supervisor, _task) = world.start(&scripts).await;
    let _running = world.begin(&supervisor, ask("going", 100_000)).await.unwrap();
    until(&supervisor, "going", |state| matches!(state, ModelState::Loaded(residence) if residence.running == 1)).await;
    let unloading = supervisor.clone();
    let _unloading = tokio::spawn(async move { unloading.unload("going".to_owned()).await });
    until(&supervisor, "going", |state| *state == ModelState::Unloading).await;
    let _large = world.load(&supervisor, "large", None).await;
    let late = GenerateRequest { deadline_ms: Some(1_500), ..ask("late", 1) };
    let events = read(&world.begin(&supervisor, late).await.unwrap()).await;
    assert_eq!(failure(&events).kind, ErrorKind::DeadlineExceeded);
    assert_eq!(lives(&world.path("late")), 1, "it was started and killed over and over");
}
