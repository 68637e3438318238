//! The words of a grammar in GBNF: names, texts, classes of characters and signs. Pure; called by `gbnf`.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// What stands between a rule's name and the rule.
pub const DEFINES: &str = "::=";

/// The most repetitions that may be asked for by number.
const TIMES_MAX: u32 = 2000;

/// One word.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    Name(String),
    Defines,
    Text(String),
    Class(Class),
    Open,
    Close,
    Or,
    /// How often what stands before it comes, at least and at most.
    Repeat(u32, Option<u32>),
}

/// Characters of which one comes.
#[derive(Clone, Debug, PartialEq)]
pub enum Class {
    Any,
    Of {
        /// Whether it is the others that may come.
        but: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Class {
    /// Writes it as a regular expression in Lark, every character by its number, so that none has a meaning.
    pub fn write(&self, lark: &mut String) {
        let Self::Of { but, ranges } = self else { return lark.push_str("/(?s:.)/") };
        lark.push_str(if *but { "/[^" } else { "/[" });
        for (first, last) in ranges {
            let _ = write!(lark, "\\x{{{:x}}}", u32::from(*first));
            if last > first {
                let _ = write!(lark, "-\\x{{{:x}}}", u32::from(*last));
            }
        }
        lark.push_str("]/");
    }
}

/// Whether a name may have a character.
pub fn in_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || ['-', '_'].contains(&character)
}

/// Returns the words of a grammar.
pub fn words(gbnf: &str) -> Result<Vec<Word>, String> {
    let mut rest = gbnf.chars().peekable();
    let mut words = Vec::new();
    while let Some(next) = rest.next() {
        words.push(match next {
            _ if next.is_whitespace() => continue,
            '#' => {
                rest.by_ref().find(|next| *next == '\n');
                continue;
            }
            '(' => Word::Open,
            ')' => Word::Close,
            '|' => Word::Or,
            '*' => Word::Repeat(0, None),
            '+' => Word::Repeat(1, None),
            '?' => Word::Repeat(0, Some(1)),
            '{' => times(&mut rest)?,
            '"' => Word::Text(text(&mut rest)?),
            '[' => Word::Class(class(&mut rest)?),
            '.' => Word::Class(Class::Any),
            ':' if rest.next() == Some(':') && rest.next() == Some('=') => Word::Defines,
            _ if in_name(next) => {
                let mut name = String::from(next);
                while let Some(more) = rest.next_if(|next| in_name(*next)) {
                    name.push(more);
                }
                Word::Name(name)
            }
            _ => return Err(format!("'{next}' has no meaning")),
        });
    }
    Ok(words)
}

type Rest<'a> = Peekable<Chars<'a>>;

fn times(rest: &mut Rest<'_>) -> Result<Word, String> {
    let fault = || format!("a repetition is {{n}}, {{n,}}, {{,m}} or {{n,m}}, of at most {TIMES_MAX}");
    let mut written = String::new();
    loop {
        match rest.next() {
            Some('}') => break,
            Some(next) if written.len() < 16 => written.push(next),
            _ => return Err(fault()),
        }
    }
    let number = |text: &str| {
        let number = text.trim().parse::<u32>().ok().filter(|number| *number <= TIMES_MAX);
        number.ok_or_else(fault)
    };
    let (least, most) = match written.split_once(',') {
        None => (number(&written)?, Some(number(&written)?)),
        Some((least, most)) => (
            if least.trim().is_empty() { 0 } else { number(least)? },
            if most.trim().is_empty() { None } else { Some(number(most)?) },
        ),
    };
    if most.is_some_and(|most| most < least) { Err(fault()) } else { Ok(Word::Repeat(least, most)) }
}

fn text(rest: &mut Rest<'_>) -> Result<String, String> {
    let mut text = String::new();
    loop {
        match rest.next() {
            Some('"') => return Ok(text),
            Some(next) => text.push(character(next, rest)?),
            None => return Err("a text is not ended".to_owned()),
        }
    }
}

fn class(rest: &mut Rest<'_>) -> Result<Class, String> {
    let but = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let first = match rest.next() {
            Some(']') if ranges.is_empty() => return Err("a class of characters is empty".to_owned()),
            Some(']') => return Ok(Class::Of { but, ranges }),
            Some(next) => character(next, rest)?,
            None => return Err("a class of characters is not ended".to_owned()),
        };
        let mut ahead = rest.clone();
        let spans = ahead.next() == Some('-') && ahead.next().is_some_and(|next| next != ']');
        let last = match spans.then(|| (rest.next(), rest.next())) {
            Some((_, Some(next))) => character(next, rest)?,
            _ => first,
        };
        if last < first {
            return Err(format!("'{first}-{last}' is no range"));
        }
        ranges.push((first, last));
    }
}

/// Returns the character that begins with `next`, which may be the beginning of an escape.
fn character(next: char, rest: &mut Rest<'_>) -> Result<char, String> {
    if next != '\\' {
        return Ok(next);
    }
    let digits = match rest.next() {
        Some('n') => return Ok('\n'),
        Some('r') => return Ok('\r'),
        Some('t') => return Ok('\t'),
        Some(plain @ ('\\' | '"' | '[' | ']' | '-' | '^' | '/' | '.' | '\'')) => return Ok(plain),
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        Some(other) => return Err(format!("'\\{other}' has no meaning")),
        None => return Err("it ends after a '\\'".to_owned()),
    };
    let written: String = rest.take(digits).collect();
    let number = u32::from_str_radix(&written, 16).ok().filter(|_| written.len() == digits);
    number.and_then(char::from_u32).ok_or_else(|| format!("'{written}' is no character's number"))
}
