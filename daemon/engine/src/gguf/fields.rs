//! The metadata of a GGUF file as typed questions, and a memory of what was asked.
//!
//! As with `config.json`, each answer is checked and each refusal names the key. What no question has touched may change
//! what the model computes; [`Fields::unasked`] finds it, so that it is refused and not ignored.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::LoadError;

/// The largest count, as for `config.json`.
const COUNT_MAX: f64 = (1u64 << 28) as f64;

/// The value of a key.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// A number of any kind; whole ones are exact up to 2^53.
    Number(f64),
    /// A flag.
    Flag(bool),
    /// A text, of bytes that nobody has looked at yet.
    Text(&'a [u8]),
    /// A list of numbers or flags.
    Numbers(Vec<f64>),
    /// A list of texts.
    Texts(Vec<&'a [u8]>),
}

/// The metadata of a file.
pub(super) struct Fields<'a> {
    path: &'a Path,
    values: HashMap<&'a str, Value<'a>>,
    asked: RefCell<HashSet<String>>,
}

impl<'a> Fields<'a> {
    /// Holds what was read.
    pub fn new(path: &'a Path, values: HashMap<&'a str, Value<'a>>) -> Self {
        Self { path, values, asked: RefCell::default() }
    }

    /// An error about this file.
    pub fn problem(&self, problem: impl Into<String>) -> LoadError {
        LoadError::invalid(self.path, problem)
    }

    /// A text that must be there.
    pub fn text(&self, key: &str) -> Result<&'a str, LoadError> {
        self.text_if_any(key)?.ok_or_else(|| self.problem(format!("{key} is missing")))
    }

    /// A text that may be absent.
    pub fn text_if_any(&self, key: &str) -> Result<Option<&'a str>, LoadError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Text(text)) => self.words(key, text).map(Some),
            Some(_) => Err(self.problem(format!("{key} is no text"))),
        }
    }

    /// A positive count that must be there.
    pub fn count(&self, key: &str) -> Result<usize, LoadError> {
        self.count_if_any(key)?.ok_or_else(|| self.problem(format!("{key} is missing")))
    }

    /// A positive count that may be absent.
    pub fn count_if_any(&self, key: &str) -> Result<Option<usize>, LoadError> {
        match self.whole_if_any(key)? {
            Some(0) => Err(self.problem(format!("{key} is 0"))),
            count => Ok(count),
        }
    }

    /// A count that may be absent or 0.
    pub fn whole_if_any(&self, key: &str) -> Result<Option<usize>, LoadError> {
        match self.number_if_any(key)? {
            None => Ok(None),
            Some(count) if (0.0..=COUNT_MAX).contains(&count) && count.fract() == 0.0 => Ok(Some(count as usize)),
            Some(count) => Err(self.problem(format!("{key} is {count}, not a whole number up to {COUNT_MAX}"))),
        }
    }

    /// A finite number that may be absent.
    pub fn number_if_any(&self, key: &str) -> Result<Option<f64>, LoadError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Number(number)) if number.is_finite() => Ok(Some(*number)),
            // The same for every layer is one number for all.
            Some(Value::Numbers(numbers)) if alike(numbers) => Ok(numbers.first().copied()),
            Some(Value::Numbers(_)) => {
                Err(LoadError::unsupported(format!("{key} with a number for each layer"), "one number for all is"))
            }
            Some(_) => Err(self.problem(format!("{key} is no number"))),
        }
    }

    /// A flag that may be absent.
    pub fn flag_if_any(&self, key: &str) -> Result<Option<bool>, LoadError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Flag(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.problem(format!("{key} is no flag"))),
        }
    }

    /// A list of texts; empty where there is none.
    pub fn texts(&self, key: &str) -> Result<Vec<&'a str>, LoadError> {
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(Value::Texts(texts)) => texts.iter().map(|text| self.words(key, text)).collect(),
            Some(_) => Err(self.problem(format!("{key} is no list of texts"))),
        }
    }

    /// A list of numbers; empty where there is none.
    pub fn numbers(&self, key: &str) -> Result<&[f64], LoadError> {
        match self.value(key) {
            None => Ok(&[]),
            Some(Value::Numbers(numbers)) => Ok(numbers),
            Some(_) => Err(self.problem(format!("{key} is no list of numbers"))),
        }
    }

    /// A count that may be 0 for each of so many layers, which the file may say once for all.
    pub fn wholes(&self, key: &str, layers: usize) -> Result<Vec<usize>, LoadError> {
        let numbers = match self.value(key) {
            Some(Value::Number(number)) => vec![*number; layers],
            Some(Value::Numbers(numbers)) if numbers.len() == layers => numbers.clone(),
            Some(_) => return Err(self.problem(format!("{key} is no list of {layers} numbers"))),
            None => return Err(self.problem(format!("{key} is missing"))),
        };
        let whole = |number: &f64| (0.0..=COUNT_MAX).contains(number) && number.fract() == 0.0;
        match numbers.iter().find(|number| !whole(number)) {
            None => Ok(numbers.into_iter().map(|number| number as usize).collect()),
            Some(number) => Err(self.problem(format!("{key} has {number}, no whole number up to {COUNT_MAX}"))),
        }
    }

    /// A key that begins so, that nobody has asked for, and whose value is not off: not 0, false or empty.
    pub fn unasked(&self, beginning: &str) -> Option<&'a str> {
        let asked = self.asked.borrow();
        let on = |value: &Value<'_>| match value {
            Value::Number(number) => *number != 0.0,
            Value::Flag(flag) => *flag,
            Value::Text(text) => !text.is_empty(),
            Value::Numbers(numbers) => numbers.iter().any(|number| *number != 0.0),
            Value::Texts(texts) => !texts.is_empty(),
        };
        let of_these = self.values.iter().filter(|(key, value)| key.starts_with(beginning) && on(value));
        of_these.map(|(key, _)| *key).filter(|key| !asked.contains(*key)).min()
    }

    fn value(&self, key: &str) -> Option<&Value<'a>> {
        self.asked.borrow_mut().insert(key.to_string());
        self.values.get(key)
    }

    fn words(&self, key: &str, text: &'a [u8]) -> Result<&'a str, LoadError> {
        std::str::from_utf8(text).map_err(|_| self.problem(format!("{key} is not UTF-8 text")))
    }
}

/// Whether a list repeats one finite number.
fn alike(numbers: &[f64]) -> bool {
    numbers.first().is_some_and(|first| first.is_finite() && numbers.iter().all(|number| number == first))
}
