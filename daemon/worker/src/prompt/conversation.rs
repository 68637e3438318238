//! A conversation as a prompt in the template's words, how its answer is to be read, and how long that may reason.
//!
//! Whatever the template cannot show the model is refused by name. Only `prompt` and its questions call this.

use engine::text::Special;
use protocol::generation::{Chat, Ending};
use protocol::{Error, ErrorKind};

use super::recalled::Recalled;
use super::renderer::Rendering;
use super::shape::Formats;
use super::shown::Shown;
use super::{Prompter, chat};
use crate::generation::Budget;
use crate::output::{HARMONY_TO_ANSWER, HARMONY_TO_NEXT, ReasoningTags, ToolFormat, is_wrapped};
use crate::render::ToRender;

impl Prompter {
    /// A conversation in the template's words, and how its answer is to be read.
    pub(super) fn render(
        &self,
        chat: &Chat,
        now_unix_ms: i64,
        rendering: &mut Rendering,
    ) -> Result<(String, Formats), Error> {
        let Some(template) = &self.template else {
            let message = format!("{} has no chat template, so it cannot hold a conversation", self.name);
            return Err(Error::new(ErrorKind::Unsupported, message)
                .param("messages")
                .hint("send the prompt as text, or choose an instruction-tuned model"));
        };
        chat::check_thinking(chat, template, &self.name, self.facts.capabilities.reasoning)?;
        let begun = chat::begun(chat)?;
        let mut messages = chat::messages(chat, &self.habits)?;
        let tools = chat::tools(chat, self.facts.capabilities.tools)?;
        if let Some(tools) = &tools {
            let find = || Shown::find(&self.habits, now_unix_ms, |ask| rendering.render(ask));
            self.shown.get_or_init(find).prepare(&mut messages, tools, &self.habits)?;
        }
        let (with_tools, format) = (tools.is_some(), ToolFormat::detect(template.tool_source()));
        if chat.messages.iter().any(|message| !message.tool_calls.is_empty()) {
            self.recalled(with_tools, format, now_unix_ms, rendering)?.prepare(&mut messages)?;
        }
        let arguments = chat::arguments(chat, template)?;
        let continue_final_message = begun.is_some();
        let add_generation_prompt = !continue_final_message && chat.ending != Ending::Closed;
        let text = rendering.render(ToRender {
            messages,
            tools,
            add_generation_prompt,
            continue_final_message,
            arguments,
            now_unix_ms,
        })?;
        let harmony = template.is_harmony();
        let tags = ReasoningTags::detect(template.source(), &text).filter(|_| !harmony);
        let reasoning = tags.and_then(|tags| begun.map_or(Some(tags), |begun| tags.after(begun)));
        let formats = Formats {
            harmony,
            may_reason: !harmony && tags.is_none() && begun.is_none(),
            reasoning,
            wrapped: reasoning.is_some() && is_wrapped(&text),
            tools: format.filter(|format| with_tools || format.marks_answers()),
            begun: begun.is_some(),
        };
        chat::check_begun_thinking(chat, &formats)?;
        Ok((text, formats))
    }

    /// How the template takes past calls.
    fn recalled(
        &self,
        with_tools: bool,
        format: Option<ToolFormat>,
        now_unix_ms: i64,
        rendering: &mut Rendering,
    ) -> Result<Recalled, Error> {
        let known = &self.recalled[usize::from(with_tools)];
        if let Some(recalled) = known.get() {
            return Ok(*recalled);
        }
        let found = Recalled::find(with_tools, format, now_unix_ms, |ask| rendering.render(ask))?;
        Ok(*known.get_or_init(|| found))
    }

    /// How long an answer may reason, if the request limits that; `held` says whether a grammar tells what follows.
    pub(super) fn budget(&self, chat: &Chat, formats: Formats, held: bool) -> Result<Option<Budget>, Error> {
        let none = (chat.thinking == Some(false)).then_some(0);
        let Some(tokens) = none.or(chat.thinking_budget) else { return Ok(None) };
        let close = match formats.reasoning {
            Some(tags) => tags.close,
            None if formats.harmony && held => HARMONY_TO_NEXT,
            None if formats.harmony => HARMONY_TO_ANSWER,
            // A model that does not reason stays within every budget.
            None => return Ok(None),
        };
        let close = self.tokenizer.encode(close, Special::Parse);
        let close = close.map_err(|error| Error::internal(error.to_string()))?;
        Ok(Some(Budget { tokens, close }))
    }
}
