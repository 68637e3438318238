//! Clients that are busy all the time with requests of every size: none gets ahead of another by more than a bound.
//!
//! What a client has had may differ from what another has had by the steps that let it take a place of another's, and by
//! what its running sequences still add, as nobody's work is broken off to make figures equal; and that may be computed
//! twice where a sequence is preempted.

use super::*;
use crate::DRAWN_TOKEN_COST;
use crate::clients::{CREDIT_STEPS, STEP};

const SEEDS: u64 = 60;
const PLANS: usize = 4_000;

/// A client's requests, each of up to so many tokens.
struct Habit {
    prompt: u64,
    answer: u64,
}

struct Crowd {
    random: Random,
    scheduler: Scheduler,
    habits: Vec<Habit>,
    /// By client: tokens computed, and drawn tokens at what they cost.
    served: Vec<u64>,
    /// Whose a sequence is, and how many tokens it may draw.
    asked: HashMap<SequenceId, (usize, u32)>,
    last: u64,
}

impl Crowd {
    fn new(seed: u64) -> (Self, u32) {
        let mut random = Random(seed);
        let sequences_max = 1 + random.below(8) as u32;
        let limits = Limits {
            blocks: 16 + random.below(80) as u32,
            sequences_max,
            waiting_max: 1_000,
            step_tokens_max: 128,
            prefill_tokens_max: 64,
            context_tokens: 1 << 20,
            states: 0,
            report_evicted: false,
            judged_max: 1,
        };
        let clients = 2 + random.below(4);
        let habits =
            (0..clients).map(|_| Habit { prompt: 1 + random.below(200), answer: 1 + random.below(60) }).collect();
        let served = vec![0; clients as usize];
        let scheduler = Scheduler::new(limits);
        (Self { random, scheduler, habits, served, asked: HashMap::new(), last: 0 }, sequences_max)
    }

    /// Sees to it that a client has four requests here, of a prompt that nobody else has.
    fn fill(&mut self, client: usize) {
        while self.asked.values().filter(|(of, _)| *of == client).count() < 4 + self.scheduler.running.len() {
            self.last += 1;
            let Habit { prompt, answer } = self.habits[client];
            let (prompt, answer) = (1 + self.random.below(prompt) as u32, 1 + self.random.below(answer) as u32);
            let tokens = std::iter::once(1_000 + self.last as TokenId).chain(1..prompt).collect();
            let id = SequenceId(self.last);
            let arrival = Arrival {
                id,
                tokens,
                tokens_max: prompt + answer,
                priority: Priority::Normal,
                client: ClientId(client as u64),
                salt: Salt(0),
                twin: None,
                judge_from: None,
                now_ms: 0,
            };
            self.scheduler.submit(arrival).expect("there is room to wait");
            self.asked.insert(id, (client, answer));
        }
    }

    fn step(&mut self) {
        (0..self.habits.len()).for_each(|client| self.fill(client));
        let rows = self.scheduler.plan(0, 64).rows;
        let mut outcomes = Vec::with_capacity(rows.len());
        for row in rows {
            let (client, left) = self.asked.get_mut(&row.id).expect("rows are of living sequences");
            self.served[*client] += row.tokens.len() as u64 + u64::from(row.samples * DRAWN_TOKEN_COST);
            *left -= row.samples;
            let finished = *left == 0;
            if finished {
                self.asked.remove(&row.id);
            }
            outcomes.push(Outcome { id: row.id, tokens: vec![9; row.samples as usize], finished });
        }
        self.scheduler.commit(&outcomes);
    }
}

#[test]
fn busy_clients_stay_within_a_bound_of_one_another() {
    for seed in 0..SEEDS {
        let (mut crowd, sequences_max) = Crowd::new(seed);
        let habits = crowd.habits.iter();
        let request = habits.map(|habit| habit.prompt + habit.answer * (1 + u64::from(DRAWN_TOKEN_COST))).max();
        let bound = (1 + CREDIT_STEPS) * STEP + 2 * u64::from(sequences_max) * request.expect("there are clients");
        let mut ahead = 0;
        for _ in 0..PLANS {
            crowd.step();
            let (least, most) = (crowd.served.iter().min(), crowd.served.iter().max());
            ahead = ahead.max(most.unwrap_or(&0) - least.unwrap_or(&0));
        }
        let least = crowd.served.iter().min().copied().unwrap_or_default();
        assert!(ahead <= bound, "seed {seed}: one client is {ahead} ahead of another; the bound is {bound}");
        assert!(least > bound, "seed {seed}: the bound was tried, {least} is little");
    }
}
