//! How many requests are taken in, and from whom.

use super::*;

#[tokio::test]
async fn a_full_daemon_refuses_and_an_unknown_model_is_named() {
    let mut world = World::new();
    world.config.requests.active_max = 2;
    let (supervisor, _task) = world.start(&[("m", "{}")]).await;
    let running = [
        world.begin(&supervisor, ask("m", 100_000)).await.unwrap(),
        world.begin(&supervisor, ask("m", 100_000)).await.unwrap(),
    ];
    let error = world.begin(&supervisor, ask("m", 1)).await.unwrap_err();
    assert!(error.kind == ErrorKind::Busy && error.retry_after_ms.is_some(), "{error:?}");
    for transcript in &running {
        supervisor.cancel(transcript.id()).await;
    }
    assert!(finished(&read(&world.begin(&supervisor, ask("m", 1)).await.unwrap()).await));
    assert_eq!(world.begin(&supervisor, ask("n", 1)).await.unwrap_err().kind, ErrorKind::ModelNotFound);
}

#[tokio::test]
async fn a_key_holds_no_more_places_than_are_free_and_administrators_the_rest() {
    let mut world = World::new();
    world.config.requests.active_max = 8;
    let (supervisor, _task) = world.start(&[("m", r#"{"load": "hang"}"#)]).await;
    let mut held = Vec::new();
    for (holder, places) in [(Some(1), 4), (Some(2), 2), (Some(3), 1), (None, 1)] {
        for _ in 0..places {
            held.push(world.begin_for(holder, &supervisor, ask("m", 100_000)).await.unwrap());
        }
        let error = world.begin_for(holder, &supervisor, ask("m", 1)).await.unwrap_err();
        let kind = if holder.is_some() { ErrorKind::RateLimited } else { ErrorKind::Busy };
        assert_eq!((error.kind, error.retry_after_ms), (kind, Some(1_000)), "{holder:?}: {error:?}");
    }
    supervisor.cancel(held[0].id()).await;
    supervisor.cancel(held[7].id()).await;
    for (holder, may) in [(Some(1), false), (Some(2), false), (Some(3), true), (Some(4), true), (None, false)] {
        let begun = world.begin_for(holder, &supervisor, ask("m", 1)).await;
        assert_eq!(begun.is_ok(), may, "{holder:?}");
    }
}

#[tokio::test]
async fn a_thousand_requests_wait_and_a_hundred_are_answered_by_the_defaults() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", r#"{"load": "hang"}"#)]).await;
    for _ in 0..1_100 {
        world.begin(&supervisor, ask("m", 1)).await.unwrap();
    }
    let Config { worker, requests, transcripts, .. } = &world.config;
    assert!(
        worker.waiting_max as usize + worker.sequences_max as usize >= requests.active_max,
        "all may ask one model"
    );
    assert!(transcripts.ended_max >= requests.active_max, "all may end at once, and be read after that");
}
