//! Seeded random traffic against the scheduler, with every invariant checked after every step.
//!
//! A fake model writes into each block the history of tokens that a real one would attend to, so a wrongly shared,
//! stale or half-filled block is seen at once, whether it was computed, copied, drafted or brought back from a fake disk.
//! A failure prints its seed; `run(seed, arrivals)` repeats it.

mod chat;
mod disk;
mod fair;
mod runs;

use std::collections::{BTreeMap, HashMap};

use crate::clients::{CREDIT_STEPS, Head};
use crate::{
    Arrival, BLOCK_TOKENS, BlockCopy, BlockId, ClientId, Held, Kept, Limits, Newcomer, Outcome, Plan, Priority,
    Refusal, Row, RowState, Salt, Scheduler, SequenceId, TokenId, blocks_for,
};

/// The most blocks on the fake disk.
const DISK_MAX: usize = 512;
/// The most plans without a row that a sequence may see: far more than any saw.
const PLANS_WAITED_MAX: u32 = 2_000;

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

/// The token that a choice of a deterministic model draws after a history.
fn draw(history: u64, choice: u64) -> TokenId {
    (mix(history ^ choice) % 5) as TokenId
}

/// A sequence as its owner sees it.
struct Asked {
    salt: Salt,
    tokens: Vec<TokenId>,
    /// By position: the digest of the salt and of the tokens up to it.
    histories: Vec<u64>,
    prompt: usize,
    /// The next position whose logits are wanted to judge the prompt.
    judge: Option<usize>,
    tokens_max: usize,
    choice: u64,
    plans_waited: u32,
}

impl Asked {
    fn push(&mut self, token: TokenId) {
        self.histories.push(digest(self.histories.last().copied().unwrap_or(self.salt.0), token));
        self.tokens.push(token);
    }

    /// Whether the answer ends with the token drawn after `history`.
    fn ends(&self, history: u64) -> bool {
        self.tokens.len() > self.tokens_max || history.is_multiple_of(61)
    }
}

/// What the traffic came to.
#[derive(Debug, Default)]
struct Tally {
    steps: u64,
    preemptions: u64,
    reused: u64,
    finished: u64,
    forked: u64,
    copied: u64,
    accepted: u64,
    rejected: u64,
    restored: u64,
    restored_states: u64,
    set_aside: u64,
    ahead: u64,
    judged: u64,
    left: u64,
    waited_most: u32,
    lasted_ms: u64,
}

struct Simulation {
    random: Random,
    limits: Limits,
    scheduler: Scheduler,
    asked: BTreeMap<SequenceId, Asked>,
    cache: Vec<[u64; BLOCK_TOKENS as usize]>,
    /// By recurrent state: the digest of the tokens that it has seen.
    states: Vec<u64>,
    /// What was evicted, by its salt and all tokens up to its end.
    disk: BTreeMap<(Salt, Vec<TokenId>), [u64; BLOCK_TOKENS as usize]>,
    /// The same of recurrent states.
    disk_states: BTreeMap<(Salt, Vec<TokenId>), u64>,
    /// Preempted sequences that are to be brought back from there.
    aside: Vec<SequenceId>,
    arrived: u64,
    now_ms: u64,
    tally: Tally,
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
            context_tokens: 1 + random.below(400) as u32,
            states: if random.chance(50) { 2 * sequences_max + random.below(8) as u32 } else { 0 },
            report_evicted: random.chance(80),
            judged_max: 1 + random.below(40) as u32,
        };
        Self {
            random,
            limits,
            scheduler: Scheduler::new(limits),
            asked: BTreeMap::new(),
            cache: vec![[0; BLOCK_TOKENS as usize]; limits.blocks as usize],
            states: vec![0; limits.states as usize],
            disk: BTreeMap::new(),
            disk_states: BTreeMap::new(),
            aside: Vec::new(),
            arrived: 0,
            now_ms: 0,
            tally: Tally::default(),
        }
    }

    /// Prompts come from few families, so that prefixes are shared, diverge and return, for two salts; some have several
    /// choices.
    fn arrive(&mut self) {
        let family = self.random.below(3) as TokenId;
        let salt = Salt(self.random.below(2));
        let length = 1 + self.random.below(150) as usize;
        let shared = self.random.below(length as u64 + 1) as usize;
        let mut tokens: Vec<TokenId> = (0..length as TokenId).map(|i| i * 7 % 11 + family).collect();
        for token in &mut tokens[shared..] {
            *token = self.random.below(3) as TokenId;
        }
        if self.random.chance(40) && !self.disk.is_empty() {
            let pick = self.random.below(self.disk.len() as u64) as usize;
            let (_, stored) = self.disk.keys().nth(pick).cloned().unwrap_or_default();
            tokens.splice(..stored.len().min(tokens.len()), stored);
            self.restore(salt, &tokens);
        }
        let length = tokens.len();
        let arrival = Arrival {
            id: SequenceId(0),
            tokens_max: (length + self.random.below(120) as usize) as u32,
            tokens,
            priority: Priority::ALL[self.random.below(3) as usize],
            client: ClientId(self.random.below(4)),
            salt,
            twin: None,
            judge_from: None,
            now_ms: self.now_ms,
        };
        let choices = if self.random.chance(25) { 2 + self.random.below(4) } else { 1 };
        let first = SequenceId(self.arrived);
        let judge_from = self.random.chance(25).then(|| self.random.below(length as u64 + 4) as u32);
        for choice in 0..choices {
            let id = SequenceId(self.arrived);
            self.arrived += 1;
            let (twin, judge_from) = if choice > 0 { (Some(first), None) } else { (None, judge_from) };
            self.submit(Arrival { id, twin, judge_from, ..arrival.clone() }, choice);
        }
    }

    fn submit(&mut self, arrival: Arrival, choice: u64) {
        let (id, salt, tokens, tokens_max) = (arrival.id, arrival.salt, arrival.tokens.clone(), arrival.tokens_max);
        let judge = arrival.judge_from.map(|from| (from as usize).min(tokens.len() - 1));
        let (blocks, living) = (blocks_for(tokens_max), self.asked.len() as u32);
        match self.scheduler.submit(arrival) {
            Ok(()) => {
                let (histories, prompt) = (histories(salt, &tokens), tokens.len());
                let tokens_max = tokens_max as usize;
                let asked = Asked { salt, tokens, histories, prompt, judge, tokens_max, choice, plans_waited: 0 };
                self.asked.insert(id, asked);
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
        let pick = self.random.below(self.asked.len().max(1) as u64) as usize;
        let Some(id) = self.asked.keys().nth(pick).copied() else { return };
        self.asked.remove(&id);
        self.aside.retain(|aside| *aside != id);
        assert!(self.scheduler.cancel(id), "a living sequence can be cancelled");
        assert!(!self.scheduler.cancel(id), "a cancelled sequence is gone");
    }

    /// Drafts are sometimes right, sometimes wrong and sometimes too long.
    fn draft(&mut self) {
        for (id, asked) in &self.asked {
            if !self.random.chance(40) {
                continue;
            }
            let (mut history, mut draft) = (asked.histories.last().copied().unwrap_or(0), Vec::new());
            for _ in 0..1 + self.random.below(6) {
                let token = if self.random.chance(80) { draw(history, asked.choice) } else { 6 };
                history = digest(history, token);
                draft.push(token);
            }
            if let Some(ahead) = self.scheduler.ahead(*id, draft.len() as u32) {
                assert_eq!(ahead.tokens, asked.tokens, "what is guessed from is what was drawn");
                let end = ahead.tokens.len() + ahead.room as usize;
                assert!(end <= asked.tokens_max && end <= ahead.blocks.len() * BLOCK_TOKENS as usize, "there is room");
                self.tally.ahead += 1;
            }
            self.scheduler.draft(*id, &draft);
        }
    }

    fn step(&mut self) {
        self.draft();
        self.recall();
        let budget = self.random.below(u64::from(self.limits.prefill_tokens_max) + 8) as u32;
        let plan = self.scheduler.plan(self.now_ms, budget);
        self.save_evicted();
        for BlockCopy { from, to, positions } in &plan.copies {
            self.cache[to.0 as usize] = self.cache[from.0 as usize];
            self.cache[to.0 as usize][*positions as usize..].fill(0);
        }
        self.tally.copied += plan.copies.len() as u64;
        self.check_plan(&plan);
        self.check_state();
        self.check_turns();
        if self.random.chance(50) && self.leave(&plan) {
            return;
        }
        let outcomes: Vec<Outcome> = plan.rows.iter().flat_map(|row| self.forward(row)).collect();
        for id in outcomes.iter().filter(|outcome| outcome.finished).map(|outcome| outcome.id) {
            self.tally.reused += u64::from(self.scheduler.cached_tokens(id));
        }
        self.scheduler.commit(&outcomes);
        self.check_state();
        self.tally.steps += 1;
    }

    /// Leaves a plan for some newcomer, if it gives way; what it was to write is spoilt.
    fn leave(&mut self, plan: &Plan) -> bool {
        let (client, priority) = (ClientId(self.random.below(4)), Priority::ALL[self.random.below(3) as usize]);
        let pending = 1 + self.random.below(40) as u32;
        let newcomer = Newcomer { client, priority, tokens: pending + self.random.below(100) as u32, pending };
        if !self.scheduler.gives_way(plan, &newcomer) {
            return false;
        }
        for row in &plan.rows {
            for at in row.start..row.start + row.tokens.len() as u32 {
                let block = row.blocks[(at / BLOCK_TOKENS) as usize];
                self.cache[block.0 as usize][(at % BLOCK_TOKENS) as usize] = u64::MAX;
            }
            row.state.iter().for_each(|state| self.states[state.to.0 as usize] = u64::MAX);
        }
        self.scheduler.leave();
        self.tally.left += 1;
        true
    }

    /// Computes one row: reads what lies before it through the blocks, writes its own positions, draws for its
    /// sequence and its forks.
    fn forward(&mut self, row: &Row) -> Vec<Outcome> {
        let asked = self.asked.get_mut(&row.id).expect("rows are of living sequences");
        asked.plans_waited = 0;
        let (start, end) = (row.start as usize, row.start as usize + row.tokens.len());
        let mut computed = asked.histories[..start].to_vec();
        for token in &row.tokens {
            computed.push(digest(computed.last().copied().unwrap_or(asked.salt.0), *token));
        }
        for (place, block) in row.blocks.iter().enumerate() {
            let first = place * BLOCK_TOKENS as usize;
            let before = start.clamp(first, first + BLOCK_TOKENS as usize);
            let last = end.min(first + BLOCK_TOKENS as usize);
            let cache = &mut self.cache[block.0 as usize];
            let own = &computed[first..before];
            assert_eq!(cache[..before - first], *own, "block {place} of {:?} holds its own history", row.id);
            if before < last {
                cache[before - first..last - first].copy_from_slice(&computed[before..last]);
            }
        }
        if let Some(RowState { from, to }) = row.state {
            let seen = from.map_or(0, |from| self.states[from.0 as usize]);
            let own = start.checked_sub(1).map_or(0, |last| computed[last]);
            assert_eq!((from.is_some(), seen), (start > 0, own), "{:?} goes on from its own state", row.id);
            self.states[to.0 as usize] = computed[end - 1];
        }
        self.judge(row);
        if row.samples == 0 {
            return vec![Outcome { id: row.id, tokens: Vec::new(), finished: false }];
        }
        let first = row.tokens.len() - row.samples as usize;
        let logits: Vec<(u64, Option<TokenId>)> =
            (first..row.tokens.len()).map(|at| (computed[start + at], row.tokens.get(at + 1).copied())).collect();
        let mut outcomes = vec![self.answer(row.id, &logits)];
        self.tally.forked += row.forks.len() as u64;
        outcomes.extend(row.forks.iter().map(|fork| self.answer(*fork, &logits)));
        outcomes
    }

    /// Sees the logits of a prompt's positions: each once, in order, and all before the first token is drawn.
    fn judge(&mut self, row: &Row) {
        let asked = self.asked.get_mut(&row.id).expect("rows are of living sequences");
        let end = row.start as usize + row.tokens.len() - row.samples as usize;
        if row.judged > 0 {
            assert_eq!(asked.judge, Some(end - row.judged as usize), "{:?} is judged without a gap", row.id);
            asked.judge = Some(end);
        }
        let due = asked.judge.is_none_or(|next| next == asked.prompt - 1);
        assert!(row.samples == 0 || due, "{:?} is judged before it goes on", row.id);
        self.tally.judged += u64::from(row.judged);
    }

    /// Draws as long as the draft is right.
    fn answer(&mut self, id: SequenceId, logits: &[(u64, Option<TokenId>)]) -> Outcome {
        let asked = self.asked.get_mut(&id).expect("rows are of living sequences");
        asked.plans_waited = 0;
        let (mut tokens, mut finished) = (Vec::new(), false);
        for (history, drafted) in logits {
            let token = draw(*history, asked.choice);
            asked.push(token);
            tokens.push(token);
            finished = asked.ends(*history);
            if finished || Some(token) != *drafted {
                break;
            }
        }
        self.tally.accepted += tokens.len() as u64 - 1;
        self.tally.rejected += (logits.len() - tokens.len()) as u64;
        if finished {
            let asked = self.asked.remove(&id).expect("it was just here");
            assert_eq!(asked.tokens, undisturbed(&asked), "the answer does not depend on the traffic");
            self.tally.finished += 1;
        }
        Outcome { id, tokens, finished }
    }

    fn check_plan(&mut self, plan: &Plan) {
        let (mut prompt_tokens, mut tokens) = (0, 0);
        let mut writers: HashMap<BlockId, SequenceId> = HashMap::new();
        for row in &plan.rows {
            self.check_row_state(plan, row);
            let asked = &self.asked[&row.id];
            let end = row.start as usize + row.tokens.len();
            let own = end.min(asked.tokens.len());
            assert_eq!(row.tokens[..own - row.start as usize], asked.tokens[row.start as usize..own], "its own tokens");
            assert_eq!(row.blocks.len() as u32, blocks_for(end as u32), "blocks cover the positions");
            let samples = if own == asked.tokens.len() { 1 + (end - own) as u32 } else { 0 };
            assert_eq!(row.samples, samples, "samples are wanted at the end, and of the whole draft");
            assert!(own > row.start as usize, "a row computes something of its own");
            assert!(end <= asked.tokens_max, "no position beyond the most");
            for place in row.start / BLOCK_TOKENS..blocks_for(end as u32) {
                let block = row.blocks[place as usize];
                assert_eq!(writers.insert(block, row.id), None, "one row writes a block");
                assert_eq!(self.scheduler.pool.holders(block), 1, "a shared block is not written");
            }
            let index = self.scheduler.running_index(row.id).expect("rows are of running sequences");
            let (decodes, again) = (self.scheduler.running[index].decodes(), self.scheduler.running[index].again);
            tokens += row.tokens.len() as u32 - again;
            prompt_tokens += if decodes { 0 } else { row.tokens.len() as u32 };
        }
        assert!(tokens <= self.limits.step_tokens_max && prompt_tokens <= self.limits.prefill_tokens_max);
        assert!(plan.rows.len() as u32 <= self.limits.sequences_max);
        assert!(plan.rows.iter().map(|row| row.judged).sum::<u32>() <= self.limits.judged_max, "few logits at once");
        assert_eq!(plan.rows.is_empty(), self.scheduler.is_idle(), "there are rows while there is work");
        for (id, asked) in &mut self.asked {
            asked.plans_waited += 1;
            self.tally.waited_most = self.tally.waited_most.max(asked.plans_waited);
            assert!(asked.plans_waited < PLANS_WAITED_MAX, "{id:?} starves");
        }
    }

    /// A state is written by one row, and a row with guesses leaves the one before them.
    fn check_row_state(&self, plan: &Plan, row: &Row) {
        let Some(RowState { from, to }) = row.state else { return assert_eq!(self.limits.states, 0) };
        let others = plan.rows.iter().filter(|other| other.id != row.id).filter_map(|other| other.state);
        assert!(others.into_iter().all(|other| other.to != to && other.from != Some(to)), "a state is written alone");
        assert!(from != Some(to) || row.samples < 2, "guesses leave the state before them");
        assert!(self.scheduler.pool.states.is_own(to), "nobody else needs what is written");
    }

    fn check_state(&self) {
        let mut holders = vec![0; self.limits.blocks as usize];
        let mut states = vec![0; self.limits.states as usize];
        let mut running: BTreeMap<ClientId, u32> = BTreeMap::new();
        for sequence in &self.scheduler.running {
            assert!(blocks_for(sequence.computed) <= sequence.blocks.len() as u32, "what is computed is held");
            *running.entry(sequence.client).or_default() += 1;
            for block in &sequence.blocks {
                holders[block.0 as usize] += 1;
            }
            let next = sequence.next_state.filter(|next| Some(*next) != sequence.state);
            sequence.state.iter().chain(&next).for_each(|state| states[state.0 as usize] += 1);
        }
        assert!(
            self.scheduler.clients.all_waiting().all(|sequence| sequence.blocks.is_empty()),
            "waiting hold nothing"
        );
        assert!(self.scheduler.running.is_sorted_by_key(|sequence| sequence.standing()));
        assert_eq!(self.scheduler.places.len(), self.asked.len(), "finished sequences are gone");
        self.scheduler.clients.check(&running);
        self.scheduler.pool.check(&holders);
        self.scheduler.pool.states.check(&states);
    }

    /// Nobody is kept waiting by a single sequence that should give way.
    fn check_turns(&self) {
        let scheduler = &self.scheduler;
        let heads = scheduler.clients.heads(self.now_ms, |sequence| scheduler.is_eligible(sequence));
        let running = |client| scheduler.running.iter().filter(|sequence| sequence.client == client).count();
        for (place, head) in heads.iter().enumerate() {
            for (index, victim) in scheduler.running.iter().enumerate() {
                let above = place == 0 && head.level > victim.level;
                let youngest = scheduler.running[index + 1..].iter().all(|other| other.client != victim.client);
                let several = running(victim.client) > 1 && youngest;
                let ahead = head.service > scheduler.clients.service(victim.client) + CREDIT_STEPS;
                let turn = head.running == 0 && several && victim.priority <= head.priority && !ahead;
                assert!(
                    !(above || turn) || !self.would_fit(head, &victim.blocks),
                    "{head:?} waits for {:?}",
                    victim.id
                );
            }
        }
    }

    fn would_fit(&self, head: &Head, given: &[BlockId]) -> bool {
        let scheduler = &self.scheduler;
        let waiting = scheduler.clients.waiting_at(head.client, head.priority, head.order).expect("a head waits");
        let released = given.iter().filter(|block| scheduler.pool.holders(**block) == 1).count() as u32;
        let left = scheduler.running.len() as u32 - 1;
        waiting.blocks_needed() + left <= scheduler.pool.available() + released
    }
}

fn histories(salt: Salt, tokens: &[TokenId]) -> Vec<u64> {
    let next = |history: &mut u64, token: &TokenId| {
        *history = digest(*history, *token);
        Some(*history)
    };
    tokens.iter().scan(salt.0, next).collect()
}

/// The answer a sequence would have got alone.
fn undisturbed(asked: &Asked) -> Vec<TokenId> {
    let mut tokens = asked.tokens[..asked.prompt].to_vec();
    let mut history = tokens.iter().fold(asked.salt.0, |history, token| digest(history, *token));
    while tokens.len() < asked.tokens.len() {
        tokens.push(draw(history, asked.choice));
        history = digest(history, tokens[tokens.len() - 1]);
    }
    tokens
}
