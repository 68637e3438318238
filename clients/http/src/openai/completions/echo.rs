//! What goes before a completion's text where its prompt is to be echoed: the prompt as it was sent, with the
//! log-probabilities of its tokens if they are wanted. `completions` says it, whole or in a stream.

use protocol::Error;
use protocol::client::Client;
use protocol::generation::PromptToken;
use protocol::text::DetokenizeRequest;

use super::{Own, PromptBody, Shared};
use crate::openai::response::TextLogprobs;

/// The most choices that a prompt's tokens are said before: it can be long, and is said as often.
const JUDGED_CHOICES_MAX: u16 = 16;

/// The prompts of a request, to be said before their choices.
#[derive(Debug, PartialEq)]
pub struct Echo {
    /// How many choices each prompt has.
    choices: usize,
    /// Whether the log-probabilities of their tokens are said too.
    judged: bool,
    /// What is known of each prompt.
    prompts: Vec<Echoed>,
}

/// One prompt.
#[derive(Debug, Default, PartialEq)]
struct Echoed {
    /// As it was sent; `None` of token ids, which are spelled.
    text: Option<String>,
    /// Its tokens, as far as they are heard.
    tokens: Vec<PromptToken>,
}

impl Echo {
    /// Returns what a request wants echoed, if it does.
    pub fn of(shared: &Shared, own: &Own) -> Result<Option<Self>, Error> {
        if !own.echo.unwrap_or(false) {
            return Ok(None);
        }
        let judged = own.logprobs.is_some();
        if judged && own.suffix().is_some() {
            let message = "'suffix' cannot be sent with 'echo' and 'logprobs': the prompt is not only yours.";
            return Err(Error::unsupported("suffix", message));
        }
        if judged && shared.choices() > JUDGED_CHOICES_MAX {
            let message = format!("'n' is at most {JUDGED_CHOICES_MAX} where 'echo' comes with 'logprobs'.");
            return Err(Error::invalid("n", message));
        }
        let sent = |text: &String| Echoed { text: Some(text.clone()), tokens: Vec::new() };
        let prompts = match &own.prompt {
            PromptBody::Text(text) => vec![sent(text)],
            PromptBody::Texts(texts) => texts.iter().map(sent).collect(),
            PromptBody::Tokens(_) => vec![Echoed::default()],
            PromptBody::TokenLists(lists) => lists.iter().map(|_| Echoed::default()).collect(),
        };
        Ok(Some(Self { choices: usize::from(shared.choices()), judged, prompts }))
    }

    /// Has prompts of token ids spelled, unless they are judged, which spells them too.
    pub async fn spell(&mut self, client: &Client, model: Option<&str>, prompts: &[Vec<u32>]) -> Result<(), Error> {
        if self.judged {
            return Ok(());
        }
        for (echoed, tokens) in self.prompts.iter_mut().zip(prompts) {
            let request = DetokenizeRequest { model: model.map(str::to_owned), tokens: tokens.clone() };
            let spelled = client.detokenize(request).await;
            echoed.text = Some(spelled.map_err(|error| error.param("prompt"))?);
        }
        Ok(())
    }

    /// Whether all of it is known before any answer is.
    pub fn is_known(&self) -> bool {
        !self.judged
    }

    /// Adds tokens of the prompt that a choice answers, if anything is said of them.
    pub fn hear(&mut self, choice: usize, tokens: Vec<PromptToken>) {
        if self.judged
            && let Some(echoed) = self.prompts.get_mut(choice / self.choices.max(1))
        {
            echoed.tokens.extend(tokens);
        }
    }

    /// Returns what goes before a choice, and what is said of its tokens.
    pub fn before(&self, choice: usize) -> (String, TextLogprobs) {
        let Some(echoed) = self.prompts.get(choice / self.choices.max(1)) else { return Default::default() };
        let text = echoed.text.clone().unwrap_or_else(|| spelled(&echoed.tokens));
        let logprobs = TextLogprobs::of_prompt(&echoed.tokens, &text);
        (text, logprobs)
    }
}

fn spelled(tokens: &[PromptToken]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.bytes.iter().copied()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
