//! The last stage: the answer's text with its stop strings, and the calls that were recognised in it.
//!
//! White space around tool calls separates them and is no part of the answer, so the end of a text is held back while it
//! is white space and a call may follow. After a stop string everything is dropped. The tool readers write into it.

use protocol::generation::ToolCallDelta;

use super::Piece;
use super::marker::{Found, Scanner};

/// What a choice has said since the last `take`.
pub struct Answer {
    stops: Scanner,
    stop_strings: Vec<String>,
    stopped: bool,
    /// The answer is too short yet to be stopped.
    too_short: bool,
    calls_may_follow: bool,
    /// There is no text.
    calls_only: bool,
    /// A call came last: white space that follows it separates and is dropped.
    after_call: bool,
    /// White space that is part of the text only if more text follows.
    space: String,
    piece: Piece,
    calls: u16,
    call_id_seed: u64,
}

impl Answer {
    /// Begins an answer.
    pub fn new(stop_strings: Vec<String>, calls_may_follow: bool, calls_only: bool, call_id_seed: u64) -> Self {
        Self {
            stops: Scanner::new(&stop_strings),
            stop_strings,
            stopped: false,
            too_short: false,
            calls_may_follow,
            calls_only,
            after_call: false,
            space: String::new(),
            piece: Piece::default(),
            calls: 0,
            call_id_seed,
        }
    }

    /// Says whether the answer is too short to be stopped; a stop string counts if all of it comes later.
    pub fn set_too_short(&mut self, too_short: bool) {
        self.too_short = too_short;
    }

    /// Whether a stop string has ended the answer.
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// How many calls have begun.
    pub fn calls(&self) -> u16 {
        self.calls
    }

    /// Adds a character of text.
    pub fn text(&mut self, letter: char) {
        if self.stopped {
            return;
        }
        if self.too_short {
            return self.show(letter.encode_utf8(&mut [0; 4]));
        }
        match self.stops.push(letter) {
            Found::Text(text) => self.show(&text),
            Found::Marker(index, text) => {
                self.show(&text);
                self.show_space();
                self.stopped = true;
                self.piece.stopped = self.stop_strings.get(index).cloned();
            }
        }
    }

    /// Adds text.
    pub fn texts(&mut self, text: &str) {
        text.chars().for_each(|letter| self.text(letter));
    }

    /// Begins a call; the text before it is complete, and white space before it is dropped.
    pub fn begin_call(&mut self, name: String) {
        self.leave_out_call();
        self.after_call = true;
        let id = Some(call_id(self.call_id_seed, self.calls));
        self.piece.tool_calls.push(ToolCallDelta { index: self.calls, id, name: Some(name), arguments: String::new() });
        self.calls = self.calls.saturating_add(1);
    }

    /// The same for a call of which too little came to be told of.
    pub fn leave_out_call(&mut self) {
        let held = self.stops.finish();
        self.show(&held);
        self.space.clear();
    }

    /// Adds to the arguments of the call that was begun last.
    pub fn arguments(&mut self, more: &str) {
        let index = self.calls.saturating_sub(1);
        match self.piece.tool_calls.last_mut() {
            _ if more.is_empty() => {}
            Some(delta) if delta.index == index => delta.arguments.push_str(more),
            _ => self.piece.tool_calls.push(ToolCallDelta { index, id: None, name: None, arguments: more.to_string() }),
        }
    }

    /// Ends the answer.
    pub fn finish(&mut self) {
        let held = self.stops.finish();
        self.show(&held);
        if !self.after_call {
            self.show_space();
        }
    }

    /// What came since the last time.
    pub fn take(&mut self) -> Piece {
        std::mem::take(&mut self.piece)
    }

    fn show(&mut self, text: &str) {
        if self.stopped || self.calls_only {
            return;
        }
        let end = if self.calls_may_follow { text.trim_end().len() } else { text.len() };
        let (text, space) = text.split_at(end);
        if !text.is_empty() {
            if std::mem::take(&mut self.after_call) {
                self.space.clear();
                self.piece.text.push_str(text.trim_start());
            } else {
                self.show_space();
                self.piece.text.push_str(text);
            }
        }
        self.space.push_str(space);
    }

    fn show_space(&mut self) {
        self.piece.text.push_str(&std::mem::take(&mut self.space));
    }
}

/// `call_` and 24 letters or digits, made from the seed and the call's index.
fn call_id(seed: u64, index: u16) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut state = seed ^ u64::from(index).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let mut id = String::from("call_");
    for _ in 0..4 {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        for _ in 0..6 {
            id.push(char::from(LETTERS[(bits % 62) as usize]));
            bits /= 62;
        }
    }
    id
}
