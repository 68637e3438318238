//! From a request to a generation that can run: checked, rendered, made of tokens.
//!
//! A few threads of its own work behind a bounded queue, so that a prompt of a million letters delays neither a running
//! answer nor a short prompt. Every refusal of a request for what it asks happens here, with the field's name and the
//! figures. It never truncates a prompt. The heartbeat sends jobs and gets generations through its inbox; questions are
//! answered from here.

pub mod ask;
mod chat;
mod conversation;
mod habits;
mod held;
mod line;
mod ranges;
mod recalled;
pub mod renderer;
mod shape;
mod shown;
#[cfg(test)]
mod tests;
mod turns;
mod window;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Builder;
use std::time::{Duration, Instant};

use engine::LoadError;
use engine::text::{
    Detokenizer, DrySettings, GenerationDefaults, Grammars, Matcher, Mirostat, Sampler, Sampling, Special, Start,
    Template, TextError, Tokenizer,
};
use pipe::{Ask, FromWorker, Question, Submit, WorkId};
use protocol::generation::{GenerateRequest, Prompt, Speculation, ToolChoice};
use protocol::model::ModelFacts;
use protocol::{Error, ErrorKind};
use scheduler::Salt;

use crate::emit::Emitter;
use crate::follow::{Follower, Scout};
use crate::generation::{Budget, Choice, ChoiceParts, Clock, Ends, Generation, Ticket};
use crate::inbox::Message;
use crate::lookout::{For, Lookout};
use crate::output::{Functions, HARMONY_SHOWN, Output, OutputOptions, ReasoningTags};
use crate::quota;
use habits::Habits;
use held::Tried;
use line::Line;
use recalled::Recalled;
use renderer::{Renderer, Rendering};
use shape::{Formats, Held};
use shown::Shown;
use turns::Turns;
pub use window::Window;

/// How many prompts are read at once, one of which is short: neither long ones nor a template that does not end stop others.
const THREADS: usize = 4;
/// Bytes from which a prompt is long: it takes a tenth of a second to read, and one of 15 MB a second.
const LONG_BYTES: usize = 256 << 10;
/// How many of them may try a grammar at once, which takes seconds if it is hostile.
const TRIALS_MAX: usize = 2;
/// How long another grammar waits before its request is told to come again.
const TRIAL_PATIENCE: Duration = Duration::from_millis(200);

/// What the prompt thread is to do.
pub enum Job {
    /// Makes a generation of a request.
    Prepare {
        /// Its name inside this worker.
        ticket: Ticket,
        /// What is asked.
        submit: Box<Submit>,
        /// When it arrived.
        arrived: Instant,
        /// Gone once nobody waits for it.
        wanted: Weak<()>,
    },
    /// Answers a question.
    Ask(Ask),
}

impl Job {
    /// Whether it takes long to read, and so may not hold every thread.
    fn is_long(&self) -> bool {
        let of_prompt = |prompt: &Prompt| match prompt {
            Prompt::Chat(chat) => chat.messages.iter().map(|message| message.content.len()).sum(),
            Prompt::Text(text) => text.len(),
            Prompt::Tokens(_) => 0,
        };
        let bytes = match self {
            Self::Prepare { submit, .. } => of_prompt(&submit.request.prompt),
            Self::Ask(Ask { question: Question::Tokenize(request), .. }) => of_prompt(&request.prompt),
            Self::Ask(Ask { question: Question::Detokenize(request), .. }) => request.tokens.len(),
        };
        bytes > LONG_BYTES
    }

    /// Whether somebody waits for it.
    pub fn is_wanted(&self) -> bool {
        match self {
            Self::Prepare { wanted, .. } => wanted.strong_count() > 0,
            Self::Ask(_) => true,
        }
    }
}

/// What came of a job.
pub struct Prepared {
    /// The job's name inside this worker.
    pub ticket: Ticket,
    /// Its name on the pipe.
    pub work: WorkId,
    /// The generation, or why there is none.
    pub result: Result<Box<Generation>, Error>,
}

/// Turns requests into generations.
pub struct Prompter {
    tokenizer: Tokenizer,
    template: Option<Template>,
    renderer: Renderer,
    habits: Habits,
    /// Where the template shows tools, once that was asked.
    shown: OnceLock<Shown>,
    /// How the template takes past calls, once that was asked: without tools, and with them.
    recalled: [OnceLock<Recalled>; 2],
    /// What the model's files say about ending and sampling.
    defaults: GenerationDefaults,
    facts: ModelFacts,
    name: String,
    window: Window,
    grammars: Grammars,
    trials: Turns,
    tried: Tried,
    /// Where constrained answers find their next tokens.
    scout: Scout,
}

/// What the model is given.
struct Source<'a> {
    tokens: Vec<u32>,
    /// Where its answer stands.
    start: Start,
    /// How its answer is to be read; raw prompts have plain answers.
    formats: Formats,
    /// What its answer is held to.
    held: Option<Held<'a>>,
    /// What its calls may call.
    functions: Functions,
    /// How long it may reason.
    budget: Option<Budget>,
}

impl Prompter {
    /// Reads the text side of the model folder that the renderer knows.
    pub fn open(renderer: Renderer, name: &str, facts: &ModelFacts, window: Window) -> Result<Self, LoadError> {
        let dir = &renderer.dir;
        let tokenizer = Tokenizer::open(dir)?;
        let template = Template::open(dir)?;
        let defaults = GenerationDefaults::open(dir, &tokenizer, template.as_ref())?;
        let habits = template.as_ref().map(Habits::of).unwrap_or_default();
        let grammars = Grammars::new(&tokenizer, &defaults.eos, facts.vocabulary);
        let scout = Scout::start();
        let (facts, name) = (facts.clone(), name.to_string());
        let trials = Turns::new(TRIALS_MAX);
        let (shown, recalled) = (OnceLock::new(), Default::default());
        Ok(Self {
            tokenizer,
            template,
            renderer,
            habits,
            shown,
            recalled,
            defaults,
            facts,
            name,
            window,
            grammars,
            trials,
            tried: Tried::default(),
            scout,
        })
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// A rendering process that is ready for the first conversation, if the model takes any.
    pub fn rendering(&self) -> Result<Rendering, Error> {
        let mut rendering = self.renderer.rendering();
        if self.template.is_some() {
            rendering.start().map_err(|error| Error::new(ErrorKind::ModelNotLoaded, error.to_string()))?;
        }
        Ok(rendering)
    }

    /// Works on a few threads until nobody sends jobs or nobody hears of the results.
    pub fn start(
        self,
        first: Rendering,
        jobs: Receiver<Job>,
        inbox: &SyncSender<Message>,
        emitter: &Emitter,
        lookout: &Lookout,
    ) -> std::io::Result<()> {
        let (prompter, line) = (Arc::new(self), Arc::new(Line::new(jobs, THREADS - 1, Job::is_long, Job::is_wanted)));
        let mut first = Some(first);
        for _ in 0..THREADS {
            let mut rendering = first.take().unwrap_or_else(|| prompter.renderer.rendering());
            let (prompter, line, inbox, emitter) = (prompter.clone(), line.clone(), inbox.clone(), emitter.clone());
            let lookout = lookout.clone();
            Builder::new()
                .name("prompts".to_string())
                .spawn(move || prompter.run(&mut rendering, &line, &inbox, &emitter, &lookout))?;
        }
        Ok(())
    }

    fn run(
        &self,
        rendering: &mut Rendering,
        line: &Line<Job>,
        inbox: &SyncSender<Message>,
        emitter: &Emitter,
        lookout: &Lookout,
    ) {
        while let Some(mut taken) = line.next() {
            let Some(job) = taken.job.take() else { continue };
            let heard = match job {
                Job::Prepare { ticket, submit, arrived, .. } => {
                    let work = submit.id;
                    let read = || survive(|| self.prepare(*submit, arrived, rendering)).map(Box::new);
                    let result = lookout.watch(For::Work(work), read);
                    inbox.send(Message::Prepared(Prepared { ticket, work, result })).is_ok()
                }
                Job::Ask(Ask { id, question, received_unix_ms }) => {
                    let read = || survive(|| self.answer(&question, received_unix_ms, rendering));
                    let result = lookout.watch(For::Ask(id), read);
                    emitter.send(FromWorker::Answer(id, result)).is_ok()
                }
            };
            if !heard {
                return;
            }
        }
    }

    /// Makes a generation of a request.
    pub fn prepare(&self, submit: Submit, arrived: Instant, rendering: &mut Rendering) -> Result<Generation, Error> {
        let Submit {
            id: work,
            request,
            client,
            salt,
            seed,
            received_unix_ms,
            delivered,
            prompt_told,
            tokens_allowed,
            trace: _,
        } = submit;
        ranges::check(&request, self.facts.vocabulary)?;
        let source = self.source(&request, received_unix_ms, rendering)?;
        let matcher = self.matcher(&request, source.held.as_ref(), rendering)?;
        let (prompt, choices) = (source.tokens.len(), request.choices);
        let tokens_max = self.window.room(&request.stop, prompt)?;
        let tokens_max = quota::share(tokens_allowed, prompt, choices, tokens_max, received_unix_ms)?;
        let ends = Arc::new(self.ends(&request, tokens_max));
        let mut generation = Generation {
            work,
            prompt: Vec::new(),
            prompt_told: request.prompt_logprobs.then_some(prompt_told),
            seed,
            client,
            salt: Salt(salt),
            priority: request.priority,
            resumed: !delivered.is_empty(),
            choices: Vec::new(),
            ends_untold: Vec::new(),
            cached_tokens: 0,
            missed: None,
            guessers: Vec::new(),
            speculation: Speculation::default(),
            clock: Clock::new(arrived),
        };
        let mut delivered = delivered.into_iter();
        for index in 0..request.choices {
            let sampling = self.sampling(&request, index, &ends, seed, matcher.is_some());
            let mut choice = self.choice(&request, sampling, &ends, &source, matcher.as_ref())?;
            if let Some(delivered) = delivered.next() {
                let end = choice.replay(delivered).map_err(|error| Error::internal(error.to_string()))?;
                generation.ends_untold.extend(end);
            }
            choice.look_ahead();
            generation.choices.push(choice);
        }
        generation.prompt = source.tokens;
        Ok(generation)
    }

    /// What the model is given.
    fn source<'a>(
        &self,
        request: &'a GenerateRequest,
        now_unix_ms: i64,
        rendering: &mut Rendering,
    ) -> Result<Source<'a>, Error> {
        let encode = |text: &str, special| {
            let tokens = self.tokenizer.encode_at_most(text, special, self.window.most() as usize);
            tokens.map_err(|error| match error {
                TextError::TooLong { more_than } => {
                    self.window.too_long(&format!("the prompt has more than {more_than}"))
                }
                error => Error::invalid("prompt", error.to_string()),
            })
        };
        let constraint = request.constraint.as_ref();
        let plain = |tokens| {
            let held = constraint.map(shape::of_constraint).transpose()?.map(Held::wholly);
            let (formats, functions) = (Formats::default(), Functions::default());
            Ok::<_, Error>(Source { tokens, start: Start::Middle, formats, held, functions, budget: None })
        };
        let source = match &request.prompt {
            Prompt::Chat(chat) => {
                let (text, formats) = self.render(chat, now_unix_ms, rendering)?;
                let shown = !chat.tools.is_empty() && chat.tool_choice != ToolChoice::None;
                let held = shape::of_chat(chat, shown, constraint, formats)?;
                let (functions, budget) = (shape::functions(chat), self.budget(chat, formats, held.is_some())?);
                let tokens = encode(&text, Special::Parse)?;
                let start = if formats.begun { Start::Middle } else { Start::Text };
                Source { tokens, start, formats, held, functions, budget }
            }
            Prompt::Text(text) => plain(encode(text, Special::Begin)?)?,
            Prompt::Tokens(tokens) => {
                tokens.iter().try_for_each(|token| ranges::known("prompt", *token, self.facts.vocabulary))?;
                plain(tokens.clone())?
            }
        };
        if source.tokens.is_empty() {
            return Err(Error::invalid("prompt", "the prompt is empty; give at least one token"));
        }
        self.check_tokenizer(&source.tokens)?;
        Ok(source)
    }

    /// Refuses what only a tokenizer of another model can give: a step with such a token would end the worker.
    fn check_tokenizer(&self, tokens: &[u32]) -> Result<(), Error> {
        let vocabulary = self.facts.vocabulary;
        let Some(token) = tokens.iter().find(|token| **token >= vocabulary) else { return Ok(()) };
        let message =
            format!("the tokenizer of {} gives token {token}, and its weights end at {}", self.name, vocabulary - 1);
        Err(Error::new(ErrorKind::Unsupported, message)
            .param("prompt")
            .hint("its tokenizer.json is of another model; download the folder again"))
    }

    fn choice(
        &self,
        request: &GenerateRequest,
        sampling: Sampling,
        ends: &Arc<Ends>,
        source: &Source<'_>,
        matcher: Option<&Matcher>,
    ) -> Result<Choice, Error> {
        let index = sampling.choice;
        let Formats { reasoning, may_reason, wrapped, tools, harmony, begun } = source.formats;
        // An answer that is held from its first token begins at once.
        let (lazy, held) = (source.held.as_ref().is_some_and(|held| held.lazily), matcher.is_some());
        let reasoning = reasoning.or((may_reason && (lazy || !held)).then_some(ReasoningTags::UNSAID));
        let mut detokenizer = Detokenizer::new(&self.tokenizer, source.start);
        detokenizer = detokenizer.showing(reasoning.iter().flat_map(ReasoningTags::shown));
        detokenizer = detokenizer.showing(tools.iter().flat_map(|tools| tools.shown().iter().copied()));
        detokenizer = detokenizer.showing(HARMONY_SHOWN.iter().copied().filter(|_| harmony));
        let output = Output::new(OutputOptions {
            stop_strings: self.stop_strings(request),
            reasoning,
            wrapped,
            tools,
            shaped: request.constraint.is_some(),
            functions: source.functions.clone(),
            harmony,
            begun,
            calls_only: source.held.as_ref().is_some_and(|held| held.calls_only),
            call_id_seed: call_id_seed(&source.tokens, &sampling),
        });
        let mut sampler = Sampler::new(sampling)
            .map_err(|error| Error::invalid("sampling", error.to_string()))?
            .reading(&self.tokenizer);
        sampler.observe_prompt(&source.tokens);
        Ok(Choice::new(ChoiceParts {
            index,
            ends: ends.clone(),
            sampler,
            detokenizer,
            output,
            follower: matcher.map(|matcher| Follower::new(matcher.fork(), &self.scout, lazy)),
            budget: source.budget.clone(),
            logprobs: request.logprobs.map(|_| self.tokenizer.clone()),
            judges_end: request.prompt_logprobs,
        }))
    }

    /// A request's own settings go first, then the model's.
    fn sampling(&self, request: &GenerateRequest, choice: u16, ends: &Ends, seed: u64, held: bool) -> Sampling {
        let (own, asked) = (&self.defaults, &request.sampling);
        Sampling {
            temperature: asked.temperature.or(own.temperature).unwrap_or(1.0),
            top_k: asked.top_k.or(own.top_k).unwrap_or(0),
            top_p: asked.top_p.or(own.top_p).unwrap_or(1.0),
            min_p: asked.min_p.or(own.min_p).unwrap_or(0.0),
            repetition_penalty: asked.repetition_penalty.or(own.repetition_penalty).unwrap_or(1.0),
            repetition_window: asked.repetition_window,
            one_window: asked.one_window,
            presence_penalty: asked.presence_penalty.unwrap_or(0.0),
            frequency_penalty: asked.frequency_penalty.unwrap_or(0.0),
            typical_p: asked.typical_p.or(own.typical_p).unwrap_or(1.0),
            xtc_probability: asked.xtc_probability.unwrap_or(0.0),
            xtc_threshold: asked.xtc_threshold.unwrap_or(0.1),
            xtc_keep: self.line_breaks().chain(ends.tokens.iter().copied()).collect(),
            dry: asked.dry_multiplier.map(|multiplier| dry(multiplier, asked)),
            mirostat: asked
                .mirostat
                .then(|| Mirostat { tau: asked.mirostat_tau.unwrap_or(5.0), eta: asked.mirostat_eta.unwrap_or(0.1) }),
            logit_bias: asked.logit_bias.clone(),
            seed,
            choice,
            eos: ends.tokens.iter().copied().collect(),
            unwanted: if request.stop.ignore_eos && held { self.defaults.eos.clone() } else { Vec::new() },
            min_tokens: ends.tokens_min,
            logprobs: request.logprobs,
        }
    }

    /// The tokens that are a line break and nothing else.
    fn line_breaks(&self) -> impl Iterator<Item = u32> {
        let tokens = self.tokenizer.encode("\n", Special::Plain).unwrap_or_default();
        tokens.into_iter().filter(|token| self.tokenizer.token_bytes(*token) == b"\n")
    }

    fn ends(&self, request: &GenerateRequest, tokens_max: u32) -> Ends {
        let own = if request.stop.ignore_eos { &[][..] } else { &self.defaults.eos };
        let tokens_min = match request.stop.min_tokens {
            0 => self.defaults.min_tokens.unwrap_or(0).min(tokens_max),
            asked => asked,
        };
        Ends { tokens: own.iter().chain(&request.stop.tokens).copied().collect(), tokens_min, tokens_max }
    }

    fn stop_strings(&self, request: &GenerateRequest) -> Vec<String> {
        let own = if request.stop.ignore_eos { &[][..] } else { &self.defaults.stop_strings };
        request.stop.strings.iter().chain(own).cloned().collect()
    }
}

/// Nothing here changes while a prompt is read, so a defect that one text brings to light ends one request.
fn survive<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::internal("reading the prompt failed; the log has the cause")))
}

/// What a repetition costs.
fn dry(multiplier: f32, asked: &protocol::generation::Sampling) -> DrySettings {
    DrySettings {
        multiplier,
        base: asked.dry_base.unwrap_or(1.75),
        allowed_length: asked.dry_allowed_length.unwrap_or(2),
        breakers: asked.dry_breakers.clone().unwrap_or_else(|| ["\n", ":", "\"", "*"].map(String::from).to_vec()),
    }
}

/// Differs between choices and between the turns of a conversation, whose calls must not share an id; the same for a
/// resumed answer.
fn call_id_seed(prompt: &[u32], sampling: &Sampling) -> u64 {
    // FNV-1a.
    let mix = |hash: u64, value: u64| (hash ^ value).wrapping_mul(0x0100_0000_01B3);
    let start = mix(mix(0xCBF2_9CE4_8422_2325, sampling.seed), u64::from(sampling.choice));
    prompt.iter().fold(start, |hash, token| mix(hash, u64::from(*token)))
}
