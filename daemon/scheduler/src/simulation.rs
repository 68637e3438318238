//! Seeded random traffic against the scheduler, with every invariant checked after every step.
//!
//! A fake model writes into each block the history of tokens that a real one would attend to, so a wrongly shared,
//! stale or half-filled block is seen at once. A failure prints its seed; `run(seed)` repeats it.

use std::collections::HashMap;

use crate::{
    Arrival, BLOCK_TOKENS, BlockId, Limits, Outcome, Plan, Priority, Refusal, Scheduler, SequenceId, TokenId,
    blocks_for,
};

const SEEDS: u64 = 3_000;
const ARRIVALS_MAX: u64 = 24;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// What a model would have in its cache at one position: a digest of every token up to it.
fn digest(before: u64, token: TokenId) -> u64 {
    mix(before.rotate_left(7) ^ u64::from(token).wrapping_add(1))
}

/// The token a deterministic model draws after a history.
fn draw(history: u64) -> TokenId {
    (history % 5) as TokenId
}

/// A sequence as its owner sees it.
struct Client {
    tokens: Vec<TokenId>,
    /// By position: the digest of the tokens up to it.
    histories: Vec<u64>,
    prompt: usize,
    tokens_max: usize,
    steps_waited: u32,
}

struct Simulation {
    random: Random,
    limits: Limits,
    scheduler: Scheduler,
    clients: HashMap<SequenceId, Client>,
    cache: Vec<[u64; BLOCK_TOKENS as usize]>,
    arrived: u64,
    now_ms: u64,
    reused: u64,
    finished: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let sequences_max = 1 + random.below(8) as u32;
        let limits = Limits {
            blocks: 4 + random.below(28) as u32,
            sequences_max,
            waiting_max: random.below(16) as u32,
            step_tokens_max: sequences_max + random.below(64) as u32,
            prefill_tokens_max: 1 + random.below(96) as u32,
        };
        Self {
            random,
            limits,
            scheduler: Scheduler::new(limits),
            clients: HashMap::new(),
            cache: vec![[0; BLOCK_TOKENS as usize]; limits.blocks as usize],
            arrived: 0,
            now_ms: 0,
            reused: 0,
            finished: 0,
        }
    }

    /// Prompts come from few families, so that prefixes are shared, diverge and return.
    fn arrive(&mut self) {
        let family = self.random.below(3) as TokenId;
        let length = 1 + self.random.below(150) as usize;
        let shared = self.random.below(length as u64 + 1) as usize;
        let mut tokens: Vec<TokenId> = (0..length as TokenId).map(|i| i * 7 % 11 + family).collect();
        for token in &mut tokens[shared..] {
            *token = self.random.below(3) as TokenId;
        }
        let tokens_max = length + self.random.below(120) as usize;
        let id = SequenceId(self.arrived);
        self.arrived += 1;
        let priority = [Priority::Low, Priority::Normal, Priority::High][self.random.below(3) as usize];
        let (blocks, living) = (blocks_for(tokens_max as u32), self.clients.len() as u32);
        let arrival =
            Arrival { id, tokens: tokens.clone(), tokens_max: tokens_max as u32, priority, now_ms: self.now_ms };
        match self.scheduler.submit(arrival) {
            Ok(()) => {
                let histories = histories(&tokens);
                self.clients.insert(id, Client { tokens, histories, prompt: length, tokens_max, steps_waited: 0 });
            }
            Err(Refusal::TooLong { needs_blocks, .. }) => {
                assert!(needs_blocks == blocks && blocks > self.limits.blocks, "only what never fits is too long");
            }
            Err(Refusal::Busy { .. }) => {
                assert!(living >= self.limits.waiting_max + self.limits.sequences_max, "only a full queue is busy");
            }
            Err(refusal) => panic!("{refusal}"),
        }
    }

    fn cancel(&mut self) {
        let Some(id) = self.clients.keys().min().copied() else { return };
        self.clients.remove(&id);
        assert!(self.scheduler.cancel(id), "a living sequence can be cancelled");
        assert!(!self.scheduler.cancel(id), "a cancelled sequence is gone");
    }

    fn step(&mut self) {
        let first = self.first();
        let plan = self.scheduler.plan();
        self.check_plan(&plan);
        self.check_state();
        if let Some(first) = first {
            assert!(plan.rows.iter().any(|row| row.id == first), "the first in rank gets a row in every plan");
        }
        let outcomes: Vec<Outcome> = (0..plan.rows.len()).map(|index| self.forward(&plan, index)).collect();
        for id in outcomes.iter().filter(|outcome| outcome.finished).map(|outcome| outcome.id) {
            self.reused += u64::from(self.scheduler.cached_tokens(id));
        }
        self.scheduler.commit(&outcomes);
        self.check_state();
    }

    /// The living sequence of the lowest rank.
    fn first(&self) -> Option<SequenceId> {
        self.scheduler.ranks.iter().min_by_key(|(_, rank)| **rank).map(|(id, _)| *id)
    }

    /// Computes one row: reads what lies before it through the blocks, writes its own positions, draws.
    fn forward(&mut self, plan: &Plan, index: usize) -> Outcome {
        let row = &plan.rows[index];
        let client = self.clients.get_mut(&row.id).expect("rows are of living sequences");
        let (start, end) = (row.start as usize, row.start as usize + row.tokens.len());
        for (place, block) in row.blocks.iter().enumerate() {
            let first = place * BLOCK_TOKENS as usize;
            let computed = start.clamp(first, first + BLOCK_TOKENS as usize);
            let last = end.min(first + BLOCK_TOKENS as usize);
            let cache = &mut self.cache[block.0 as usize];
            let own = &client.histories[first..computed];
            assert_eq!(cache[..computed - first], *own, "block {place} of {:?} holds its own history", row.id);
            if computed < last {
                cache[computed - first..last - first].copy_from_slice(&client.histories[computed..last]);
            }
        }
        let history = client.histories[end - 1];
        let token = row.sample.then(|| draw(history));
        if let Some(token) = token {
            client.tokens.push(token);
            client.histories.push(digest(history, token));
        }
        let finished = token.is_some() && (client.tokens.len() > client.tokens_max || history.is_multiple_of(61));
        if finished {
            let client = self.clients.remove(&row.id).expect("it was just here");
            assert_eq!(client.tokens, undisturbed(&client), "the answer does not depend on the traffic");
            self.finished += 1;
        }
        Outcome { id: row.id, token, finished }
    }

    fn check_plan(&mut self, plan: &Plan) {
        let (mut prompt_tokens, mut tokens) = (0, 0);
        let mut writers: HashMap<BlockId, SequenceId> = HashMap::new();
        for row in &plan.rows {
            let client = self.clients.get_mut(&row.id).expect("rows are of living sequences");
            let end = row.start as usize + row.tokens.len();
            assert_eq!(row.tokens, client.tokens[row.start as usize..end], "a row computes its own tokens");
            assert_eq!(row.blocks.len() as u32, blocks_for(end as u32), "blocks cover the positions");
            assert_eq!(row.sample, end == client.tokens.len(), "a sample is wanted at the end");
            assert!(!row.tokens.is_empty(), "a row computes something");
            assert!(end <= client.tokens_max, "no position beyond the most");
            for place in row.start / BLOCK_TOKENS..blocks_for(end as u32) {
                let other = writers.insert(row.blocks[place as usize], row.id);
                assert_eq!(other, None, "one row writes a block");
            }
            tokens += row.tokens.len() as u32;
            prompt_tokens += if row.tokens.len() > 1 { row.tokens.len() as u32 } else { 0 };
            client.steps_waited = 0;
        }
        assert!(tokens <= self.limits.step_tokens_max && prompt_tokens <= self.limits.prefill_tokens_max);
        assert!(plan.rows.len() as u32 <= self.limits.sequences_max);
        assert_eq!(plan.rows.is_empty(), self.scheduler.is_idle(), "there are rows while there is work");
        let bound = 300 * ARRIVALS_MAX as u32;
        for (id, client) in &mut self.clients {
            client.steps_waited += 1;
            assert!(client.steps_waited < bound, "{id:?} starves");
        }
    }

    fn check_state(&self) {
        let mut holders = vec![0; self.limits.blocks as usize];
        for sequence in &self.scheduler.running {
            assert!(sequence.computed.div_ceil(BLOCK_TOKENS) <= sequence.blocks.len() as u32, "computed is held");
            for block in &sequence.blocks {
                holders[block.0 as usize] += 1;
            }
        }
        assert!(self.scheduler.waiting.values().all(|sequence| sequence.blocks.is_empty()), "waiting hold nothing");
        assert!(self.scheduler.running.is_sorted_by_key(|sequence| sequence.rank));
        assert_eq!(self.scheduler.ranks.len(), self.clients.len(), "finished sequences are gone");
        self.scheduler.pool.check(&holders);
    }
}

fn histories(tokens: &[TokenId]) -> Vec<u64> {
    let next = |history: &mut u64, token: &TokenId| {
        *history = digest(*history, *token);
        Some(*history)
    };
    tokens.iter().scan(0, next).collect()
}

/// The answer a client would have got alone.
fn undisturbed(client: &Client) -> Vec<TokenId> {
    let mut tokens = client.tokens[..client.prompt].to_vec();
    let mut history = tokens.iter().fold(0, |history, token| digest(history, *token));
    while tokens.len() < client.tokens.len() {
        tokens.push(draw(history));
        history = digest(history, tokens[tokens.len() - 1]);
    }
    tokens
}

/// Prints the seed if the simulation panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation failed with seed {}", self.0);
        }
    }
}

/// Returns preemptions, positions reused and sequences finished.
fn run(seed: u64) -> (u64, u64, u64) {
    let _seed = Seed(seed);
    let mut simulation = Simulation::new(seed);
    while simulation.arrived < ARRIVALS_MAX || !simulation.clients.is_empty() {
        simulation.now_ms += simulation.random.below(3_000);
        let burst = if simulation.random.chance(20) { simulation.random.below(5) } else { 0 };
        for _ in 0..burst.min(ARRIVALS_MAX - simulation.arrived) {
            simulation.arrive();
        }
        if simulation.random.chance(2) {
            simulation.cancel();
        }
        simulation.step();
    }
    assert_eq!(simulation.scheduler.stats().blocks_used, 0, "nothing is held when all is done");
    assert!(simulation.scheduler.plan().rows.is_empty());
    (simulation.scheduler.stats().preemptions, simulation.reused, simulation.finished)
}

#[test]
fn random_traffic_keeps_every_invariant() {
    let (mut preemptions, mut reused, mut finished) = (0, 0, 0);
    for seed in 0..SEEDS {
        let (p, r, f) = run(seed);
        (preemptions, reused, finished) = (preemptions + p, reused + r, finished + f);
    }
    // The traffic must reach the states that it is meant to try.
    assert!(preemptions > SEEDS && reused > SEEDS * 32 && finished > SEEDS * 8, "{preemptions} {reused} {finished}");
}
