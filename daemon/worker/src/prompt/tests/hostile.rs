//! What strangers' files and long prompts do to the threads that read prompts.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use pipe::{Answer, Ask, AskId, FromWorker, PipeError, Question, WorkId};
use protocol::generation::GenerateRequest;
use protocol::text::{Special, TokenizeRequest};
use protocol::transcript::Event;

use super::{Folder, RENDER_LIMITS, Window, request, submission};
use crate::emit::Emitter;
use crate::generation::Ticket;
use crate::inbox::Message;
use crate::lookout::{Lookout, READING_MAX};
use crate::prompt::{Job, LONG_BYTES, Prompt, Prompter, THREADS};
use crate::tests::kit::{self, chat};

/// The threads that read prompts, and what they are told and say.
struct Reading {
    jobs: SyncSender<Job>,
    inbox: Receiver<Message>,
    output: std::io::PipeReader,
    wanted: Arc<()>,
}

impl Reading {
    /// Of a model with a long context, of which no text may be read for longer than `most`.
    fn start(folder: &Folder, most: Duration) -> Self {
        let facts = crate::facts::facts(folder.path()).unwrap();
        let window = Window { context: 1 << 24, capacity: 1 << 24 };
        let prompter = Prompter::open(folder.renderer(RENDER_LIMITS), "tiny", &facts, window).unwrap();
        let (output, to_daemon) = std::io::pipe().unwrap();
        let (emitter, _) = Emitter::start(to_daemon).unwrap();
        let (sender, inbox) = sync_channel(64);
        let (jobs, to_do) = sync_channel(64);
        let lookout = Lookout::start(most, emitter.clone(), sender.clone()).unwrap();
        let first = prompter.rendering().unwrap();
        prompter.start(first, to_do, &sender, &emitter, &lookout).unwrap();
        Self { jobs, inbox, output, wanted: Arc::default() }
    }

    /// Asks for the prompt of a request.
    fn prepare(&self, id: u64, asked: GenerateRequest) {
        let (submit, wanted) = (Box::new(submission(id, asked)), Arc::downgrade(&self.wanted));
        self.jobs.send(Job::Prepare { ticket: Ticket(id), submit, arrived: Instant::now(), wanted }).unwrap();
    }

    /// Asks for the tokens of a text.
    fn tokenize(&self, id: u64, text: String) {
        let question = Question::Tokenize(TokenizeRequest {
            model: None,
            prompt: Prompt::Text(text),
            special: Special::Plain,
            pieces: false,
        });
        self.jobs.send(Job::Ask(Ask { id: AskId(id), question, received_unix_ms: 0 })).unwrap();
    }

    fn said(&mut self) -> Result<FromWorker, PipeError> {
        pipe::read(&mut self.output)
    }
}

/// A model whose tokenizer looks at the whole rest of a text for each of its letters.
fn endless() -> Folder {
    let folder = Folder::new("endless", |recipe| recipe);
    kit::look_far(folder.path());
    folder
}

/// Takes a second here, and would take hours if it were a hundred times as long.
fn letters() -> String {
    "a".repeat(50_000)
}

#[test]
fn a_text_that_does_not_become_tokens_costs_its_question_and_the_heartbeat_hears_of_it() {
    let folder = endless();
    let mut reading = Reading::start(&folder, Duration::from_millis(1));
    reading.tokenize(5, letters());
    let FromWorker::Answer(AskId(5), Err(error)) = reading.said().unwrap() else { panic!("a refusal was waited for") };
    assert!(error.message.contains("tokenizer did not come to an end"), "{error:?}");
    assert!(matches!(reading.inbox.recv().unwrap(), Message::Endless));
}

#[test]
fn a_prompt_that_does_not_become_tokens_costs_its_request() {
    let folder = endless();
    let mut reading = Reading::start(&folder, Duration::from_millis(1));
    reading.prepare(9, request(&letters(), 5));
    let FromWorker::Event(refused) = reading.said().unwrap() else { panic!("a refusal was waited for") };
    assert!(refused.id == WorkId(9) && matches!(refused.event, Event::Failed(_)), "{refused:?}");
}

#[test]
fn what_is_long_is_so_in_whatever_it_comes() {
    let ask = |prompt| {
        Job::Ask(Ask {
            id: AskId(1),
            question: Question::Tokenize(TokenizeRequest {
                model: None,
                prompt,
                special: Special::Plain,
                pieces: false,
            }),
            received_unix_ms: 0,
        })
    };
    let prepare = |prompt| {
        let submit = Box::new(submission(1, GenerateRequest { prompt, ..request("", 1) }));
        Job::Prepare { ticket: Ticket(1), submit, arrived: Instant::now(), wanted: Weak::new() }
    };
    for (bytes, long) in [(LONG_BYTES, false), (LONG_BYTES + 1, true)] {
        let text = "a".repeat(bytes);
        for prompt in [Prompt::Text(text.clone()), chat(&text, 1).prompt] {
            assert_eq!((ask(prompt.clone()).is_long(), prepare(prompt).is_long()), (long, long));
        }
    }
}

/// Computes for longer than a template may.
const SLOW: &str = "{%- for i in range(90000) -%}{%- set x = ('x' * 1000000).upper() -%}{%- endfor -%}";

#[test]
fn a_short_prompt_does_not_wait_until_long_ones_were_read() {
    let folder = Folder::new("passed", |recipe| recipe).with_template(SLOW);
    let mut reading = Reading::start(&folder, READING_MAX);
    let long = chat(&"a".repeat(LONG_BYTES + 1), 1);
    for id in 0..THREADS as u64 {
        reading.prepare(id, long.clone());
    }
    reading.tokenize(9, "short".to_string());
    let FromWorker::Answer(AskId(9), Ok(Answer::Tokens(_))) = reading.said().unwrap() else { panic!("no tokens") };
    assert!(reading.inbox.try_recv().is_err(), "the short one came first");
}
