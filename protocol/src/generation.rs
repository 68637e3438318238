//! The words of text generation: what is asked for, and the pieces an answer arrives in.
//!
//! One request type serves every dialect; the HTTP bridge translates into it and out of it. Fields that are `None`
//! take the model's own `generation_config.json` value, then the daemon's default. A JSON request may leave out whatever
//! has a default; bincode always carries everything.

use serde::{Deserialize, Serialize};

/// A JSON document carried as text, because bincode cannot carry a free-form value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Json(pub String);

/// Asks for one or more completions of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateRequest {
    /// The model's name; `None` takes the daemon's default model.
    pub model: Option<String>,
    /// What to continue or answer.
    pub prompt: Prompt,
    /// How tokens are drawn.
    #[serde(default)]
    pub sampling: Sampling,
    /// When to stop.
    #[serde(default)]
    pub stop: Stop,
    /// How many alternatives to report beside each token, 0 to 20; `None` reports no log-probabilities.
    pub logprobs: Option<u8>,
    /// How many independent answers, 1 to 128.
    #[serde(default = "one")]
    pub choices: u16,
    /// Who goes first when the machine is full.
    #[serde(default)]
    pub priority: Priority,
    /// After how many milliseconds, queueing and loading included, the work is given up; `None` takes the daemon's limit.
    pub deadline_ms: Option<u64>,
    /// The shape that every answer is held to, after any reasoning.
    pub constraint: Option<Constraint>,
    /// Whether the tokens of the prompt are reported too, with as many alternatives as `logprobs` says.
    #[serde(default)]
    pub prompt_logprobs: bool,
    /// Whether it is a further part of a request of several prompts, which counts as one of its key's day with its first.
    #[serde(default)]
    pub further: bool,
    /// How many further parts like it follow. It begins only where its key has tokens left for the answers to all, so that
    /// none is refused when others have spent some.
    #[serde(default)]
    pub following: u16,
}

impl GenerateRequest {
    /// Asks for one answer to `prompt`, everything else left to the model and the daemon.
    pub fn new(model: Option<String>, prompt: Prompt) -> Self {
        Self {
            model,
            prompt,
            sampling: Sampling::default(),
            stop: Stop::default(),
            logprobs: None,
            choices: one(),
            priority: Priority::default(),
            deadline_ms: None,
            constraint: None,
            prompt_logprobs: false,
            further: false,
            following: 0,
        }
    }
}

/// How many choices a JSON request gets that does not say.
fn one() -> u16 {
    1
}

/// The shape of an answer. A whole answer always fits it; one that `max_tokens` cuts off is a beginning of one that does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Constraint {
    /// A JSON document of this schema.
    JsonSchema {
        /// The schema.
        schema: Json,
        /// Whether a schema that cannot be enforced in full is refused; otherwise what cannot be enforced is left out.
        strict: bool,
    },
    /// Any JSON object.
    JsonObject,
    /// A whole match of this regular expression.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text of this Lark grammar, whose first rule is `start`.
    Lark(String),
}

/// What the model is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Prompt {
    /// A conversation, rendered by the model's chat template.
    Chat(Chat),
    /// Raw text, without any template.
    Text(String),
    /// Token ids, used as they are.
    Tokens(Vec<u32>),
}

/// A conversation and what the model may do in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chat {
    /// The turns so far, oldest first.
    pub messages: Vec<Message>,
    /// The functions the model may call.
    pub tools: Vec<Tool>,
    /// Whether it may, must or must not call one.
    pub tool_choice: ToolChoice,
    /// Whether it may call no more than one.
    pub single_tool_call: bool,
    /// Whether a reasoning model thinks first; `None` leaves it to the template.
    pub thinking: Option<bool>,
    /// The most tokens of reasoning; the answer begins then. `None` sets no limit.
    pub thinking_budget: Option<u32>,
    /// More template variables (`chat_template_kwargs`), a JSON object.
    pub template_arguments: Option<Json>,
    /// Where the prompt ends and the answer begins.
    pub ending: Ending,
}

/// Where the prompt of a conversation ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Where a new turn of the assistant begins.
    #[default]
    NewTurn,
    /// Where the text of the last message does, which is the assistant's: the answer goes on with it, and holds only what follows.
    LastMessage,
    /// Behind the last turn, as the template ends it.
    Closed,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; empty where a turn only calls tools.
    #[serde(default)]
    pub content: String,
    /// The reasoning that went before an assistant's content, if it is kept.
    pub reasoning: Option<String>,
    /// The calls an assistant made in this turn.
    #[serde(default)]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool's message answers.
    pub tool_call_id: Option<String>,
    /// The name of the tool or of the participant.
    pub name: Option<String>,
}

impl Message {
    /// A turn that only says something.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        let content = content.into();
        Self { role, content, reasoning: None, tool_calls: Vec::new(), tool_call_id: None, name: None }
    }
}

/// Who speaks in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The instructions.
    System,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// The function's name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    pub parameters: Option<Json>,
    /// Whether arguments always fit the schema, and a schema that cannot be enforced in full is refused.
    #[serde(default)]
    pub strict: bool,
}

/// Whether tools may be called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToolChoice {
    /// The model decides. Once it begins a call, its name is one of the tools', and the arguments fit as with `Required`.
    #[default]
    Auto,
    /// The model is not shown the tools.
    None,
    /// The model must call some tool; the arguments fit its schema, but for what is not enforced. That is refused where
    /// the tool is strict. Where a model writes texts without quotes, their `pattern`, `format` and lengths are not.
    Required,
    /// The model must call the named tool, once; the arguments fit as with `Required`.
    Named(String),
}

/// A finished call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The call's id, `call_` and 24 letters or digits.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// Its arguments, a JSON object as text.
    pub arguments: Json,
}

/// How tokens are drawn from the model's distribution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// 0 is greedy; at most 2.
    pub temperature: Option<f32>,
    /// Nucleus share, 0 to 1; 0 leaves the likeliest token alone.
    pub top_p: Option<f32>,
    /// How many of the likeliest tokens stay; 0 is all.
    pub top_k: Option<u32>,
    /// The least probability relative to the likeliest token, 0 to 1.
    pub min_p: Option<f32>,
    /// Divides the logits of tokens already seen; 1 is off.
    pub repetition_penalty: Option<f32>,
    /// At how many of the last tokens of prompt and answer that penalty looks; all of them unless given.
    pub repetition_window: Option<u32>,
    /// Whether the presence and frequency penalties look at those same tokens, in place of the answer's.
    pub one_window: bool,
    /// Subtracted once from the logits of tokens already generated; -2 to 2.
    pub presence_penalty: Option<f32>,
    /// Subtracted per occurrence from the logits of tokens already generated; -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// The share of probability that the most typical tokens must reach together, above 0 and at most 1; 1 is off.
    pub typical_p: Option<f32>,
    /// How often all likely tokens but the least likely of them are left out (XTC), 0 to 1; 0 is off.
    pub xtc_probability: Option<f32>,
    /// From which probability a token is likely to XTC, 0 to 1; 0.1 unless given.
    pub xtc_threshold: Option<f32>,
    /// What the shortest repetition costs that is penalised (DRY), 0 to 100; 0 is off.
    pub dry_multiplier: Option<f32>,
    /// By what each further token of a repetition multiplies that, 1 to 100; 1.75 unless given.
    pub dry_base: Option<f32>,
    /// The shortest repetition that is penalised, in tokens; 2 unless given.
    pub dry_allowed_length: Option<u32>,
    /// Texts that no repetition goes past, at most 64; a line's end, `:`, `"` and `*` unless given.
    pub dry_breakers: Option<Vec<String>>,
    /// Whether mirostat 2 chooses which tokens stay, in place of `top_k`, `top_p`, `min_p`, `typical_p` and XTC.
    pub mirostat: bool,
    /// The surprise of a token that mirostat aims at, in bits, 0 to 100; 5 unless given.
    pub mirostat_tau: Option<f32>,
    /// How much of a miss mirostat makes up for with the next token, 0 to 1; 0.1 unless given.
    pub mirostat_eta: Option<f32>,
    /// Added to the logits of single tokens; -100 to 100.
    pub logit_bias: Vec<(u32, f32)>,
    /// Makes the draw repeatable; `None` lets the daemon choose and report one.
    pub seed: Option<u64>,
}

/// When an answer ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stop {
    /// Texts that end the answer and are not part of it; at most 16.
    pub strings: Vec<String>,
    /// Tokens that end the answer besides the model's own.
    pub tokens: Vec<u32>,
    /// Whether the model's own end-of-turn tokens are ignored.
    pub ignore_eos: bool,
    /// The most tokens one choice may have; `None` takes what the context leaves, and 0 only reports the prompt's.
    pub max_tokens: Option<u32>,
    /// Whether a choice may have fewer where the context leaves no more for it; otherwise that is refused.
    pub or_fewer: bool,
    /// The fewest tokens before an end-of-turn token may be drawn, or a stop string counts.
    pub min_tokens: u32,
}

/// Who goes first when the machine is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Priority {
    /// Batch work.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Interactive work, before all other; for administrators alone.
    High,
}

/// The first event of a generation: the prompt was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The model that answers.
    pub model: String,
    /// The prompt's length in tokens.
    pub prompt_tokens: u32,
    /// The seed in use, given or chosen.
    pub seed: u64,
    /// The most tokens that one choice may have.
    pub max_tokens: u32,
}

/// More of one choice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Which choice, from 0.
    pub choice: u16,
    /// More of the answer; never half a character.
    pub text: String,
    /// More of the reasoning before the answer.
    pub reasoning: String,
    /// More of the tool calls.
    pub tool_calls: Vec<ToolCallDelta>,
    /// How many tokens this delta accounts for.
    pub tokens: u32,
    /// One entry per token of this delta, if asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// The next tokens of the prompt, if asked for: all of them before the first of the answer, and with choice 0 only.
    pub prompt: Vec<PromptToken>,
}

/// More of one tool call; id and name come with its first delta, arguments as text to append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCallDelta {
    /// Which call of this choice, from 0.
    pub index: u16,
    /// The call's id, on its first delta.
    pub id: Option<String>,
    /// The function's name, on its first delta.
    pub name: Option<String>,
    /// More of the arguments' JSON text.
    pub arguments: String,
}

/// How likely a token was, and what else could have come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Its bytes; a single token may be half a character.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability before temperature and filters.
    pub logprob: f32,
    /// The likeliest alternatives, best first: token, bytes, log-probability.
    pub top: Vec<(u32, Vec<u8>, f32)>,
}

/// A token of the prompt, and how likely it was after those before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptToken {
    /// The token.
    pub token: u32,
    /// Its bytes; a single token may be half a character.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability; `None` for the first, which comes after nothing.
    pub logprob: Option<f32>,
    /// The likeliest tokens in its place, best first: token, bytes, log-probability.
    pub top: Vec<(u32, Vec<u8>, f32)>,
}

/// One choice is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoiceFinished {
    /// Which choice, from 0.
    pub choice: u16,
    /// Why it ended.
    pub reason: FinishReason,
    /// The stop string that ended it, if one did.
    pub stop_string: Option<String>,
}

/// Why a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The model ended its turn, or a stop string or token matched.
    Stop,
    /// `max_tokens` or the context was reached.
    Length,
    /// The model called tools.
    ToolCalls,
}

/// The last event of a generation that went well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// What was read and written.
    pub usage: Usage,
    /// How long it took.
    pub timing: Timing,
    /// What was guessed ahead, and how well.
    pub speculation: Speculation,
    /// Why no more of the prompt came from the prefix cache; `None` if nothing was computed.
    pub missed: Option<Missed>,
}

/// How many tokens were guessed ahead; no guess changes an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speculation {
    /// Tokens guessed.
    pub drafted: u32,
    /// How many of them were right.
    pub accepted: u32,
}

/// Why no more of a prompt came from the prefix cache. Positions are in tokens from the start of the rendered prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missed {
    /// All of it came from there that can: what is before the last token, and nothing that is reported itself. Of a model with
    /// recurrent states, whole blocks of that.
    Nothing,
    /// What stood at this position was in the cache, and gave way to other prompts.
    Evicted(u32),
    /// A cached prompt begins like this one, and differs from this position on.
    Differs(u32),
    /// Nothing cached goes on from this position.
    New(u32),
}

/// Token counts over all choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// How many of them came from the prefix cache.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// How many of those were reasoning.
    pub reasoning_tokens: u32,
}

/// Durations in microseconds, measured where the work happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From arrival in the worker to the first prefill step.
    pub queue_us: u64,
    /// From the first prefill step to the first token.
    pub prefill_us: u64,
    /// From the first token to the last.
    pub decode_us: u64,
}
