//! Python's methods on strings, lists and dictionaries, which templates call freely.
//!
//! minijinja's own Python layer has most of them; here are the rest, and those where it differs from Python. No method
//! changes its value, as in Hugging Face's sandbox. The environment calls it for every unknown method.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// Calls a method that the value itself does not have.
pub fn call(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let found = match value.kind() {
        ValueKind::String => string(value.as_str().unwrap_or_default(), method, args)?,
        ValueKind::Seq if method == "index" => {
            let (wanted,): (&Value,) = from_args(args)?;
            let index = value.try_iter()?.position(|item| item == *wanted);
            Some(Value::from(index.ok_or_else(|| refuse(format!("{wanted} is not in the list")))?))
        }
        ValueKind::Map if method == "copy" => Some(value.clone()),
        _ => None,
    };
    match found {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn string(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "removeprefix" => text.strip_prefix(one(args)?).unwrap_or(text).into(),
        "removesuffix" => text.strip_suffix(one(args)?).unwrap_or(text).into(),
        "partition" => match text.split_once(one(args)?) {
            Some((before, after)) => triple(before, one(args)?, after),
            None => triple(text, "", ""),
        },
        "rpartition" => match text.rsplit_once(one(args)?) {
            Some((before, after)) => triple(before, one(args)?, after),
            None => triple("", "", text),
        },
        "split" => split(text, args, false)?,
        "rsplit" => split(text, args, true)?,
        "swapcase" => {
            text.chars().map(|it| if it.is_uppercase() { lower(it) } else { upper(it) }).collect::<String>().into()
        }
        "casefold" => text.to_lowercase().into(),
        "title" => title(text).into(),
        "zfill" | "ljust" | "rjust" | "center" => pad(text, method, args)?.into(),
        "index" => {
            let wanted = one(args)?;
            let at = text.find(wanted).ok_or_else(|| refuse(format!("{wanted:?} is not in the text")))?;
            text[..at].chars().count().into()
        }
        _ => return Ok(None),
    }))
}

fn refuse(words: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, words)
}

fn one(args: &[Value]) -> Result<&str, Error> {
    let (text,): (&str,) = from_args(args)?;
    Ok(text)
}

fn triple(before: &str, separator: &str, after: &str) -> Value {
    list([before, separator, after])
}

fn list<'a>(parts: impl IntoIterator<Item = &'a str>) -> Value {
    parts.into_iter().map(Value::from).collect()
}

fn lower(letter: char) -> String {
    letter.to_lowercase().collect()
}

fn upper(letter: char) -> String {
    letter.to_uppercase().collect()
}

/// Splits at a separator, or between words where there is none; a limit counts from either end.
fn split(text: &str, args: &[Value], from_end: bool) -> Result<Value, Error> {
    let (separator, limit, keywords): (Option<Value>, Option<i64>, minijinja::value::Kwargs) = from_args(args)?;
    let separator = match separator {
        Some(value) => Some(value),
        None => keywords.get::<Option<Value>>("sep")?,
    };
    let limit = match limit {
        Some(limit) => Some(limit),
        None => keywords.get("maxsplit")?,
    };
    keywords.assert_all_used()?;
    let limit = limit.and_then(|it| usize::try_from(it).ok()).map_or(usize::MAX, |it| it.saturating_add(1));
    let separator = separator.filter(|it| !it.is_none());
    let Some(separator) = separator else { return Ok(list(split_words(text, limit, from_end))) };
    let separator = separator.as_str().filter(|it| !it.is_empty());
    let separator = separator.ok_or_else(|| refuse("split needs a separator that is a text and not empty".into()))?;
    let parts: Vec<&str> = if from_end {
        let mut parts: Vec<_> = text.rsplitn(limit, separator).collect();
        parts.reverse();
        parts
    } else {
        text.splitn(limit, separator).collect()
    };
    Ok(list(parts))
}

fn split_words(text: &str, limit: usize, from_end: bool) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let cut = if from_end { rest.rfind(char::is_whitespace) } else { rest.find(char::is_whitespace) };
        let Some(cut) = cut.filter(|_| words.len() + 1 < limit) else {
            words.push(rest);
            break;
        };
        let (before, after) = (rest[..cut].trim_end(), rest[cut..].trim_start());
        words.push(if from_end { after } else { before });
        rest = if from_end { before } else { after };
    }
    if from_end {
        words.reverse();
    }
    words
}

/// Python's title case: a letter after anything that is no letter is upper case.
fn title(text: &str) -> String {
    let mut after_letter = false;
    let mut titled = String::with_capacity(text.len());
    for letter in text.chars() {
        titled.push_str(&if after_letter { lower(letter) } else { upper(letter) });
        after_letter = letter.is_alphabetic();
    }
    titled
}

fn pad(text: &str, method: &str, args: &[Value]) -> Result<String, Error> {
    let (width, fill): (usize, Option<&str>) = from_args(args)?;
    if width > 100_000 {
        return Err(refuse(format!("a width of {width} is too large")));
    }
    let missing = width.saturating_sub(text.chars().count());
    let fill = |count: usize| fill.unwrap_or(if method == "zfill" { "0" } else { " " }).repeat(count);
    Ok(match method {
        "ljust" => format!("{text}{}", fill(missing)),
        "center" => {
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", fill(left), fill(missing - left))
        }
        "zfill" if text.starts_with(['-', '+']) => format!("{}{}{}", &text[..1], fill(missing), &text[1..]),
        _ => format!("{}{text}", fill(missing)),
    })
}
