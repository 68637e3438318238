//! The `tojson` filter as Hugging Face defines it: Python's `json.dumps` without HTML escapes.
//!
//! Models were trained on Python's spacing and number forms, so they are kept to the byte. Depth and length are bounded.
//! The environment registers it.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::values::Exponential;

const DEPTH_MAX: usize = 200;
const BYTES_MAX: usize = 16 << 20;
/// The most letters that one step of an indentation has.
const INDENT_MAX: usize = 64;

/// How Python would write it.
struct Style {
    indent: Option<String>,
    between: String,
    after_key: String,
    ascii: bool,
    sorted: bool,
}

/// Writes a value as JSON: `tojson(indent=None, separators=None, ensure_ascii=False, sort_keys=False)`.
pub fn tojson(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<Value>>("indent")?,
    };
    let separators: Option<Vec<String>> = options.get("separators")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;

    let indent = indent.filter(|it| !it.is_none() && !it.is_undefined()).map(|it| match it.as_str() {
        Some(text) => text.chars().take(INDENT_MAX).collect(),
        None => " ".repeat(it.as_usize().unwrap_or(0).min(INDENT_MAX)),
    });
    let (between, after_key) = match separators.as_deref() {
        Some([between, after_key]) => (between.clone(), after_key.clone()),
        _ => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
    };
    let style = Style { indent, between, after_key, ascii: ascii.unwrap_or(false), sorted: sorted.unwrap_or(false) };
    let mut text = String::new();
    style.write(&mut text, value, 0)?;
    Ok(text)
}

fn refuse(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {}", words.into()))
}

impl Style {
    fn write(&self, text: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(refuse("the value is too large"));
        }
        bounded(text)?;
        match value.kind() {
            ValueKind::None => text.push_str("null"),
            ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.write_number(text, value)?,
            ValueKind::String => self.write_text(text, value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?;
                self.write_items(text, ['[', ']'], items, depth, |text, item| self.write(text, item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.write_items(text, ['{', '}'], keys.into_iter(), depth, |text, key| {
                    self.write_key(text, key)?;
                    text.push_str(&self.after_key);
                    self.write(text, &value.get_item(key)?, depth + 1)
                })?;
            }
            other => match value.downcast_object_ref::<Exponential>() {
                Some(number) => text.push_str(&float(number.0)),
                None => return Err(refuse(format!("a value of type {other} is not JSON"))),
            },
        }
        Ok(())
    }

    fn write_items(
        &self,
        text: &mut String,
        [open, close]: [char; 2],
        items: impl Iterator<Item = Value>,
        depth: usize,
        mut write: impl FnMut(&mut String, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        text.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                text.push_str(&self.between);
            }
            empty = false;
            self.break_line(text, depth + 1);
            write(text, &item)?;
        }
        if !empty {
            self.break_line(text, depth);
        }
        text.push(close);
        Ok(())
    }

    fn break_line(&self, text: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            text.push('\n');
            (0..depth).for_each(|_| text.push_str(indent));
        }
    }

    fn write_key(&self, text: &mut String, key: &Value) -> Result<(), Error> {
        if let Some(key) = key.as_str() {
            return self.write_text(text, key);
        }
        let mut word = String::new();
        match key.kind() {
            ValueKind::Bool | ValueKind::None | ValueKind::Number => self.write(&mut word, key, 0)?,
            other => return Err(refuse(format!("a key of type {other} is not JSON"))),
        }
        self.write_text(text, &word)
    }

    fn write_number(&self, text: &mut String, value: &Value) -> Result<(), Error> {
        if value.is_integer() {
            text.push_str(&value.to_string());
            return Ok(());
        }
        let number = f64::try_from(value.clone())?;
        text.push_str(&float(number));
        Ok(())
    }

    /// What is escaped once doubles when it is escaped again, so the text is measured as it grows.
    fn write_text(&self, text: &mut String, content: &str) -> Result<(), Error> {
        text.push('"');
        for letter in content.chars() {
            bounded(text)?;
            match letter {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                '\0'..'\u{20}' => escape(text, letter),
                '\u{7f}'.. if self.ascii && letter != '\u{7f}' => escape(text, letter),
                _ => text.push(letter),
            }
        }
        text.push('"');
        Ok(())
    }
}

fn bounded(text: &str) -> Result<(), Error> {
    if text.len() > BYTES_MAX { Err(refuse("the value is too large")) } else { Ok(()) }
}

fn escape(text: &mut String, letter: char) {
    for unit in letter.encode_utf16(&mut [0; 2]) {
        text.push_str(&format!("\\u{unit:04x}"));
    }
}

/// Python's `repr` of a float: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
pub fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_string();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_string();
    }
    let magnitude = number.abs();
    if number == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{number:?}");
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |it| ('-', it));
    format!("{digits}e{sign}{exponent:0>2}")
}
