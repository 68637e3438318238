//! Calls that stand without any tags as the whole answer: a JSON object, or several, perhaps in a code block.
//!
//! Nothing is told before the answer ends, and only what names known functions and nothing else is taken: any other JSON is
//! an answer, and text as soon as that shows. Readers of formats that models forget the tags of begin with it.

use super::answer::Answer;
use super::call::CallReader;
use super::functions::Functions;
use super::json::Step;

const FENCES: [&str; 2] = ["```json", "```"];
/// The most that stands before a call.
const HEAD_BYTES_MAX: usize = 256;

/// Reads one answer.
pub struct Bare {
    functions: Functions,
    at: At,
    /// Whether a code block has begun.
    fenced: bool,
    /// Everything so far.
    read: String,
    /// Where calls are told until it is sure that they are.
    aside: Answer,
}

enum At {
    /// What stands before the first call.
    Head,
    Call(CallReader),
    /// What stands after a call.
    Tail(String),
}

impl Bare {
    /// Begins an answer in which these functions may be called.
    pub fn new(functions: Functions) -> Self {
        let aside = Answer::new(Vec::new(), true, false, 0);
        Self { functions, at: At::Head, fenced: false, read: String::new(), aside }
    }

    /// Adds a character; returns everything so far once it is no call.
    pub fn push(&mut self, letter: char) -> Option<String> {
        let fits = self.step(letter);
        self.read.push(letter);
        (!fits).then(|| std::mem::take(&mut self.read))
    }

    /// Ends the answer.
    pub fn finish(&mut self, answer: &mut Answer) {
        if !matches!(self.at, At::Tail(_)) {
            return answer.texts(&self.read);
        }
        for call in self.aside.take().tool_calls {
            answer.begin_call(call.name.unwrap_or_default());
            answer.arguments(&call.arguments);
        }
    }

    fn step(&mut self, letter: char) -> bool {
        match &mut self.at {
            At::Head => {
                let head = self.read.trim();
                if letter == '{' && (head.is_empty() || FENCES.contains(&head)) {
                    self.fenced = !head.is_empty();
                    return self.begin(letter);
                }
                let begins = |fence: &str| fence.starts_with(head) && fence[head.len()..].starts_with(letter);
                let fits = letter.is_whitespace() || FENCES.iter().any(|fence| begins(fence));
                fits && self.read.len() < HEAD_BYTES_MAX
            }
            At::Call(call) => match call.push(letter, &mut self.aside) {
                Step::More => true,
                Step::Done => {
                    self.at = At::Tail(String::new());
                    true
                }
                Step::DoneBefore | Step::Malformed => false,
            },
            At::Tail(tail) => {
                if letter == '{' && tail.is_empty() {
                    return self.begin(letter);
                }
                if !letter.is_whitespace() {
                    tail.push(letter);
                }
                tail.is_empty() || self.fenced && FENCES[1].starts_with(tail.as_str())
            }
        }
    }

    fn begin(&mut self, letter: char) -> bool {
        let mut call = CallReader::bare(self.functions.clone());
        call.push(letter, &mut self.aside);
        self.at = At::Call(call);
        true
    }
}
