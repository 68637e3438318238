//! One short chat after another beside a prompt that takes long to read: how long each waits for its first token, counted
//! in what the steps cost, as a clock would differ from run to run.

use super::*;

/// Attending to so many positions costs as much as the rest of a token.
const CONTEXT: u64 = 1_600;
/// What a step may cost, in tokens at an empty context.
const BUDGET: u32 = 88;
const LONG: u32 = 30_000;
const CHATS: u64 = 100;
const READER: ClientId = ClientId(1);
const CHATTER: ClientId = ClientId(2);

struct Machine {
    scheduler: Scheduler,
    /// What all steps have cost, and what those of the long prompt have.
    cost: u64,
    reading: u64,
}

impl Machine {
    fn new() -> Self {
        let limits = Limits {
            blocks: 2_000,
            sequences_max: 16,
            waiting_max: 16,
            step_tokens_max: 528,
            prefill_tokens_max: 512,
            context_tokens: CONTEXT as u32,
            states: 0,
            report_evicted: false,
            judged_max: 1,
        };
        Self { scheduler: Scheduler::new(limits), cost: 0, reading: 0 }
    }

    /// A prompt that nobody else has.
    fn submit(&mut self, id: u64, client: ClientId, prompt: u32, answer: u32) {
        let tokens = (0..prompt).map(|at| id as TokenId * 40_000 + at).collect();
        let (id, priority) = (SequenceId(id), Priority::Normal);
        let arrival = Arrival {
            id,
            tokens,
            tokens_max: prompt + answer,
            priority,
            client,
            salt: Salt(0),
            twin: None,
            now_ms: 0,
            judge_from: None,
        };
        self.scheduler.submit(arrival).expect("there is room");
    }

    /// Computes one step, in the middle of which `during` happens; says which sequences drew a token.
    fn step(&mut self, during: impl FnOnce(&mut Self)) -> Vec<SequenceId> {
        let plan = self.scheduler.plan(0, BUDGET);
        let mut outcomes = Vec::new();
        let before = self.cost;
        for row in &plan.rows {
            let tokens = row.tokens.len() as u64;
            let cost = (tokens * (CONTEXT + u64::from(row.start) + tokens / 2)).div_ceil(CONTEXT);
            self.cost += cost;
            self.reading += if row.id.0 == 0 { cost } else { 0 };
            let finished = row.id.0 == 0 && row.samples > 0;
            outcomes.push(Outcome { id: row.id, tokens: vec![9; row.samples as usize], finished });
        }
        let after = std::mem::replace(&mut self.cost, before);
        during(self);
        self.cost = after;
        self.scheduler.commit(&outcomes);
        outcomes.iter().filter(|outcome| !outcome.tokens.is_empty()).map(|outcome| outcome.id).collect()
    }

    /// What it costs until a chat has its first token, if it arrives when a step has just begun.
    fn chat(&mut self, id: u64, prompt: u32, answer: u32) -> u64 {
        let begun = self.cost;
        let submit = |machine: &mut Self| machine.submit(id, CHATTER, prompt, answer);
        if self.scheduler.is_idle() {
            submit(self)
        } else {
            drop(self.step(submit))
        }
        let mut first = None;
        for _ in 0..answer {
            while !self.step(|_| {}).contains(&SequenceId(id)) {}
            first.get_or_insert(self.cost - begun);
        }
        self.scheduler.cancel(SequenceId(id));
        first.expect("an answer has a token")
    }
}

#[test]
fn a_chat_beside_a_long_prompt_waits_for_the_step_that_it_comes_in_and_no_other() {
    for (prompt, answer) in [(100, 1), (100, 2), (100, 40), (20, 2), (70, 9), (128, 3)] {
        let alone = Machine::new().chat(1, prompt, answer);
        let mut machine = Machine::new();
        machine.submit(0, READER, LONG, 1);
        for chat in 1..=CHATS {
            if machine.scheduler.tokens(SequenceId(0)).is_none() {
                break;
            }
            let took = machine.chat(chat, prompt, answer);
            let most = alone + u64::from(BUDGET) + 40;
            assert!(took <= most, "chat {chat} of {prompt} and {answer} tokens took {took}, alone {alone}");
        }
        let (cost, reading) = (machine.cost, machine.reading);
        assert!(reading * 3 > cost, "the long prompt goes on: {reading} of {cost} for chats of {prompt}");
    }
}
