//! Splits a model's reasoning from its answer, where the model marks it with a pair of tags.
//!
//! Reasoning stands at the beginning: a tag that comes later is text. The prompt may have opened it already. White space
//! beside the tags is layout and belongs to neither part. A whole call at the end of reasoning that nothing closes is a
//! call: models forget the tag before it; one that more thoughts follow was only thought of. The output room's first stage.

use super::marker::{Found, Scanner};

/// The tags around a model's reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasoningTags {
    /// What begins it.
    pub open: &'static str,
    /// What ends it.
    pub close: &'static str,
    /// Where the prompt ends.
    pub place: Place,
}

/// Where in an answer its prompt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before all of it.
    Start,
    /// Where the reasoning begins.
    Opened,
    /// Inside of the reasoning, after some of it.
    Inside,
}

const FAMILIES: [(&str, &str); 7] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<thinking>", "</thinking>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    // Gemma 4: the mark is a token, and the channel's name is text.
    ("<|channel>thought", "<channel|>"),
    GRANITE,
];
/// Granite 3.2.
const GRANITE: (&str, &str) = ("Here is my thought process:", "Here is my response:");
/// What it says when it is quantized.
const SHORTER: (&str, &str) = ("Here's my thought process:", "Here's my response:");

impl ReasoningTags {
    /// What models write whose template says nothing of thoughts: Phi 4 mini reasoning, and what is tuned to think.
    pub const UNSAID: Self = Self { open: FAMILIES[0].0, close: FAMILIES[0].1, place: Place::Start };

    /// The tags that a chat template writes or removes, if it knows any; `prompt` is what it rendered.
    pub fn detect(template: &str, prompt: &str) -> Option<Self> {
        let (open, close) = FAMILIES.into_iter().find(|(_, close)| template.contains(close))?;
        let place = if prompt.trim_end().ends_with(open) { Place::Opened } else { Place::Start };
        Some(Self { open, close, place })
    }

    /// The same for an answer that goes on with `begun`; `None` if no more reasoning can come.
    pub fn after(self, begun: &str) -> Option<Self> {
        if begun.trim().is_empty() {
            return Some(self);
        }
        let (_, thought) = begun.rsplit_once(self.open)?;
        let place = if thought.trim().is_empty() { Place::Opened } else { Place::Inside };
        (!thought.contains(self.close)).then_some(Self { place, ..self })
    }

    /// Whether they are words, which a model may say in other ways.
    fn is_spelled(&self) -> bool {
        self.open == GRANITE.0
    }

    /// The special tokens that must be written out for the tags to be seen.
    pub fn shown(&self) -> [&'static str; 3] {
        [self.open, self.close, "<|channel>"]
    }
}

/// What stands around a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Around {
    pub open: &'static str,
    pub close: &'static str,
    /// What comes first between the two; nothing where that can be anything.
    pub first: &'static str,
}

/// Splits one text.
pub struct Splitter {
    tags: ReasoningTags,
    calls: Option<Around>,
    state: State,
    scanner: Scanner,
    /// White space whose side is not known yet.
    space: String,
    /// What may be calls in place of reasoning.
    held: String,
    /// How much of what comes first in a call was said.
    begun: usize,
    /// Whether any reasoning was said.
    thought: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Nothing but white space so far.
    Start,
    /// Inside the tags, nothing but white space so far.
    Opened,
    Inside,
    /// The same, in what may be a call.
    Call,
    /// The same, after what may be calls.
    AfterCall,
    /// After the closing tag, nothing but white space so far.
    Closed,
    Answer,
}

impl Splitter {
    /// Begins a text, in which calls may follow the reasoning.
    pub fn new(tags: ReasoningTags, calls: Option<Around>) -> Self {
        let state = match tags.place {
            Place::Start => State::Start,
            Place::Opened => State::Opened,
            Place::Inside => State::Inside,
        };
        let mut splitter = Self {
            tags,
            calls,
            state,
            scanner: Scanner::new([""]),
            space: String::new(),
            held: String::new(),
            begun: 0,
            thought: false,
        };
        splitter.go(state);
        splitter
    }

    fn go(&mut self, state: State) {
        let ReasoningTags { open, close, .. } = self.tags;
        let (open_also, close_also) = if self.tags.is_spelled() { SHORTER } else { ("", "") };
        let call = self.calls.map_or("", |calls| if state == State::Call { calls.close } else { calls.open });
        self.scanner = match state {
            State::Start | State::Closed => Scanner::new([open, open_also]),
            // Models say again what the prompt has opened.
            State::Opened => Scanner::new([close, call, open, close_also]),
            _ => Scanner::new([close, call, "", close_also]),
        };
        self.state = state;
    }

    /// Whether it is inside of the reasoning.
    pub fn is_inside(&self) -> bool {
        matches!(self.state, State::Opened | State::Inside | State::Call | State::AfterCall)
    }

    /// Whether what was said last may be a tag or a call as well as reasoning.
    pub fn is_unsure(&self) -> bool {
        matches!(self.state, State::Call | State::AfterCall) || self.is_inside() && self.scanner.is_holding()
    }

    /// Adds a character; reasoning goes into `reasoning`, and what belongs to the answer is returned.
    pub fn push(&mut self, letter: char, reasoning: &mut String) -> String {
        match self.state {
            State::Answer => letter.to_string(),
            State::Closed => self.push_closed(letter),
            State::Start => self.push_start(letter),
            State::Opened | State::Inside | State::Call | State::AfterCall => {
                self.push_inside(letter, reasoning);
                String::new()
            }
        }
    }

    /// Ends the text; reasoning that was never closed is reasoning all the same. What is held of a tag is one where the
    /// text was cut off while the reasoning was being closed.
    pub fn finish(&mut self, closing: bool, reasoning: &mut String) -> String {
        let held = self.scanner.finish();
        let held = if closing { String::new() } else { held };
        match self.state {
            State::Start => std::mem::take(&mut self.space) + &held,
            State::AfterCall if held.trim().is_empty() => std::mem::take(&mut self.held),
            State::Opened | State::Inside | State::Call | State::AfterCall => {
                self.give_back(&held, reasoning);
                String::new()
            }
            State::Closed => held.trim_start().to_string(),
            State::Answer => String::new(),
        }
    }

    /// Before any letter of the answer, reasoning may begin again.
    fn push_closed(&mut self, letter: char) -> String {
        match self.scanner.push(letter) {
            Found::Marker(..) => {
                if self.thought {
                    self.space.push('\n');
                }
                self.go(if self.thought { State::Inside } else { State::Opened });
                String::new()
            }
            Found::Text(text) if text.trim().is_empty() => String::new(),
            Found::Text(text) => {
                self.state = State::Answer;
                text.trim_start().to_string() + &self.scanner.finish()
            }
        }
    }

    fn push_start(&mut self, letter: char) -> String {
        match self.scanner.push(letter) {
            Found::Marker(..) => {
                self.space.clear();
                self.go(State::Opened);
                String::new()
            }
            Found::Text(text) => {
                self.space.push_str(&text);
                if text.trim().is_empty() {
                    return String::new();
                }
                self.state = State::Answer;
                std::mem::take(&mut self.space) + &self.scanner.finish()
            }
        }
    }

    fn push_inside(&mut self, letter: char, reasoning: &mut String) {
        let calling = matches!(self.state, State::Call | State::AfterCall);
        match (self.scanner.push(letter), self.calls) {
            (Found::Text(text), _) if self.state == State::AfterCall && !text.trim().is_empty() => {
                self.give_back(&text, reasoning);
            }
            (Found::Text(text), _) if calling => {
                let call = self.state != State::Call || self.may_be_call(&text);
                self.held.push_str(&text);
                if !call {
                    self.give_back("", reasoning);
                }
            }
            (Found::Text(text), _) => self.reason(&text, reasoning),
            (Found::Marker(2, text), _) => {
                let text =
                    if text.trim().is_empty() && self.state == State::Opened { text } else { text + self.tags.open };
                self.reason(&text, reasoning);
            }
            (Found::Marker(1, text), Some(calls)) if self.state == State::Call => {
                self.held.push_str(&text);
                self.held.push_str(calls.close);
                self.go(State::AfterCall);
            }
            (Found::Marker(1, text), Some(calls)) => {
                if calling {
                    self.held.push_str(&text)
                } else {
                    self.reason(&text, reasoning)
                }
                if self.state == State::Opened {
                    self.space.clear();
                }
                self.held.push_str(calls.open);
                self.begun = 0;
                self.go(State::Call);
            }
            (Found::Marker(_, text), _) => {
                self.give_back(&text, reasoning);
                self.space.clear();
                self.go(State::Closed);
            }
        }
    }

    fn may_be_call(&mut self, text: &str) -> bool {
        let first = self.calls.map_or("", |calls| calls.first);
        for letter in text.chars() {
            if self.begun == first.len() {
                break;
            }
            if self.begun == 0 && letter.is_whitespace() {
                continue;
            }
            if !first[self.begun..].starts_with(letter) {
                return false;
            }
            self.begun += letter.len_utf8();
        }
        true
    }

    /// Goes on with reasoning: what looked like a call was a thought.
    fn give_back(&mut self, text: &str, reasoning: &mut String) {
        let held = std::mem::take(&mut self.held) + text;
        let rest = self.scanner.finish();
        self.go(State::Inside);
        self.reason(&held, reasoning);
        for letter in rest.chars() {
            self.push_inside(letter, reasoning);
        }
    }

    fn reason(&mut self, text: &str, reasoning: &mut String) {
        for letter in text.chars() {
            if letter.is_whitespace() {
                self.space.push(letter);
                continue;
            }
            let space = std::mem::take(&mut self.space);
            if self.state == State::Inside {
                reasoning.push_str(&space);
            }
            self.state = State::Inside;
            self.thought = true;
            reasoning.push(letter);
        }
    }
}
