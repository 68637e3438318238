//! The forms of a prompt at `/completion`: a text, token ids, both in one list, an object with a text, or a list of these.
//! None is cut. `completion` reads them.

use protocol::Error;
use protocol::client::Client;
use protocol::generation::Prompt;
use protocol::text::{Special, TokenizeRequest};
use serde_json::Value;

/// The most pieces of one prompt that are texts: each is made tokens by itself.
const TEXTS_MAX: usize = 64;

/// One prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// A text.
    Text(String),
    /// Token ids, with texts among them.
    Mixed(Vec<Piece>),
}

/// Part of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// A token.
    Token(u32),
    /// Text that is still to become tokens.
    Text(String),
}

/// Returns the prompts of a request, and whether they came as a list.
pub fn read(prompt: &Value) -> Result<(Vec<Given>, bool), Error> {
    match prompt {
        Value::Array(items) if !items.iter().any(Value::is_number) => {
            let prompts: Vec<Given> = items.iter().map(one).collect::<Result<_, _>>()?;
            if prompts.is_empty() { Err(wrong()) } else { Ok((prompts, true)) }
        }
        prompt => Ok((vec![one(prompt)?], false)),
    }
}

fn one(prompt: &Value) -> Result<Given, Error> {
    match prompt {
        Value::String(text) => Ok(Given::Text(text.clone())),
        Value::Array(items) if !items.is_empty() => {
            let pieces: Vec<Piece> = items.iter().map(piece).collect::<Result<_, _>>()?;
            if pieces.iter().filter(|piece| matches!(piece, Piece::Text(_))).count() > TEXTS_MAX {
                return Err(Error::invalid(
                    "prompt",
                    format!("A prompt has at most {TEXTS_MAX} texts among its tokens."),
                ));
            }
            Ok(Given::Mixed(pieces))
        }
        Value::Object(members) => match (members.get("prompt_string"), members.len()) {
            (Some(Value::String(text)), 1) => Ok(Given::Text(text.clone())),
            _ => {
                let message =
                    "An object as a prompt has a text as 'prompt_string', and nothing else: only text is read.";
                Err(Error::unsupported("prompt", message))
            }
        },
        _ => Err(wrong()),
    }
}

fn piece(item: &Value) -> Result<Piece, Error> {
    match item {
        Value::String(text) => Ok(Piece::Text(text.clone())),
        item => {
            let token = item.as_u64().and_then(|id| u32::try_from(id).ok());
            token.map(Piece::Token).ok_or_else(|| Error::invalid("prompt", format!("{item} is no token id.")))
        }
    }
}

fn wrong() -> Error {
    Error::invalid("prompt", "'prompt' is a text, a list of token ids and texts, or a list of such prompts.")
}

impl Given {
    /// The text that was sent, if it was one.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Mixed(_) => "",
        }
    }

    /// Returns what a model is given; texts among tokens become tokens.
    pub async fn prompt(self, client: &Client, model: Option<&str>) -> Result<Prompt, Error> {
        let pieces = match self {
            Self::Text(text) => return Ok(Prompt::Text(text)),
            Self::Mixed(pieces) => pieces,
        };
        let mut tokens = Vec::with_capacity(pieces.len());
        for (at, piece) in pieces.into_iter().enumerate() {
            match piece {
                Piece::Token(token) => tokens.push(token),
                Piece::Text(text) => {
                    let special = if at == 0 { Special::Begin } else { Special::Parse };
                    tokens.extend(read_as(client, model, text, special).await?);
                }
            }
        }
        Ok(Prompt::Tokens(tokens))
    }
}

/// Returns the tokens of a text.
pub async fn read_as(client: &Client, model: Option<&str>, text: String, special: Special) -> Result<Vec<u32>, Error> {
    let (model, prompt) = (model.map(str::to_owned), Prompt::Text(text));
    Ok(client.tokenize(TokenizeRequest { model, prompt, special, pieces: false }).await?.tokens)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_prompt_has_many_forms() {
        let text = |text: &str| Given::Text(text.to_owned());
        let mixed = Given::Mixed(vec![Piece::Token(1), Piece::Text("a".into()), Piece::Token(2)]);
        let tokens = Given::Mixed(vec![Piece::Token(3)]);
        for (prompt, given, listed) in [
            (json!("a"), vec![text("a")], false),
            (json!({"prompt_string": "a"}), vec![text("a")], false),
            (json!([1, "a", 2]), vec![mixed.clone()], false),
            (json!(["a", {"prompt_string": "b"}, [3], [1, "a", 2]]), vec![text("a"), text("b"), tokens, mixed], true),
            (json!(["a"]), vec![text("a")], true),
        ] {
            assert_eq!(read(&prompt).unwrap(), (given, listed), "{prompt}");
        }
    }

    #[test]
    fn what_is_no_prompt_is_refused() {
        let picture = json!({"prompt_string": "a", "multimodal_data": ["x"]});
        for wrong in
            [json!(1), json!([]), json!([[]]), json!([1, 2.5]), json!([-1]), json!([1, [2]]), json!({}), picture]
        {
            assert_eq!(read(&wrong).unwrap_err().param.as_deref(), Some("prompt"), "{wrong}");
        }
        assert!(read(&json!(std::iter::once(json!(1)).chain(vec![json!("a"); 65]).collect::<Vec<_>>())).is_err());
    }
}
