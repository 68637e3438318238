//! Reads one JSON value character by character, and passes on only what can still become valid JSON.
//!
//! Whatever has been passed on, `close` completes to a valid document: numbers, literals, escapes, keys and commas wait
//! until they are whole. Small slips that models make are mended: bare control characters and unknown escapes in
//! strings, halves of letters, Python's words, and commas before a closing bracket. Anything else is malformed. The call reader uses it for every value.

const DEPTH_MAX: usize = 100;
const TOKEN_BYTES_MAX: usize = 400;
/// `u` and four digits.
const HALF_BYTES: usize = 5;

/// What a character led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The value goes on.
    More,
    /// The value is complete.
    Done,
    /// The value was complete before this character, which is not part of it.
    DoneBefore,
    /// This character cannot be part of JSON.
    Malformed,
}

#[derive(Clone, Copy, PartialEq)]
enum Expect {
    Value,
    /// A value, or the end of the array that was just opened.
    FirstItem,
    /// A key, or the end of the object that was just opened.
    FirstKey,
    Key,
    Colon,
    CommaOrEnd,
    String {
        key: bool,
    },
    Escape {
        key: bool,
    },
    /// A number or a literal.
    Word,
    Nothing,
}

/// Reads one value.
pub struct JsonReader {
    expect: Expect,
    /// The closing brackets that are due, innermost last.
    open: Vec<char>,
    /// What may not be passed on yet: a comma, a key, white space.
    pending: String,
    /// A word or an escape that is not whole yet.
    token: String,
}

impl JsonReader {
    /// Begins a value.
    pub fn new() -> Self {
        Self { expect: Expect::Value, open: Vec::new(), pending: String::new(), token: String::new() }
    }

    /// Adds a character; what may be passed on goes into `out`.
    pub fn push(&mut self, letter: char, out: &mut String) -> Step {
        match self.expect {
            Expect::String { key } => self.in_string(letter, key, out),
            Expect::Escape { key } => self.in_escape(letter, key, out),
            Expect::Word => self.in_word(letter, out),
            _ if letter.is_ascii_whitespace() => {
                // A form feed is no white space of JSON: a slip that is left out.
                if !self.open.is_empty() && letter != '\u{c}' {
                    self.pending.push(letter);
                }
                Step::More
            }
            Expect::Value => self.begin_value(letter, out),
            Expect::FirstItem | Expect::FirstKey | Expect::Key | Expect::CommaOrEnd
                if self.open.last() == Some(&letter) =>
            {
                self.end_bracket(letter, out)
            }
            Expect::FirstItem => self.begin_value(letter, out),
            Expect::FirstKey | Expect::Key if letter == '"' => {
                self.pending.push(letter);
                self.expect = Expect::String { key: true };
                Step::More
            }
            Expect::Colon if letter == ':' => self.punctuate(letter, Expect::Value),
            Expect::CommaOrEnd if letter == ',' => {
                let in_object = self.open.last() == Some(&'}');
                self.punctuate(letter, if in_object { Expect::Key } else { Expect::FirstItem })
            }
            _ => Step::Malformed,
        }
    }

    /// What completes the text that was passed on.
    pub fn close(&self) -> String {
        let mut rest = String::new();
        if matches!(self.expect, Expect::String { key: false } | Expect::Escape { key: false }) {
            rest.push('"');
        }
        rest.extend(self.open.iter().rev());
        rest
    }

    fn punctuate(&mut self, letter: char, expect: Expect) -> Step {
        self.pending.push(letter);
        self.expect = expect;
        Step::More
    }

    fn begin_value(&mut self, letter: char, out: &mut String) -> Step {
        match letter {
            '{' | '[' if self.open.len() < DEPTH_MAX => {
                self.pass_pending(out);
                out.push(letter);
                let (close, expect) = if letter == '{' { ('}', Expect::FirstKey) } else { (']', Expect::FirstItem) };
                self.open.push(close);
                self.expect = expect;
            }
            '"' => {
                self.pass_pending(out);
                out.push(letter);
                self.expect = Expect::String { key: false };
            }
            '-' | '0'..='9' | 't' | 'f' | 'n' | 'T' | 'F' | 'N' => {
                self.token.push(letter);
                self.expect = Expect::Word;
            }
            _ => return Step::Malformed,
        }
        Step::More
    }

    fn end_bracket(&mut self, letter: char, out: &mut String) -> Step {
        // A comma before the bracket is a slip that is left out.
        out.push_str(&self.pending.replace(',', ""));
        self.pending.clear();
        out.push(letter);
        self.open.pop();
        self.end_value()
    }

    fn end_value(&mut self) -> Step {
        self.expect = if self.open.is_empty() { Expect::Nothing } else { Expect::CommaOrEnd };
        if self.open.is_empty() { Step::Done } else { Step::More }
    }

    fn pass_pending(&mut self, out: &mut String) {
        out.push_str(&std::mem::take(&mut self.pending));
    }

    fn in_string(&mut self, letter: char, key: bool, out: &mut String) -> Step {
        let out = if key { &mut self.pending } else { out };
        match letter {
            '\\' => self.expect = Expect::Escape { key },
            '"' => {
                out.push(letter);
                if key {
                    self.expect = Expect::Colon;
                    return Step::More;
                }
                return self.end_value();
            }
            '\0'..'\u{20}' => out.push_str(&escaped(letter)),
            _ => out.push(letter),
        }
        Step::More
    }

    /// `token` holds what follows the backslash.
    fn in_escape(&mut self, letter: char, key: bool, passed: &mut String) -> Step {
        let out = if key { &mut self.pending } else { &mut *passed };
        self.token.push(letter);
        let whole = match self.token.as_bytes() {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't'] => format!("\\{letter}"),
            [b'\''] => "'".to_string(),
            [b'u', ..] => match unicode_escape(&self.token) {
                Unicode::Incomplete => return Step::More,
                Unicode::Whole => format!("\\{}", self.token),
                Unicode::Half => {
                    // What follows the half is read again.
                    let rest = std::mem::take(&mut self.token).split_off(HALF_BYTES);
                    out.push_str("\\ufffd");
                    self.expect = Expect::String { key };
                    return rest.chars().fold(Step::More, |_, letter| self.push(letter, passed));
                }
                Unicode::Broken => {
                    self.token.clear();
                    return Step::Malformed;
                }
            },
            // A pattern such as \d, which should have been written \\d.
            _ if letter >= ' ' => format!("\\\\{letter}"),
            _ => return Step::Malformed,
        };
        out.push_str(&whole);
        self.token.clear();
        self.expect = Expect::String { key };
        Step::More
    }

    fn in_word(&mut self, letter: char, out: &mut String) -> Step {
        if letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.') {
            self.token.push(letter);
            return if self.token.len() > TOKEN_BYTES_MAX { Step::Malformed } else { Step::More };
        }
        let word = match std::mem::take(&mut self.token) {
            word if word == "True" => "true".to_string(),
            word if word == "False" => "false".to_string(),
            word if word == "None" => "null".to_string(),
            word => word,
        };
        if serde_json::from_str::<serde_json::Value>(&word).is_err() {
            return Step::Malformed;
        }
        self.pass_pending(out);
        out.push_str(&word);
        match self.end_value() {
            Step::Done => Step::DoneBefore,
            _ => self.push(letter, out),
        }
    }
}

/// How far an escape `uXXXX` or `uXXXX\uXXXX` has come.
enum Unicode {
    Incomplete,
    Whole,
    /// The first half of a letter without its second, or the second alone.
    Half,
    Broken,
}

fn unicode_escape(token: &str) -> Unicode {
    let unit = |at: usize| token.get(at..at + 4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
    let digits = |range: std::ops::Range<usize>| {
        token.bytes().skip(range.start).take(range.len()).all(|byte| byte.is_ascii_hexdigit())
    };
    if !digits(1..5) {
        return Unicode::Broken;
    }
    let joined = token.as_bytes().get(5).is_none_or(|byte| *byte == b'\\')
        && token.as_bytes().get(6).is_none_or(|byte| *byte == b'u')
        && digits(7..11);
    match (token.len(), unit(1)) {
        (5, Some(0xDC00..=0xDFFF)) => Unicode::Half,
        (5, Some(0xD800..=0xDBFF)) => Unicode::Incomplete,
        (5, _) => Unicode::Whole,
        (0..5, _) => Unicode::Incomplete,
        _ if !joined => Unicode::Half,
        (11, _) if !matches!(unit(7), Some(0xDC00..=0xDFFF)) => Unicode::Half,
        (11, _) => Unicode::Whole,
        _ => Unicode::Incomplete,
    }
}

fn escaped(letter: char) -> String {
    match letter {
        '\n' => "\\n".to_string(),
        '\r' => "\\r".to_string(),
        '\t' => "\\t".to_string(),
        other => format!("\\u{:04x}", u32::from(other)),
    }
}
