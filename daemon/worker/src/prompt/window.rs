//! How long a prompt and its answer may be, and the words in which what does not fit is refused. Only `prompt` asks.

use protocol::generation::Stop;
use protocol::{Error, ErrorKind};

/// How many positions a sequence may have.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// What the model was configured for.
    pub context: u32,
    /// What the KV cache holds.
    pub capacity: u32,
}

impl Window {
    /// The most tokens of a prompt and its answer.
    pub fn most(self) -> u32 {
        self.context.min(self.capacity)
    }

    /// How many tokens an answer may have after a prompt; refuses a prompt that leaves none, or fewer than are asked for
    /// where it may not be fewer.
    pub fn room(self, stop: &Stop, prompt: usize) -> Result<u32, Error> {
        let room = u64::from(self.most()).saturating_sub(prompt as u64);
        let fits = |asked: u64| if stop.or_fewer && room > 0 { asked.min(room) } else { asked };
        let asked = stop.max_tokens.map(u64::from).map(fits);
        if asked.unwrap_or(1) <= room {
            return Ok(asked.unwrap_or(room) as u32);
        }
        let refused = self.too_long(&match asked {
            Some(asked) => {
                format!("the prompt has {prompt} and max_tokens asks for {asked}, {} in all", prompt as u64 + asked)
            }
            None => format!("the prompt has {prompt} and leaves no room for an answer"),
        });
        Err(if asked.is_some() && room > 0 { refused.param("max_tokens") } else { refused })
    }

    /// Refuses a prompt that does not fit.
    pub fn too_long(self, wanted: &str) -> Error {
        let message = format!("This model's maximum context length is {} tokens; {wanted}", self.most());
        let hint = match self.capacity < self.context {
            true => {
                format!("the model could take {}: give its KV cache more memory, or shorten the prompt", self.context)
            }
            false => "shorten the prompt, or lower max_tokens".to_string(),
        };
        Error::new(ErrorKind::ContextLengthExceeded, message).param("messages").hint(hint)
    }
}
