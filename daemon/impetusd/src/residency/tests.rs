//! Hand-made cases for each decision, and seeded worlds in which the laws must hold at every step.

use std::collections::BTreeMap;

use super::*;

const MB: u64 = 1_000_000;

fn size(weights: u64, kv: u64, kv_least: u64) -> Size {
    Size { weights: weights * MB, kv: kv * MB, kv_least: kv_least * MB, overhead: 10 * MB }
}

fn resident(name: &str, megabytes: u64, used_ms: u64) -> Resident {
    Resident {
        name: name.to_owned(),
        bytes: megabytes * MB,
        busy: false,
        pinned: false,
        leaving: false,
        used_ms,
        keep_alive_ms: Some(1000),
    }
}

#[track_caller]
fn check(size: Size, residents: &[Resident], expected: Decision) {
    let wanted = Wanted { size, since_ms: 0 };
    assert_eq!(decide(&wanted, residents, 1000 * MB, 10_000, 5_000), expected);
}

fn evict(names: &[&str]) -> Decision {
    Decision::Evict(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn a_model_that_fits_loads_at_once() {
    check(size(500, 200, 50), &[], Decision::Load { kv: 200 * MB });
    check(size(500, 200, 50), &[resident("a", 290, 1)], Decision::Load { kv: 200 * MB });
}

#[test]
fn the_longest_unused_models_leave_first_and_only_as_many_as_needed() {
    let residents = [resident("new", 300, 30), resident("old", 300, 10), resident("older", 300, 5)];
    check(size(400, 100, 50), &residents, evict(&["older", "old"]));
    check(size(80, 100, 50), &residents, evict(&["older"]));
}

#[test]
fn pinned_and_leaving_models_are_never_evicted() {
    let pinned = Resident { pinned: true, ..resident("pinned", 300, 1) };
    let leaving = Resident { leaving: true, ..resident("leaving", 300, 1) };
    check(size(400, 100, 50), &[pinned.clone(), leaving.clone(), resident("idle", 300, 9)], evict(&["idle"]));
    check(size(400, 100, 50), &[pinned, leaving], Decision::Wait);
}

#[test]
fn a_cache_shrinks_rather_than_refuse() {
    let pinned = Resident { pinned: true, ..resident("pinned", 400, 1) };
    check(size(500, 300, 50), &[pinned], Decision::Load { kv: 90 * MB });
}

#[test]
fn a_busy_model_is_waited_for_until_patience_ends() {
    let busy = Resident { busy: true, ..resident("busy", 700, 1) };
    let wanted = Wanted { size: size(400, 100, 50), since_ms: 0 };
    let at = |now_ms| decide(&wanted, std::slice::from_ref(&busy), 1000 * MB, 10_000, now_ms);
    assert_eq!(at(9_999), Decision::Wait);
    assert_eq!(at(10_000), evict(&["busy"]));
}

#[test]
fn what_can_never_fit_is_refused_with_its_arithmetic() {
    let pinned = Resident { pinned: true, ..resident("pinned", 600, 1) };
    let wanted = Wanted { size: size(380, 100, 50), since_ms: 0 };
    let Decision::Refuse(shortage) = decide(&wanted, &[pinned], 1000 * MB, 10_000, 0) else {
        panic!("440 MB beside 600 MB of 1000 MB must be refused")
    };
    let sentence = shortage.sentence("big");
    for figure in ["big", "440 MB", "380 MB", "50 MB", "10 MB", "1.00 GB", "600 MB"] {
        assert!(sentence.contains(figure), "{sentence:?} does not say {figure}");
    }
}

#[test]
fn the_predicted_cache_holds_one_context_and_keeps_its_bounds() {
    let facts = |context_length, kv_bytes_per_token| ModelFacts {
        architecture: "llama".to_owned(),
        parameters: 1,
        context_length,
        vocabulary: 1,
        weights: "bf16".to_owned(),
        weights_bytes: 7,
        memory_bytes: 9,
        step_bytes: 7,
        kv_bytes_per_token,
        dimensions: None,
        capabilities: Default::default(),
    };
    let limits = CacheLimits { tokens: 1000, bytes_max: 100_000, tokens_min: 100, keep: pipe::Keep::Bf16, overhead: 5 };
    let predict = |context, per_token| Size::predict(&facts(context, per_token), None, &limits);
    assert_eq!(predict(50, 2), Size { weights: 9, kv: 2000, kv_least: 100, overhead: 5 });
    // What was written down before it was known what weights take in memory.
    let older = ModelFacts { memory_bytes: 0, ..facts(50, 2) };
    assert_eq!(Size::predict(&older, Some(&facts(50, 2)), &limits).weights, 7 + 9);
    assert_eq!(predict(4000, 2).kv, 8000);
    assert_eq!(predict(1_000_000, 2).kv, 100_000);
    // An encoder has no use for more than one full text.
    let mut encoder = facts(50, 2);
    encoder.capabilities.embed = true;
    assert_eq!(Size::predict(&encoder, None, &limits).kv, 100);
    // The least cache wins over the byte limit: without it the model could not answer.
    assert_eq!(predict(4000, 2000).kv, 200_000);
    assert_eq!(predict(u32::MAX, u64::MAX).full(), u64::MAX);
}

#[test]
fn only_idle_models_expire_and_only_when_their_time_is_over() {
    let busy = Resident { busy: true, ..resident("busy", 1, 0) };
    let pinned = Resident { pinned: true, ..resident("pinned", 1, 0) };
    let forever = Resident { keep_alive_ms: None, ..resident("forever", 1, 0) };
    let residents = [busy, pinned, forever, resident("late", 1, 0), resident("fresh", 1, 500)];
    assert_eq!(expired(&residents, 1000), ["late"]);
    assert_eq!(expired(&residents, 999), [""; 0]);
}

/// A small generator: the same seed gives the same world.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Lives through one world: models are wanted, get work, finish it and leave, and time goes by.
fn live(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let budget = 1000 * MB;
    let mut residents: BTreeMap<String, Resident> = BTreeMap::new();
    let mut waiting: BTreeMap<String, Wanted> = BTreeMap::new();
    for step in 0..300_u64 {
        let now_ms = step * 100;
        let name = format!("m{}", dice.roll(6));
        match dice.roll(4) {
            0 if !residents.contains_key(&name) => {
                let kv_least = dice.roll(50);
                let size = size(dice.roll(700), kv_least + dice.roll(300), kv_least);
                waiting.entry(name).or_insert(Wanted { size, since_ms: now_ms });
            }
            1 => {
                if let Some(resident) = residents.get_mut(&name).filter(|r| !r.leaving) {
                    resident.busy = !resident.busy;
                    resident.used_ms = now_ms;
                }
            }
            _ => {
                let gone = residents.values().find(|r| r.leaving && !r.busy).map(|r| r.name.clone());
                gone.map(|name| residents.remove(&name));
            }
        }
        settle(seed, &mut dice, &mut residents, &mut waiting, budget, now_ms);
        // Work of a leaving model ends in the end.
        residents.values_mut().filter(|r| r.leaving).for_each(|r| r.busy = r.busy && now_ms % 700 != 0);
    }
}

fn settle(
    seed: u64,
    dice: &mut Dice,
    residents: &mut BTreeMap<String, Resident>,
    waiting: &mut BTreeMap<String, Wanted>,
    budget: u64,
    now_ms: u64,
) {
    for name in waiting.keys().cloned().collect::<Vec<_>>() {
        let wanted = waiting[&name];
        let all: Vec<Resident> = residents.values().cloned().collect();
        let used: u64 = all.iter().map(|r| r.bytes).sum();
        match decide(&wanted, &all, budget, 2_000, now_ms) {
            Decision::Load { kv } => {
                let bytes = wanted.size.weights + wanted.size.overhead + kv;
                assert!(used + bytes <= budget, "seed {seed}: {used} + {bytes} exceed the budget");
                assert!((wanted.size.kv_least..=wanted.size.kv).contains(&kv), "seed {seed}: a cache of {kv}");
                waiting.remove(&name);
                let pinned = dice.roll(8) == 0;
                let loaded = Resident { bytes, pinned, ..resident(&name, 0, now_ms) };
                residents.insert(name, loaded);
            }
            Decision::Evict(names) => {
                assert!(!names.is_empty(), "seed {seed}: an eviction of nobody");
                let impatient = now_ms - wanted.since_ms >= 2_000;
                for name in names {
                    let evicted = residents.get_mut(&name).unwrap();
                    assert!(!evicted.pinned && !evicted.leaving, "seed {seed}: {name} must not be evicted");
                    assert!(!evicted.busy || impatient, "seed {seed}: {name} was busy");
                    evicted.leaving = true;
                }
            }
            Decision::Wait => {
                let blocked = all.iter().any(|r| r.leaving || r.busy);
                assert!(blocked, "seed {seed}: waiting for nothing");
            }
            Decision::Refuse(_) => {
                let pinned: u64 = all.iter().filter(|r| r.pinned && !r.leaving).map(|r| r.bytes).sum();
                assert!(wanted.size.least() + pinned > budget, "seed {seed}: it would have fitted");
                waiting.remove(&name);
            }
        }
    }
}

#[test]
fn the_laws_hold_in_two_thousand_worlds() {
    (0..2_000).for_each(live);
}

#[test]
fn a_smaller_budget_lets_idle_models_leave_until_the_rest_fits() {
    let busy = Resident { busy: true, ..resident("busy", 300, 1) };
    let pinned = Resident { pinned: true, ..resident("pinned", 300, 2) };
    let leaving = Resident { leaving: true, ..resident("leaving", 300, 3) };
    let residents = [busy, pinned, leaving, resident("new", 100, 9), resident("old", 100, 5)];
    assert_eq!(surplus(&residents, 800 * MB), [""; 0]);
    assert_eq!(surplus(&residents, 750 * MB), ["old"]);
    assert_eq!(surplus(&residents, 650 * MB), ["old", "new"]);
    assert_eq!(surplus(&residents, MB), ["old", "new"], "work and pins stay");
}
