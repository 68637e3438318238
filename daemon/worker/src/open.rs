//! A model folder becomes everything that a worker works with: weights, cache, scheduler, tokenizer, template.
//!
//! It tells the daemon how far the load has come and turns memory into blocks. What does not fit is refused with the
//! arithmetic. `serve` calls it once; nothing is ever loaded again in this process.

use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use engine::{Keep, LoadError, Model, Options, Precision, STATE_TOKENS, State, Wanted};
use pipe::{FromWorker, Open, Pulse, Ready};
use protocol::model::ModelFacts;
use protocol::{Error, ErrorKind};
use scheduler::{BLOCK_TOKENS, Limits, Scheduler, blocks_for};

use crate::emit::Emitter;
use crate::facts::{self, load_error, resident_bytes};
use crate::generation::CHOICES_MAX;
use crate::inbox::Message;
use crate::prompt::renderer::{Renderer, Rendering};
use crate::prompt::{Prompter, Window};
use crate::render;
use crate::runner::{Drafter, Pace, Places, STEP_DRAFTS_MAX};
use crate::shelf::{self, Digest, Shelf, Sizes};

/// The shortest time between two reports of a load's progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What the logits of the prompts that are judged may take in one step, in bytes.
const JUDGED_BYTES: u64 = 32 << 20;

/// Everything that a worker works with.
pub struct Opened {
    /// The model in memory.
    pub model: Model,
    /// What guesses for it, if anything does.
    pub drafter: Option<Drafter>,
    /// Decides the steps.
    pub scheduler: Scheduler,
    /// Turns requests into generations.
    pub prompter: Prompter,
    /// Renders the first conversation.
    pub rendering: Rendering,
    /// How fast the machine is.
    pub pace: Pace,
    /// What bounds the requests.
    pub places: Places,
    /// How the shelf is opened, if there is one.
    pub shelf: Option<ShelfPlan>,
    /// What the daemon is told.
    pub ready: Ready,
}

/// What a shelf is opened with, once there is an inbox for what it brings.
pub struct ShelfPlan {
    options: pipe::Shelf,
    model: Digest,
    sizes: Sizes,
}

impl ShelfPlan {
    /// Opens the shelf; a worker without one works too.
    pub fn open(self, inbox: SyncSender<Message>) -> Option<Shelf> {
        let opened = Shelf::open(&self.options, self.model, self.sizes, inbox);
        opened
            .inspect_err(|error| tracing::warn!(%error, dir = %self.options.dir, "prefixes are not kept on disk"))
            .ok()
    }
}

/// Loads a model with these facts and tells the daemon how far it has come; `program` is this program.
pub fn open(open: &Open, facts: ModelFacts, program: &Path, emitter: &Emitter) -> Result<Opened, Error> {
    let started = Instant::now();
    let dir = Path::new(&open.path);
    let draft = open.draft.as_ref().filter(|_| open.draft_tokens_max > 0).map(Path::new);
    let draft_facts = draft.map(facts::inspect).transpose()?;
    let kv_bytes = facts.kv_bytes_per_token + draft_facts.map_or(0, |facts| facts.kv_bytes_per_token);
    let mut limits = limits(open, &facts, open.keep.bytes_per_token(kv_bytes) * u64::from(BLOCK_TOKENS))?;
    let digest = |block_bytes| shelf::model_digest(shelf::BUILD, dir, draft, block_bytes).ok();
    let window = Window { context: facts.context_length, capacity: limits.blocks.saturating_mul(BLOCK_TOKENS) };
    let renderer = Renderer::new(program, dir, render::RENDER_LIMITS);
    let text = || {
        let prompter = Prompter::open(renderer, &open.name, &facts, window).map_err(|error| load_error(&error))?;
        let rendering = prompter.rendering()?;
        Ok::<_, Error>((prompter, rendering))
    };
    let weights = || {
        let mut model = load(dir, open, &limits, emitter).map_err(|error| load_error(&error))?;
        reserve_states(&mut model, &mut limits)?;
        if open.warm_up {
            warm_up(&mut model)?;
        }
        Ok::<_, Error>(model)
    };
    let ((prompter, rendering), model) = at_once(text, weights)?;
    let drafter = draft.map(|draft| drafter(draft, open, &limits, &prompter, facts.parameters)).transpose()?;
    let pulse = Pulse { blocks_total: limits.blocks, memory_bytes: resident_bytes(), ..Pulse::default() };
    let load_ms = started.elapsed().as_millis() as u64;
    Ok(Opened {
        ready: Ready { facts, device: model.device(), load_ms, pulse },
        // A step that ends a prompt may have twice as many.
        pace: Pace::new(open.step_ms, open.prefill_tokens_max.div_ceil(2).max(1)),
        places: Places {
            name: open.name.clone(),
            sequences_max: limits.sequences_max,
            waiting_max: open.waiting_max,
            draft_tokens_max: open.draft_tokens_max,
            context_tokens: limits.context_tokens,
        },
        scheduler: Scheduler::new(limits),
        shelf: open.shelf.clone().filter(|options| options.bytes_max > 0).and_then(|options| {
            let block = model.block_bytes() + drafter.as_ref().map_or(0, Drafter::block_bytes);
            let sizes = Sizes { block, state: model.state_bytes() };
            Some(ShelfPlan { options, model: digest(block)?, sizes })
        }),
        model,
        drafter,
        prompter,
        rendering,
    })
}

/// Reads the text side on a thread of its own while this one loads the weights, and is the one that will use them: a large
/// vocabulary takes longer to read than the weights of a small model take to pack.
fn at_once<T: Send, M>(
    text: impl FnOnce() -> Result<T, Error> + Send,
    weights: impl FnOnce() -> Result<M, Error>,
) -> Result<(T, M), Error> {
    std::thread::scope(|scope| {
        let text = scope.spawn(text);
        let model = weights();
        let text = text.join().unwrap_or_else(|_| Err(Error::internal("reading the tokenizer failed by a defect")));
        Ok((text?, model?))
    })
}

/// What the memory and the daemon's wishes come to.
fn limits(open: &Open, facts: &ModelFacts, block_bytes: u64) -> Result<Limits, Error> {
    let sequences_max = open.sequences_max.max(1);
    // More than every place filled to the end of its context is of no use.
    let most = u64::from(blocks_for(facts.context_length)) * u64::from(sequences_max) * 2;
    let blocks = (open.kv_bytes / block_bytes.max(1)).min(most).min(u64::from(u32::MAX)) as u32;
    if blocks == 0 {
        let message = format!(
            "the KV cache may take {} bytes, and one block of {BLOCK_TOKENS} tokens takes {block_bytes}",
            open.kv_bytes
        );
        return Err(Error::new(ErrorKind::NoMemory, message).hint("give the KV cache more memory"));
    }
    let prefill_tokens_max = open.prefill_tokens_max.max(1);
    let requests_max = open.waiting_max.saturating_add(sequences_max);
    Ok(Limits {
        blocks,
        sequences_max,
        // Requests are counted before their sequences are made; this only bounds the memory.
        waiting_max: requests_max.saturating_mul(u32::from(CHOICES_MAX)),
        step_tokens_max: prefill_tokens_max.saturating_add(sequences_max).saturating_add(STEP_DRAFTS_MAX),
        prefill_tokens_max,
        context_tokens: context_tokens(facts),
        states: 0,
        report_evicted: open.shelf.is_some(),
        judged_max: (JUDGED_BYTES / (4 * u64::from(facts.vocabulary)).max(1)).clamp(1, 1 << 16) as u32,
    })
}

/// Turns the part of the cache's memory that is meant for it into recurrent states, where the model has them: two for each
/// sequence, one to go on from and one to go on to, and the others for prefixes.
fn reserve_states(model: &mut Model, limits: &mut Limits) -> Result<(), Error> {
    let state_bytes = model.facts().state_bytes;
    if state_bytes == 0 {
        return Ok(());
    }
    limits.states = limits.blocks.saturating_mul(BLOCK_TOKENS) / STATE_TOKENS;
    limits.sequences_max = limits.sequences_max.min(limits.states / 2);
    if limits.sequences_max == 0 {
        let message = format!(
            "the KV cache holds {} tokens and one recurrent state of {state_bytes} bytes for every {STATE_TOKENS} of them, \
             and a sequence needs two",
            limits.blocks.saturating_mul(BLOCK_TOKENS)
        );
        return Err(Error::new(ErrorKind::NoMemory, message).hint("give the KV cache more memory"));
    }
    model.reserve_states(limits.states).map_err(|error| load_error(&error))
}

/// Attending to how many positions costs as much as the rest of a token. Multiplications say parameters over the queries'
/// width; two queries share a key, as a rule, and attention computes half as fast. The pace makes up for what is wrong.
fn context_tokens(facts: &ModelFacts) -> u32 {
    let tokens = facts.parameters / (2 * facts.kv_bytes_per_token).max(1);
    u32::try_from(tokens).unwrap_or(u32::MAX).max(256)
}

fn load(dir: &Path, open: &Open, limits: &Limits, emitter: &Emitter) -> Result<Model, LoadError> {
    let options = options(open, limits);
    let mut told: Option<Instant> = None;
    let mut progress = |done, total| {
        if done == total || told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY) {
            told = Some(Instant::now());
            // If the daemon is gone, the reader ends this process.
            let _ = emitter.send(FromWorker::Loading { done, total });
        }
    };
    Model::open(dir, &options, &mut progress)
}

fn options(open: &Open, limits: &Limits) -> Options {
    let keep = match open.keep {
        pipe::Keep::Bf16 => Keep::Bf16,
        pipe::Keep::Int8 => Keep::Int8,
    };
    Options { threads: open.threads.max(1) as usize, blocks: limits.blocks, precision: Precision::Fast, keep }
}

/// Loads the draft model.
fn drafter(dir: &Path, open: &Open, limits: &Limits, prompter: &Prompter, parameters: u64) -> Result<Drafter, Error> {
    let drafter = Drafter::open(dir, &options(open, limits), prompter.tokenizer(), parameters);
    let mut drafter = drafter.map_err(|error| load_error(&error))?;
    if open.warm_up {
        drafter.warm_up().map_err(|error| Error::internal(format!("the draft model's first step failed: {error}")))?;
    }
    Ok(drafter)
}

/// Runs a first step, so that the first request does not wait for pages and caches to fill.
fn warm_up(model: &mut Model) -> Result<(), Error> {
    let row = engine::Row { tokens: &[0], start: 0, blocks: &[0], logits: Wanted::Last };
    let state = State { from: None, to: 0 };
    let states = if model.facts().state_bytes > 0 { std::slice::from_ref(&state) } else { &[] };
    model
        .forward_from(&[row], states, &mut Vec::new())
        .map_err(|error| Error::internal(format!("the first step failed: {error}")))
}
