//! Questions to the text side of a model: put to its worker, answered once, and lost with it.
//!
//! They take no place among the requests and wait for no step. A model that is not in memory is not brought there: the
//! caller is told its name, loads it and asks again, as it does when the worker dies before it answers.

use pipe::{Answer, Ask, AskId, Question, ToWorker};
use protocol::{Error, ErrorKind, Result};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::State;
use super::model::{Phase, Worker};
use crate::time::now_ms;

/// Questions that one worker may have before it; one more is refused as busy.
pub(super) const QUESTIONS_MAX: usize = 64;

/// What a question came to.
#[derive(Debug)]
pub enum Asked {
    /// An answer, or the worker's refusal, is on its way here; the sender is dropped when the worker dies.
    Put(String, oneshot::Receiver<Result<Answer>>),
    /// The model of this name is not in memory.
    Absent(String),
}

impl State {
    /// Puts a question to a model's worker.
    pub(super) fn put(&mut self, model: Option<&str>, question: Question, reply: oneshot::Sender<Result<Asked>>) {
        // A caller that is gone needs no answer.
        drop(reply.send(self.try_put(model, question)));
    }

    fn try_put(&mut self, model: Option<&str>, question: Question) -> Result<Asked> {
        let name = self.resolve(model)?.to_owned();
        if self.draining.is_some() {
            return Err(Error::new(ErrorKind::Closing, "the daemon is shutting down"));
        }
        self.known(&name)?;
        self.questions += 1;
        let id = AskId(self.questions);
        let Some(model) = self.models.get_mut(&name) else { return Ok(Asked::Absent(name)) };
        let Phase::Loaded(worker) = &mut model.phase else { return Ok(Asked::Absent(name)) };
        model.used = Instant::now();
        let answer = worker.ask(id, question)?;
        Ok(Asked::Put(name, answer))
    }

    /// Passes an answer on to whoever waits for it.
    pub(super) fn answered(&mut self, name: &str, id: AskId, answer: Result<Answer>) {
        let worker = self.models.get_mut(name).and_then(|model| model.worker_mut());
        if let Some(caller) = worker.and_then(|worker| worker.questions.remove(&id)) {
            // A caller that is gone needs no answer.
            drop(caller.send(answer));
        }
    }
}

impl Worker {
    /// Puts a question to it.
    fn ask(&mut self, id: AskId, question: Question) -> Result<oneshot::Receiver<Result<Answer>>> {
        let open = self.questions.len();
        if open >= QUESTIONS_MAX {
            let message =
                format!("{open} questions wait for this model's tokenizer already; the most is {QUESTIONS_MAX}");
            return Err(Error::new(ErrorKind::Busy, message).retry_after_ms(1_000));
        }
        let (caller, answer) = oneshot::channel();
        self.process.send(ToWorker::Ask(Ask { id, question, received_unix_ms: now_ms() }));
        self.questions.insert(id, caller);
        Ok(answer)
    }
}
