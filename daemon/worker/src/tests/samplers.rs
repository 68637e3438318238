//! Settings of sampling through the whole worker: alone, in a batch, after a restart.

use pipe::{Delivered, FromWorker};
use protocol::generation::GenerateRequest;

use super::kit::{Daemon, Folder, open, request, submit};

fn settings() -> Vec<GenerateRequest> {
    let with = |change: fn(&mut GenerateRequest)| {
        let mut asked = request("once upon a time there was a time", 48);
        asked.sampling.temperature = Some(1.2);
        change(&mut asked);
        asked
    };
    vec![
        with(|it| it.sampling.typical_p = Some(0.7)),
        with(|it| (it.sampling.xtc_probability, it.sampling.xtc_threshold) = (Some(0.5), Some(0.005))),
        with(|it| (it.sampling.dry_multiplier, it.sampling.dry_allowed_length) = (Some(2.0), Some(1))),
        with(|it| (it.sampling.mirostat, it.sampling.mirostat_tau) = (true, Some(3.0))),
        with(|_| {}),
    ]
}

#[test]
fn every_sampler_draws_in_a_batch_as_alone_and_has_an_effect() {
    let folder = Folder::new("samplers", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    let requests = settings();
    let alone: Vec<_> = requests
        .iter()
        .zip(0..)
        .map(|(asked, id)| {
            daemon.send(submit(id, asked, Vec::new()));
            daemon.answer(id).tokens
        })
        .collect();
    for (asked, id) in requests.iter().zip(100..) {
        daemon.send(submit(id, asked, Vec::new()));
    }
    for (alone, id) in alone.iter().zip(100..) {
        assert_eq!(daemon.answer(id).tokens, *alone, "request {id}");
    }
    for (at, tokens) in alone.iter().enumerate() {
        assert!(!alone[..at].contains(tokens), "setting {at} changes nothing");
    }
}

#[test]
fn every_sampler_goes_on_after_a_restart_as_if_undisturbed() {
    let folder = Folder::new("moods", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    for (asked, id) in settings().iter().zip((0..).step_by(10)) {
        daemon.send(submit(id, asked, Vec::new()));
        let (mut tokens, mut states) = (Vec::new(), Vec::new());
        while tokens.len() < 48 {
            let message = daemon.until(|message| matches!(message, FromWorker::Event(event) if event.id.0 == id));
            let FromWorker::Event(event) = message else { continue };
            if !event.tokens.is_empty() {
                tokens.extend(event.tokens);
                states.push(event.sampler);
            }
        }
        for (cut, id) in [1, 20, 47].into_iter().zip(id + 1..) {
            let delivered = Delivered { tokens: tokens[..cut].to_vec(), sampler: states[cut - 1], finished: None };
            daemon.send(submit(id, asked, vec![delivered]));
            assert_eq!(daemon.answer(id).tokens[0], tokens[cut..], "cut at {cut}");
        }
    }
}
