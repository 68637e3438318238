//! Notices where reading a text does not come to an end, refuses what was asked, and has the worker end.
//!
//! A tokenizer is a stranger's file. The regular expressions in it may take hours over one text, and nothing breaks them
//! off but the end of their process. So every thread that reads texts says what for; what is overdue costs its own request
//! and this worker, and the daemon goes on in another with everything else that was unfinished.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use pipe::{AskId, FromWorker, WorkId};
use protocol::{Error, ErrorKind};

use crate::emit::{Deaf, Emitter};
use crate::inbox::Message;

/// How long the texts of one request may take to become tokens, its template and its shape included, whose own limits are
/// far below. The longest texts take seconds, where other work holds all cores some more.
pub const READING_MAX: Duration = Duration::from_secs(120);

/// What a text is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// A request.
    Work(WorkId),
    /// A question.
    Ask(AskId),
}

/// What is being read; clones look at the same, and with the last of them the looking ends.
#[derive(Clone)]
pub struct Lookout(Arc<Held>);

struct Held(Arc<Shared>);

struct Shared {
    readings: Mutex<Readings>,
    changed: Condvar,
}

/// Since when each text is read, in that order.
#[derive(Default)]
struct Readings {
    begun: u64,
    going_on: BTreeMap<u64, (Instant, For)>,
    /// Nobody reads any more.
    over: bool,
}

/// A text that is being read; dropping it says that it was.
struct Reading<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Lookout {
    /// Starts to look; what takes longer than `most` is refused through `emitter`, and the heartbeat told through `inbox`.
    pub fn start(most: Duration, emitter: Emitter, inbox: SyncSender<Message>) -> io::Result<Self> {
        let shared = Arc::new(Shared { readings: Mutex::default(), changed: Condvar::new() });
        let looking = shared.clone();
        Builder::new().name("lookout".to_string()).spawn(move || {
            if let Some(what) = looking.overdue(most) {
                tracing::error!(?what, "a text does not become tokens; the worker ends");
                // Where nobody listens any more, the worker ends already.
                let _ = refuse(what, most, &emitter);
                let _ = inbox.send(Message::Endless);
            }
        })?;
        Ok(Self(Arc::new(Held(shared))))
    }

    /// Reads, while it is looked at how long that takes.
    pub fn watch<T>(&self, what: For, read: impl FnOnce() -> T) -> T {
        let shared = &self.0.0;
        let mut readings = shared.lock();
        readings.begun += 1;
        let number = readings.begun;
        let waited_for = !readings.going_on.is_empty();
        readings.going_on.insert(number, (Instant::now(), what));
        drop(readings);
        // Whoever waits for an older one looks again by itself.
        if !waited_for {
            shared.changed.notify_one();
        }
        let _reading = Reading { shared, number };
        read()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.changed.notify_one();
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.shared.lock().going_on.remove(&self.number);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Readings> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for what takes longer than `most`; none if nobody reads any more.
    fn overdue(&self, most: Duration) -> Option<For> {
        let mut readings = self.lock();
        loop {
            if readings.over {
                return None;
            }
            readings = match readings.going_on.first_key_value() {
                None => self.changed.wait(readings).unwrap_or_else(PoisonError::into_inner),
                Some((_, (begun, what))) => match most.checked_sub(begun.elapsed()) {
                    None => return Some(*what),
                    Some(left) => self.changed.wait_timeout(readings, left).unwrap_or_else(PoisonError::into_inner).0,
                },
            };
        }
    }
}

fn refuse(what: For, most: Duration, emitter: &Emitter) -> Result<(), Deaf> {
    let message = format!("the model's tokenizer did not come to an end within {} s", most.as_secs_f32());
    let hint = "shorten the text; if that does not help, replace the model's tokenizer.json";
    let error = Error::new(ErrorKind::Invalid, message).hint(hint);
    match what {
        For::Work(work) => emitter.fail(work, error),
        For::Ask(ask) => emitter.send(FromWorker::Answer(ask, Err(error))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use protocol::transcript::Event;

    /// A lookout of so much patience, and what the daemon and the heartbeat hear of it.
    fn lookout(most: Duration) -> (Lookout, io::PipeReader, Receiver<Message>) {
        let (output, to_daemon) = io::pipe().unwrap();
        let (emitter, _) = Emitter::start(to_daemon).unwrap();
        let (sender, inbox) = sync_channel(1);
        (Lookout::start(most, emitter, sender).unwrap(), output, inbox)
    }

    #[test]
    fn what_does_not_come_to_an_end_is_refused_and_the_heartbeat_told() {
        let (lookout, mut output, inbox) = lookout(Duration::from_millis(50));
        let wait = || {
            let FromWorker::Event(refused) = pipe::read(&mut output).unwrap() else {
                panic!("an event was waited for")
            };
            let Event::Failed(error) = refused.event else { panic!("{refused:?}") };
            assert!(refused.id == WorkId(7) && error.message.contains("tokenizer"), "{error:?}");
            assert!(matches!(inbox.recv().unwrap(), Message::Endless));
        };
        // What was begun later is still in time.
        lookout.watch(For::Work(WorkId(7)), || lookout.watch(For::Ask(AskId(8)), wait));
    }

    #[test]
    fn what_was_read_in_time_is_forgotten_and_the_looking_ends_with_those_who_read() {
        let (lookout, mut output, inbox) = lookout(Duration::from_secs(3600));
        let other = lookout.clone();
        assert_eq!(lookout.watch(For::Ask(AskId(1)), || other.watch(For::Ask(AskId(2)), || 5)), 5);
        assert!(lookout.0.0.lock().going_on.is_empty());
        drop((lookout, other));
        assert!(inbox.recv().is_err(), "the thread has ended and said nothing");
        assert!(matches!(pipe::read::<FromWorker>(&mut output), Err(pipe::PipeError::Closed)));
    }
}
