//! Models that are wanted and not in memory yet: who may have them unloaded, and who gets the memory they wait for.

use super::*;

/// Waits until a worker of a model has died.
async fn died(supervisor: &Supervisor, model: &str) {
    let look = async {
        while supervisor.measures().await.unwrap().iter().all(|of| of.model != model || of.deaths == 0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, look).await.expect("no worker died in time");
}

#[tokio::test]
async fn a_model_that_nobody_waits_for_yet_is_unloaded_before_it_has_a_worker() {
    let mut world = World::new();
    (world.config.worker.backoff, world.config.worker.backoff_max) = (LIMIT, LIMIT);
    let (supervisor, _task) = world.start(&[("m", r#"{"load": "crash"}"#)]).await;
    let loading = world.load(&supervisor, "m", None).await;
    died(&supervisor, "m").await;
    supervisor.unload("m".to_owned()).await.unwrap();
    assert_eq!(failure(&read(&loading).await).kind, ErrorKind::Cancelled);
    assert_eq!(supervisor.remove("m".to_owned()).await.unwrap().state, ModelState::Available);
}

#[tokio::test]
async fn a_model_that_requests_wait_for_is_not_unloaded_before_it_has_a_worker() {
    let mut world = World::new();
    (world.config.worker.backoff, world.config.worker.backoff_max) = (LIMIT, LIMIT);
    let (supervisor, _task) = world.start(&[("m", r#"{"load": "crash"}"#)]).await;
    let waiting = world.begin(&supervisor, ask("m", 1)).await.unwrap();
    died(&supervisor, "m").await;
    let refused = supervisor.unload("m".to_owned()).await.unwrap_err();
    assert!(refused.kind == ErrorKind::Conflict && refused.message.contains("wait for m to load: 1"), "{refused:?}");
    let refused = supervisor.remove("m".to_owned()).await.unwrap_err();
    assert!(refused.message.contains("1 requests") && !refused.message.contains("in memory"), "{refused:?}");
    supervisor.cancel(waiting.id()).await;
    supervisor.unload("m".to_owned()).await.unwrap();
    supervisor.remove("m".to_owned()).await.unwrap();
}

#[tokio::test]
async fn a_model_that_nobody_waits_for_any_more_takes_no_memory_from_others() {
    let mut world = World::new();
    world.budget = 100_000_000;
    world.config.memory.patience = LIMIT;
    let scripts = [("going", r#"{"megabytes": 60}"#), ("large", r#"{"megabytes": 70}"#)];
    let (supervisor, _task) = world.start(&scripts).await;
    let running = world.begin(&supervisor, ask("going", 100_000)).await.unwrap();
    until(&supervisor, "going", |state| matches!(state, ModelState::Loaded(residence) if residence.running == 1)).await;
    let cancelled = world.begin(&supervisor, ask("large", 1)).await.unwrap();
    let late = GenerateRequest { deadline_ms: Some(50), ..ask("large", 1) };
    let late = world.begin(&supervisor, late).await.unwrap();
    supervisor.cancel(cancelled.id()).await;
    assert_eq!(failure(&read(&late).await).kind, ErrorKind::DeadlineExceeded);
    until(&supervisor, "large", |state| *state == ModelState::Available).await;
    supervisor.cancel(running.id()).await;
    assert!(finished(&read(&world.begin(&supervisor, ask("going", 1)).await.unwrap()).await));
    assert_eq!((lives(&world.path("going")), lives(&world.path("large"))), (1, 0));
}

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
    assert!(lives(&world.path("late")) <= 1, "it was started and killed over and over");
}
