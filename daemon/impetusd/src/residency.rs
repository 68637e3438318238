//! Which models are in memory: a pure function of what is wanted, what is loaded, the budget and the time.
//! It starts and ends nothing, and reads no clock. Called by `supervisor` whenever one of its inputs changes.

#[cfg(test)]
mod tests;

use protocol::model::ModelFacts;

/// What a model takes in memory, and what it could do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes of weights.
    pub weights: u64,
    /// Bytes of KV cache that serve it well.
    pub kv: u64,
    /// Bytes of KV cache that it can do with.
    pub kv_least: u64,
    /// Bytes of everything else.
    pub overhead: u64,
}

/// How large a KV cache should be.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    /// Tokens, or one full context if that is more.
    pub tokens: u32,
    /// Bytes at most.
    pub bytes_max: u64,
    /// Tokens at least, or one full context if that is less.
    pub tokens_min: u32,
    /// How keys and values are kept.
    pub keep: pipe::Keep,
    /// Bytes of a worker besides weights and cache.
    pub overhead: u64,
}

impl Size {
    /// Predicts what a model with these facts takes, together with the one that guesses for it.
    pub fn predict(facts: &ModelFacts, draft: Option<&ModelFacts>, limits: &CacheLimits) -> Self {
        let more = |of: fn(&ModelFacts) -> u64| draft.map_or(0, of);
        let kept = facts.kv_bytes_per_token.saturating_add(more(|draft| draft.kv_bytes_per_token));
        let token = if facts.capabilities.generates() { limits.keep.bytes_per_token(kept) } else { kept };
        let bytes = |tokens: u32| u64::from(tokens).saturating_mul(token);
        let least = bytes(limits.tokens_min.min(facts.context_length));
        // An encoder keeps nothing between steps, and a step holds one full text at most.
        let tokens =
            if facts.capabilities.generates() { limits.tokens.max(facts.context_length) } else { facts.context_length };
        let kv = bytes(tokens).min(limits.bytes_max).max(least);
        let weights = facts.weights_in_memory().saturating_add(more(ModelFacts::weights_in_memory));
        Self { weights, kv, kv_least: least, overhead: limits.overhead }
    }

    /// Bytes with the cache that serves it well.
    pub fn full(&self) -> u64 {
        self.weights.saturating_add(self.kv).saturating_add(self.overhead)
    }

    /// Bytes with the cache that it can do with.
    pub fn least(&self) -> u64 {
        self.weights.saturating_add(self.kv_least).saturating_add(self.overhead)
    }
}

/// A model in memory, on its way there, or on its way out.
#[derive(Clone, Debug)]
pub struct Resident {
    /// Its name.
    pub name: String,
    /// Bytes it is accounted with.
    pub bytes: u64,
    /// Whether it loads, or has work running or waiting.
    pub busy: bool,
    /// Whether it may never be evicted.
    pub pinned: bool,
    /// Whether it is already leaving.
    pub leaving: bool,
    /// When it last had work.
    pub used_ms: u64,
    /// When it may leave for lack of work; `None` is never.
    pub keep_alive_ms: Option<u64>,
}

/// A model that somebody waits for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// What it takes.
    pub size: Size,
    /// Since when it is waited for.
    pub since_ms: u64,
}

impl Wanted {
    /// Whether it has waited longer than others may keep it waiting.
    pub fn is_late(&self, patience_ms: u64, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.since_ms) >= patience_ms
    }

    /// The memory that it needs at least, as residency sees it on behalf of models that came later: taken, and free soon.
    pub fn promise(&self, name: &str) -> Resident {
        Resident {
            name: name.to_owned(),
            bytes: self.size.least(),
            busy: true,
            pinned: false,
            leaving: true,
            used_ms: self.since_ms,
            keep_alive_ms: None,
        }
    }
}

/// What is to be done about a wanted model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Load it now, with this many bytes of KV cache.
    Load {
        /// Bytes of KV cache.
        kv: u64,
    },
    /// Let these leave, then ask again.
    Evict(Vec<String>),
    /// Others have to finish first; ask again when something changed.
    Wait,
    /// It cannot be loaded, whatever is evicted.
    Refuse(Shortage),
}

/// The arithmetic of a refusal, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// What the model takes at least.
    pub size: Size,
    /// What all models may take.
    pub budget: u64,
    /// What models that are never evicted take.
    pub pinned: u64,
}

/// Decides about one wanted model.
pub fn decide(wanted: &Wanted, residents: &[Resident], budget: u64, patience_ms: u64, now_ms: u64) -> Decision {
    let sum = |of: &dyn Fn(&Resident) -> bool| residents.iter().filter(|r| of(r)).map(|r| r.bytes).sum::<u64>();
    let pinned = sum(&|r| r.pinned && !r.leaving);
    let most = budget.saturating_sub(pinned);
    let size = wanted.size;
    if size.least() > most {
        return Decision::Refuse(Shortage { size, budget, pinned });
    }
    let free = budget.saturating_sub(sum(&|_| true));
    if let Some(kv) = granted(&size, free, size.full().min(most)) {
        return Decision::Load { kv };
    }
    // What leaves already will be free; only what is missing then has to be evicted.
    let mut coming = free + sum(&|r| r.leaving);
    let impatient = wanted.is_late(patience_ms, now_ms);
    let mut candidates: Vec<&Resident> =
        residents.iter().filter(|r| !r.pinned && !r.leaving && (impatient || !r.busy)).collect();
    candidates.sort_by_key(|r| (r.busy, r.used_ms));
    let mut evict = Vec::new();
    for resident in candidates {
        // An idle model makes room for a full cache; busy work is only ended for what is needed at least.
        let goal = if resident.busy { size.least() } else { size.full().min(most) };
        if coming < goal {
            coming = coming.saturating_add(resident.bytes);
            evict.push(resident.name.clone());
        }
    }
    if !evict.is_empty() && coming >= size.least() {
        return Decision::Evict(evict);
    }
    let leaving = residents.iter().any(|r| r.leaving);
    match granted(&size, free, size.least()).filter(|_| !leaving) {
        Some(kv) => Decision::Load { kv },
        None => Decision::Wait,
    }
}

/// The KV cache that `free` bytes allow, if they allow `goal` bytes in all.
fn granted(size: &Size, free: u64, goal: u64) -> Option<u64> {
    let rest = free.checked_sub(size.weights)?.checked_sub(size.overhead)?;
    (free >= goal).then(|| rest.min(size.kv))
}

/// Returns who has had no work for longer than it is kept.
pub fn expired(residents: &[Resident], now_ms: u64) -> Vec<String> {
    let idle = |r: &&Resident| !r.busy && !r.pinned && !r.leaving;
    let late = |r: &&Resident| r.keep_alive_ms.is_some_and(|keep| now_ms.saturating_sub(r.used_ms) >= keep);
    residents.iter().filter(idle).filter(late).map(|r| r.name.clone()).collect()
}

/// Returns who is to leave where residents take more than `budget`: idle ones, those unused for longest first. What has
/// work stays, and so does what is pinned.
pub fn surplus(residents: &[Resident], budget: u64) -> Vec<String> {
    let staying: u64 = residents.iter().filter(|r| !r.leaving).map(|r| r.bytes).sum();
    let mut over = staying.saturating_sub(budget);
    let mut idle: Vec<&Resident> = residents.iter().filter(|r| !r.busy && !r.pinned && !r.leaving).collect();
    idle.sort_by_key(|r| r.used_ms);
    let enough = |r: &&Resident| {
        let goes = over > 0;
        over = over.saturating_sub(r.bytes);
        goes
    };
    idle.into_iter().filter(enough).map(|r| r.name.clone()).collect()
}

impl Shortage {
    /// Says the arithmetic in a sentence.
    pub fn sentence(&self, name: &str) -> String {
        let Size { weights, kv_least, overhead, .. } = self.size;
        let mut sentence = format!(
            "{name} needs at least {} (weights {} + KV cache {} + overhead {}), but models may take {}",
            megabytes(self.size.least()),
            megabytes(weights),
            megabytes(kv_least),
            megabytes(overhead),
            megabytes(self.budget),
        );
        if self.pinned > 0 {
            sentence.push_str(&format!(", of which pinned ones hold {}", megabytes(self.pinned)));
        }
        sentence
    }
}

/// Bytes as people read them.
fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        1_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
