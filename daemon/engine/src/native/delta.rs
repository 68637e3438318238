//! The gated delta rule: attention whose past is one matrix a head, and a short convolution before it.
//!
//! A sequence's state lies in a slot; a span names the slot that it goes on from and the one that it leaves its state in, so
//! a state that others still need is never overwritten. Tokens are computed one after another whatever the chunks are, so
//! a row's numbers depend on its own tokens alone. Who owns a slot is the scheduler's business.

#[cfg(test)]
mod tests;

use super::cpu::versions;
use super::elementwise::sum_of_squares;
use super::exponential::exp;
use super::memory::{Memory, Scratch, Shared, lines};
use super::{Isa, Pool, ShapeError};

/// What is added to a squared length before its root is taken.
const LENGTH_EPSILON: f32 = 1e-6;

/// The form of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaShape {
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Heads of values; each key head serves `value_heads / key_heads` that follow one another.
    pub value_heads: usize,
    /// Width of a query or key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Tokens that the convolution sees, the present one among them.
    pub kernel: usize,
    /// Whether what belongs to a key head lies together: query, key, values, gates; and then the two factors of each of its
    /// value heads. Otherwise all queries come first, then all keys, and so on.
    pub grouped: bool,
}

/// The weights of a layer.
pub struct DeltaWeights {
    /// `[key heads, kernel, channels of a head]`: its query, its key, its values.
    conv: Vec<f32>,
    /// How fast each value head forgets.
    decay: Vec<f32>,
    /// What is added to what the token says about it.
    decay_bias: Vec<f32>,
    /// The factors of the norm of what a head gives, and what is added to its mean square.
    norm: (Vec<f32>, f32),
}

/// The states of sequences: slots, each with every layer's.
pub struct DeltaStates {
    memory: Memory,
    slots: usize,
    layers: usize,
    shape: DeltaShape,
}

/// New tokens of one sequence, and where its state lies.
#[derive(Clone, Copy, Debug)]
pub struct DeltaSpan {
    /// How many tokens.
    pub len: usize,
    /// The slot to go on from; `None` is a sequence's beginning.
    pub from: Option<u32>,
    /// The slot to leave the state in.
    pub to: u32,
}

impl DeltaShape {
    /// Value heads of a key head.
    fn group(&self) -> usize {
        self.value_heads / self.key_heads
    }

    /// Channels of the convolution that belong to a key head.
    fn channels(&self) -> usize {
        2 * self.key_dim + self.group() * self.value_dim
    }

    /// f32 of the state of a key head: the tokens that the convolution still sees, then `[key_dim, value_dim]` for each of
    /// its value heads.
    fn unit(&self) -> usize {
        (self.kernel - 1) * self.channels() + self.group() * self.key_dim * self.value_dim
    }

    /// Bytes of a layer's state.
    pub fn state_bytes(&self) -> usize {
        self.key_heads * self.unit() * size_of::<f32>()
    }

    /// f32 of a projected token.
    pub fn width(&self) -> usize {
        self.key_heads * (2 * self.key_dim + 2 * self.group() * self.value_dim + 2 * self.group())
    }

    /// Where the parts of a key head begin in a projected token.
    fn places(&self, head: usize) -> Places {
        let (group, keys, values) = (self.group(), self.key_dim, self.group() * self.value_dim);
        if self.grouped {
            let at = head * 2 * (keys + values);
            let factors = self.key_heads * 2 * (keys + values) + head * 2 * group;
            let (value, gate) = (at + 2 * keys, at + 2 * keys + values);
            return Places { query: at, key: at + keys, value, gate, write: factors, decay: factors + group };
        }
        let (all_keys, all_values) = (self.key_heads * keys, self.key_heads * values);
        let gates = 2 * all_keys + all_values;
        let factors = gates + all_values;
        Places {
            query: head * keys,
            key: all_keys + head * keys,
            value: 2 * all_keys + head * values,
            gate: gates + head * values,
            write: factors + head * group,
            decay: factors + self.value_heads + head * group,
        }
    }
}

/// Where the parts of a key head begin.
struct Places {
    query: usize,
    key: usize,
    value: usize,
    gate: usize,
    write: usize,
    decay: usize,
}

impl DeltaWeights {
    /// Packs weights: `conv` is `[channels, kernel]`, all queries first, then all keys, then all values; `decay` holds
    /// logarithms.
    pub fn pack(shape: &DeltaShape, conv: &[f32], decay: &[f32], decay_bias: Vec<f32>, norm: (Vec<f32>, f32)) -> Self {
        let all = shape.key_heads * shape.channels();
        assert_eq!(conv.len(), all * shape.kernel, "a kernel for each channel");
        assert!(decay.len() == shape.value_heads && decay_bias.len() == shape.value_heads, "one of each a value head");
        assert_eq!(norm.0.len(), shape.value_dim, "one factor for each number of a value");
        let mut packed = Vec::with_capacity(conv.len());
        let (keys, values) = (shape.key_dim, shape.group() * shape.value_dim);
        for head in 0..shape.key_heads {
            let query = head * keys..(head + 1) * keys;
            let key = shape.key_heads * keys + head * keys..shape.key_heads * keys + (head + 1) * keys;
            let first = 2 * shape.key_heads * keys + head * values;
            for tap in 0..shape.kernel {
                let channels = query.clone().chain(key.clone()).chain(first..first + values);
                packed.extend(channels.map(|channel| conv[channel * shape.kernel + tap]));
            }
        }
        Self { conv: packed, decay: decay.iter().map(|log| log.exp()).collect(), decay_bias, norm }
    }
}

impl DeltaStates {
    /// Reserves room for `slots` states of `layers` layers; nothing is resident yet.
    pub fn new(shape: DeltaShape, layers: usize, slots: usize) -> Result<Self, ShapeError> {
        let named = [(layers, "the layers"), (slots, "the states"), (shape.kernel, "the convolution's kernel")];
        if let Some((_, what)) = named.into_iter().find(|(count, _)| *count == 0) {
            return Err(ShapeError::Empty { what });
        }
        let bytes = slots.checked_mul(layers).and_then(|count| count.checked_mul(shape.state_bytes()));
        let memory = Memory::zeroed(bytes.ok_or(ShapeError::Memory { bytes: usize::MAX })?)?;
        Ok(Self { memory, slots, layers, shape })
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Everything that a slot holds, of all layers.
    pub fn slot(&self, slot: u32) -> &[u8] {
        let range = self.range(slot);
        &self.memory.bytes()[range]
    }

    /// The same, to be filled with what `slot` gave.
    pub fn slot_mut(&mut self, slot: u32) -> &mut [u8] {
        let range = self.range(slot);
        &mut self.memory.bytes_mut()[range]
    }

    fn range(&self, slot: u32) -> std::ops::Range<usize> {
        assert!((slot as usize) < self.slots, "state {slot} of {}", self.slots);
        let bytes = self.layers * self.shape.state_bytes();
        slot as usize * bytes..(slot as usize + 1) * bytes
    }

    /// Computes the new tokens of `spans` in one layer: token t is `shape.width()` f32 of `x`, projected; `out` becomes
    /// `[tokens, value_heads, value_dim]`. No span goes to a slot that another one names.
    pub fn forward(
        &mut self,
        pool: &Pool,
        scratch: &mut Scratch,
        (layer, weights): (usize, &DeltaWeights),
        x: &[f32],
        spans: &[DeltaSpan],
        out: &mut [f32],
    ) {
        let (shape, slots) = (self.shape, self.slots);
        let tokens: usize = spans.iter().map(|span| span.len).sum();
        assert!(layer < self.layers, "layer {layer} of {}", self.layers);
        assert_eq!(x.len(), tokens * shape.width(), "x must be [tokens, {}]", shape.width());
        assert_eq!(out.len(), tokens * shape.value_heads * shape.value_dim, "out must be [tokens, heads, value_dim]");
        let named = |slot: u32| (slot as usize) < slots;
        assert!(spans.iter().all(|span| named(span.to) && span.from.is_none_or(named)), "a state beyond {slots}");
        for (at, span) in spans.iter().enumerate() {
            let other = |other: &DeltaSpan| other.to == span.to || other.from == Some(span.to);
            assert!(
                !spans.iter().enumerate().any(|(index, span)| index != at && other(span)),
                "a state is written alone"
            );
        }
        let room = Room::floats(&shape);
        let base = scratch.reserve(pool.threads() * room * size_of::<f32>());
        let job = Job {
            states: Shared::new(self.memory.bytes_mut()),
            layers: self.layers,
            layer,
            shape,
            weights,
            x,
            out: Shared::new(out),
        };
        pool.deal(spans.len() * shape.key_heads, &|thread, index| {
            let (at, head) = (index / shape.key_heads, index % shape.key_heads);
            let first = spans[..at].iter().map(|span| span.len).sum();
            // SAFETY: each thread has its own room in the scratch memory.
            #[allow(unsafe_code)]
            let room = unsafe { std::slice::from_raw_parts_mut(base.get().cast::<f32>().add(thread * room), room) };
            job.item(pool.isa(), &spans[at], first, head, room);
        });
    }
}

/// One call of `forward`.
struct Job<'a> {
    states: Shared<u8>,
    layers: usize,
    layer: usize,
    shape: DeltaShape,
    weights: &'a DeltaWeights,
    x: &'a [f32],
    out: Shared<f32>,
}

impl Job<'_> {
    /// The tokens of one span, in one key head and its value heads.
    fn item(&self, isa: Isa, span: &DeltaSpan, first: usize, head: usize, room: &mut [f32]) {
        let state = self.state(span, head);
        let width = self.shape.value_heads * self.shape.value_dim;
        let (group, own) = (self.shape.group(), self.shape.group() * self.shape.value_dim);
        for token in first..first + span.len {
            let x = &self.x[token * self.shape.width()..][..self.shape.width()];
            // SAFETY: the part of `out` of this token and head, which only this item writes.
            #[allow(unsafe_code)]
            let out = unsafe {
                let at = self.out.get().add(token * width + head * group * self.shape.value_dim);
                std::slice::from_raw_parts_mut(at, own)
            };
            advance(isa, Token { shape: &self.shape, weights: self.weights, head, x, state, out, room });
        }
    }

    /// A key head's state in the span's slot, which holds what it goes on from.
    #[allow(unsafe_code, clippy::mut_from_ref)]
    fn state(&self, span: &DeltaSpan, head: usize) -> &mut [f32] {
        let unit = self.shape.unit();
        let at = |slot: u32| {
            let place = (slot as usize * self.layers + self.layer) * self.shape.key_heads + head;
            // SAFETY: `forward` has checked the slot.
            unsafe { self.states.get().cast::<f32>().add(place * unit) }
        };
        // SAFETY: slots that are written are named by one span only, and a key head of it by one item; those that are only
        // read may be read by several.
        unsafe {
            match span.from {
                Some(from) if from != span.to => std::ptr::copy_nonoverlapping(at(from), at(span.to), unit),
                Some(_) => {}
                None => std::ptr::write_bytes(at(span.to), 0, unit),
            }
            std::slice::from_raw_parts_mut(at(span.to), unit)
        }
    }
}

/// A thread's working memory: a head's channels, then what a value head remembers and what is to change.
struct Room;

impl Room {
    fn floats(shape: &DeltaShape) -> usize {
        lines((shape.channels() + 2 * shape.value_dim) * size_of::<f32>()) / size_of::<f32>()
    }
}

/// One token in one key head.
struct Token<'a> {
    shape: &'a DeltaShape,
    weights: &'a DeltaWeights,
    head: usize,
    /// The token's row of what is projected.
    x: &'a [f32],
    state: &'a mut [f32],
    out: &'a mut [f32],
    room: &'a mut [f32],
}

versions! {
    /// The convolution, then the rule for each value head.
    fn advance(token: Token<'_>) = advance_body
}

#[inline(always)]
fn advance_body(token: Token<'_>) {
    let Token { shape, weights, head, x, state, out, room } = token;
    let (channels, group, keys, values) = (shape.channels(), shape.group(), shape.key_dim, shape.value_dim);
    let places = shape.places(head);
    let (past, memory) = state.split_at_mut((shape.kernel - 1) * channels);
    let (mixed, rest) = room.split_at_mut(channels);
    let parts = [(places.query, 0, keys), (places.key, keys, keys), (places.value, 2 * keys, group * values)];
    let kernel = &weights.conv[head * shape.kernel * channels..(head + 1) * shape.kernel * channels];
    convolve(kernel, &parts.map(|(from, to, width)| (&x[from..from + width], to)), past, mixed);
    let (queries_and_keys, new) = mixed.split_at_mut(2 * keys);
    let (query, key) = queries_and_keys.split_at_mut(keys);
    let inverse = (keys as f32).powf(-0.5);
    lengthen(query, inverse * inverse);
    lengthen(key, inverse);
    let (change, _) = rest.split_at_mut(values);
    for nth in 0..group {
        let of_head = head * group + nth;
        let said = x[places.decay + nth] + weights.decay_bias[of_head];
        let softplus = said.max(0.0) + (-said.abs()).exp().ln_1p();
        let kept = (-weights.decay[of_head] * softplus).exp();
        let write = 1.0 / (1.0 + (-x[places.write + nth]).exp());
        let memory = &mut memory[nth * keys * values..(nth + 1) * keys * values];
        let out = &mut out[nth * values..(nth + 1) * values];
        let rule = Rule { query, key, kept, write, value: &new[nth * values..(nth + 1) * values] };
        rule.apply(memory, change, out);
        let gate = &x[places.gate + nth * values..][..values];
        close(out, gate, &weights.norm.0, weights.norm.1);
    }
}

/// The sums over the last tokens of each channel, through x × sigmoid(x); `past` moves on by a token.
#[inline(always)]
fn convolve(kernel: &[f32], parts: &[(&[f32], usize); 3], past: &mut [f32], out: &mut [f32]) {
    let channels = out.len();
    let (old, newest) = kernel.split_at(past.len());
    out.fill(0.0);
    for (past, kernel) in past.chunks_exact(channels).zip(old.chunks_exact(channels)) {
        for ((out, past), kernel) in out.iter_mut().zip(past).zip(kernel) {
            *out += past * kernel;
        }
    }
    past.copy_within(channels.min(past.len()).., 0);
    let last = past.len().saturating_sub(channels);
    for (x, at) in parts {
        for ((out, x), kernel) in out[*at..].iter_mut().zip(*x).zip(&newest[*at..]) {
            *out += x * kernel;
        }
        if !past.is_empty() {
            past[last + at..last + at + x.len()].copy_from_slice(x);
        }
    }
    for out in out {
        *out /= 1.0 + exp(-*out);
    }
}

/// x × factor / root of its mean square.
#[inline(always)]
fn lengthen(x: &mut [f32], factor: f32) {
    let width = x.len() as f32;
    let factor = factor / (sum_of_squares(x) / width + LENGTH_EPSILON / width).sqrt();
    x.iter_mut().for_each(|x| *x *= factor);
}

/// The norm of what a head gives, times gate × sigmoid(gate).
#[inline(always)]
fn close(x: &mut [f32], gate: &[f32], weight: &[f32], epsilon: f32) {
    let factor = 1.0 / (sum_of_squares(x) / x.len() as f32 + epsilon).sqrt();
    for ((x, gate), weight) in x.iter_mut().zip(gate).zip(weight) {
        *x = *x * factor * weight * (gate / (1.0 + exp(-gate)));
    }
}

/// One token of one value head.
struct Rule<'a> {
    query: &'a [f32],
    key: &'a [f32],
    /// The share of the memory that is kept.
    kept: f32,
    /// The share of what is missing that is written.
    write: f32,
    value: &'a [f32],
}

impl Rule<'_> {
    /// Forgets, writes what the key's value lacks, and reads for the query. `memory` is `[key_dim, value_dim]`.
    #[inline(always)]
    fn apply(&self, memory: &mut [f32], change: &mut [f32], out: &mut [f32]) {
        let width = self.value.len();
        let mut first = 0;
        while first + 64 <= width {
            self.run::<64>(memory, change, out, first);
            first += 64;
        }
        while first + 16 <= width {
            self.run::<16>(memory, change, out, first);
            first += 16;
        }
        while first < width {
            self.run::<1>(memory, change, out, first);
            first += 1;
        }
    }

    /// The same for `N` numbers of the value from `first` on: each is computed alone.
    #[inline(always)]
    fn run<const N: usize>(&self, memory: &mut [f32], change: &mut [f32], out: &mut [f32], first: usize) {
        let width = self.value.len();
        let mut known = [0.0f32; N];
        for (memory, key) in memory.chunks_exact_mut(width).zip(self.key) {
            for (known, memory) in known.iter_mut().zip(&mut memory[first..first + N]) {
                *memory *= self.kept;
                *known += *memory * key;
            }
        }
        let change = &mut change[first..first + N];
        for ((change, known), value) in change.iter_mut().zip(known).zip(&self.value[first..first + N]) {
            *change = (value - known) * self.write;
        }
        let mut read = [0.0f32; N];
        for ((memory, key), query) in memory.chunks_exact_mut(width).zip(self.key).zip(self.query) {
            for ((read, memory), change) in read.iter_mut().zip(&mut memory[first..first + N]).zip(&*change) {
                *memory += key * change;
                *read += *memory * query;
            }
        }
        out[first..first + N].copy_from_slice(&read);
    }
}
