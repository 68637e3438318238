//! Writes a grammar in the language of the grammar engine: Lark rules, with each shape a grammar of its own.
//!
//! Shapes keep their own rules and references, so a schema may sit anywhere in an answer. Sizes are checked before
//! anything is compiled.

use std::fmt::Write as _;

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};

use super::{Grammar, GrammarError, SHAPE_BYTES_MAX, Shape, schema};
use crate::text::Tokenizer;

/// The most texts of a choice.
const CHOICES_MAX: usize = 4096;
/// How deep brackets may nest in a regular expression or a Lark grammar.
const DEPTH_MAX: usize = 100;

/// The whole grammar, ready to be compiled.
///
/// `free` are the special tokens that may stand in a text where no shape holds it.
pub fn render(grammar: &Grammar, tokenizer: &Tokenizer, free: &[u32]) -> Result<TopLevelGrammar, GrammarError> {
    let mut writer =
        Writer { tokenizer, free, first: None, rules: String::new(), shapes: Vec::new(), count: 0, bytes: 0 };
    let start = writer.expression(grammar)?;
    let text = format!("start: {start}\n{}", writer.rules);
    let mut grammars = vec![GrammarWithLexer::from_lark(text)];
    grammars.append(&mut writer.shapes);
    Ok(TopLevelGrammar { grammars, max_tokens: None })
}

struct Writer<'a> {
    tokenizer: &'a Tokenizer,
    free: &'a [u32],
    /// What no free stretch begins with.
    first: Option<String>,
    rules: String,
    shapes: Vec<GrammarWithLexer>,
    /// How many names were given out.
    count: usize,
    /// How long all shapes are together.
    bytes: usize,
}

impl Writer<'_> {
    fn expression(&mut self, grammar: &Grammar) -> Result<String, GrammarError> {
        Ok(match grammar {
            Grammar::Text(text) => self.text(text),
            Grammar::Shape(shape) => self.shape(shape)?,
            Grammar::Until(marker) => self.until(marker, String::new()),
            Grammar::UntilWithout(marker, others) => {
                let all: Vec<String> = others.iter().chain([marker]).cloned().collect();
                format!("({} {})", self.tokens_between(&all), self.until(marker, self.but(others)))
            }
            Grammar::Without(markers) => format!("({} {})", self.tokens_between(markers), self.without(markers)),
            Grammar::NotFirst(first, inner) => {
                let outer = self.first.replace(first.clone());
                let inner = self.expression(inner)?;
                self.first = outer;
                inner
            }
            Grammar::Sequence(parts) => format!("({})", self.all(parts)?.join(" ")),
            Grammar::Either(parts) => format!("({})", self.all(parts)?.join(" | ")),
            Grammar::Optional(part) => format!("({})?", self.expression(part)?),
            Grammar::Repeated { item, separator, most } => {
                let item = self.expression(item)?;
                let more = most.saturating_sub(1);
                if more == 0 { item } else { format!("({item} ({} {item}){{0,{more}}})", self.text(separator)) }
            }
        })
    }

    fn all(&mut self, parts: &[Grammar]) -> Result<Vec<String>, GrammarError> {
        parts.iter().map(|part| self.expression(part)).collect()
    }

    fn name(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}_{}", self.count)
    }

    /// The id of a special token that is written so.
    fn special(&self, text: &str) -> Option<u32> {
        self.tokenizer.token_id(text).filter(|token| self.tokenizer.is_special(*token))
    }

    fn text(&self, text: &str) -> String {
        match self.special(text) {
            Some(token) => format!("<[{token}]>"),
            None => quoted(text),
        }
    }

    fn until(&mut self, marker: &str, but: String) -> String {
        match self.special(marker) {
            Some(token) => {
                let name = self.name("UNTIL");
                let _ = writeln!(self.rules, "{name}: /(.|\\n)*/{but}");
                format!("({name} <[{token}]>)")
            }
            None => {
                let name = self.name("until");
                let _ = writeln!(self.rules, "{name}[lazy]: /(.|\\n)*{}/{but}", escaped(marker));
                name
            }
        }
    }

    fn without(&mut self, markers: &[String]) -> String {
        let (name, but) = (self.name("WITHOUT"), self.but(markers));
        let _ = writeln!(self.rules, "{name}: /(.|\\n)*/{but}");
        name
    }

    /// Special tokens with text between, none of it one of these.
    fn tokens_between(&mut self, but: &[String]) -> String {
        let listed: Vec<u32> = but.iter().chain(&self.first).filter_map(|text| self.special(text)).collect();
        let free = self.free.iter().filter(|token| !listed.contains(token)).map(u32::to_string);
        let tokens = free.collect::<Vec<_>>().join(",");
        if tokens.is_empty() { String::new() } else { format!("({} <[{tokens}]>)*", self.without(but)) }
    }

    /// That none of these texts occurs; special tokens are no text in any case.
    fn but(&self, texts: &[String]) -> String {
        let texts: Vec<_> = texts.iter().filter(|it| self.special(it).is_none()).map(|it| escaped(it)).collect();
        let but = if texts.is_empty() { String::new() } else { format!(" & ~/(.|\\n)*({})(.|\\n)*/", texts.join("|")) };
        match self.first.as_deref().filter(|first| self.special(first).is_none()) {
            Some(first) => format!("{but} & ~/\\s*{}(.|\\n)*/", escaped(first)),
            None => but,
        }
    }

    fn shape(&mut self, shape: &Shape) -> Result<String, GrammarError> {
        let made = match shape {
            Shape::Json { schema, strict } => {
                self.weigh("schema", schema.to_string().len())?;
                GrammarWithLexer::from_json_schema(schema::prepared(schema, *strict)?)
            }
            Shape::Regex(regex) => {
                self.weigh("regular expression", regex.len())?;
                check_depth("regular expression", regex)?;
                GrammarWithLexer::from_regex(regex)
            }
            Shape::Choice(texts) => {
                if texts.is_empty() || texts.iter().any(String::is_empty) {
                    return Err(GrammarError::Invalid("a choice needs texts, and none may be empty".to_string()));
                }
                if texts.len() > CHOICES_MAX {
                    return Err(GrammarError::TooLarge { what: "choice", value: texts.len(), most: CHOICES_MAX });
                }
                self.weigh("choice", texts.iter().map(String::len).sum())?;
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                GrammarWithLexer::from_lark(format!("start: {}", texts.join(" | ")))
            }
            Shape::Lark(lark) => {
                self.weigh("grammar", lark.len())?;
                check_depth("grammar", lark)?;
                GrammarWithLexer::from_lark(lark.clone())
            }
        };
        let name = self.name("shape");
        self.shapes.push(GrammarWithLexer { name: Some(name.clone()), ..made });
        Ok(format!("@{name}"))
    }

    fn weigh(&mut self, what: &'static str, bytes: usize) -> Result<(), GrammarError> {
        self.bytes += bytes;
        if self.bytes > SHAPE_BYTES_MAX {
            return Err(GrammarError::TooLarge { what, value: self.bytes, most: SHAPE_BYTES_MAX });
        }
        Ok(())
    }
}

/// Refuses what would take a compiler too deep; brackets in texts count as well, as only a hostile text has so many.
fn check_depth(what: &'static str, text: &str) -> Result<(), GrammarError> {
    let (mut depth, mut deepest) = (0_usize, 0);
    for letter in text.bytes() {
        match letter {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > DEPTH_MAX {
        return Err(GrammarError::TooLarge { what, value: deepest, most: DEPTH_MAX });
    }
    Ok(())
}

/// A text in quotes; the escapes are those of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text inside of a regular expression between slashes.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if matches!(letter, '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' | '/') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}
