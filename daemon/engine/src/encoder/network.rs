//! The encoder: the tokens of whole texts through the layers of a description, to one row of numbers a text.
//!
//! Written once for every architecture, on the kernels of [`crate::native`]; where a layer differs, its description says
//! so. What happens to each token alone is done for [`CHUNK`] tokens at a time, so that only the stream and the queries,
//! keys and values of a long text are in memory at once. It validates nothing: [`crate::Encoder`] has done so.

use super::Text;
use super::head::Head;
use super::pool::pool;
use crate::LoadError;
use crate::folder::Folder;
use crate::models::encoders::{self, Order, Pooling, Task};
use crate::models::{self, Stack};
use crate::native::{
    Activation, Angles, BLOCK_TOKENS, HeadNorm, Heads, KvCache, Pool, Precision, Rope, Shape, Span, activate, add,
    attend, gate, layer_norm, prepare, rms_norm,
};
use crate::projection::{Machine, Projection, sized};

/// Tokens whose MLP is in memory at once: its width is many times the stream's.
const CHUNK: usize = 512;

/// The weights of an encoder.
pub(super) struct Network {
    hidden: usize,
    width: usize,
    words: Projection,
    /// What they are multiplied by.
    scale: f32,
    positions: Option<(Projection, usize)>,
    /// And how many there are.
    segments: Option<(Projection, usize)>,
    embedding_norm: Option<Norm>,
    /// The kinds of rope that layers name by index.
    ropes: Vec<Rope>,
    order: Order,
    layers: Vec<Layer>,
    norm: Option<Norm>,
    pooling: Pooling,
    /// What pooled rows go through.
    dense: Vec<(Projection, Option<Activation>)>,
    head: Option<Head>,
}

struct Layer {
    attention_norm: Option<Norm>,
    qkv: Projection,
    qk_norm: Option<(Norm, Norm)>,
    rope: Option<usize>,
    /// Where queries and keys lie in a row of `qkv`; the values follow.
    queries: Heads,
    keys: Heads,
    shape: Shape<'static>,
    output: Projection,
    mlp_norm: Norm,
    inner: Projection,
    /// Width of `inner`'s output, and of what its activation leaves.
    widths: (usize, usize),
    activation: Activation,
    down: Projection,
    /// The norms of what attention and the MLP give.
    after: Option<(Norm, Norm)>,
}

pub(super) struct Norm {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    epsilon: f32,
    centred: bool,
}

/// What one call computes: the tokens of all texts, one text after another, each in blocks of its own.
pub(super) struct Step<'a> {
    pub tokens: Vec<u32>,
    texts: &'a [Text<'a>],
    blocks: Vec<u32>,
}

/// The numbers of a call, kept between calls so that none allocates once the largest has been seen.
#[derive(Default)]
pub(super) struct Activations {
    angles: Vec<Angles>,
    stream: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    normed: Vec<f32>,
    inner: Vec<f32>,
    activated: Vec<f32>,
    branch: Vec<f32>,
}

impl<'a> Step<'a> {
    pub fn new(texts: &'a [Text<'a>]) -> Self {
        let tokens = texts.iter().flat_map(|text| text.tokens).copied().collect();
        let blocks: usize = texts.iter().map(|text| text.tokens.len().div_ceil(BLOCK_TOKENS)).sum();
        Self { tokens, texts, blocks: (0..blocks as u32).collect() }
    }

    /// How many blocks of keys it takes.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn spans(&self) -> Vec<Span<'_>> {
        let mut free = self.blocks.as_slice();
        let span = |text: &Text<'_>| {
            let (blocks, rest) = free.split_at(text.tokens.len().div_ceil(BLOCK_TOKENS));
            free = rest;
            Span { start: 0, len: text.tokens.len() as u32, blocks }
        };
        self.texts.iter().map(span).collect()
    }

    fn positions(&self) -> impl Iterator<Item = u32> {
        self.texts.iter().flat_map(|text| 0..text.tokens.len() as u32)
    }

    fn segments(&self) -> impl Iterator<Item = usize> {
        let of = |text: &'a Text<'a>| (0..text.tokens.len()).map(|at| text.segments.get(at).copied().unwrap_or(0));
        self.texts.iter().flat_map(of).map(usize::from)
    }
}

impl Network {
    /// Packs the weights of a folder; `loaded` hears the bytes of each matrix that is done.
    pub fn load(
        folder: &Folder<encoders::Encoder>,
        precision: Precision,
        machine: &Machine,
        loaded: &mut dyn FnMut(u64),
    ) -> Result<Self, LoadError> {
        let description = &folder.description;
        let mut projection = |stack: &Stack| {
            let projection = Projection::load(folder, stack, precision, &machine.pool)?;
            loaded(folder.matrices(stack)?.iter().map(|matrix| matrix.bytes()).sum());
            Ok::<_, LoadError>(projection)
        };
        let norm = |norm: &encoders::Norm| Norm::load(folder, norm);
        let words = projection(&description.words)?;
        let positions = match &description.positions {
            Some(positions) => Some((projection(&positions.table)?, positions.first)),
            None => None,
        };
        let segments = match &description.segments {
            Some(table) => Some((projection(table)?, table.outputs())),
            None => None,
        };
        let mut kinds: Vec<&models::Rope> = Vec::new();
        let mut layers = Vec::with_capacity(description.layers.len());
        for layer in &description.layers {
            let rope = layer.rope.as_ref().map(|rope| {
                kinds.iter().position(|kind| *kind == rope).unwrap_or_else(|| {
                    kinds.push(rope);
                    kinds.len() - 1
                })
            });
            layers.push(Layer::load(folder, layer, rope, &mut projection)?);
        }
        let (pooling, dense, head) = match &description.task {
            Task::Embed(pooling, dense) => {
                let load = |(stack, activation): &(Stack, _)| Ok::<_, LoadError>((projection(stack)?, *activation));
                (*pooling, dense.iter().map(load).collect::<Result<_, _>>()?, None)
            }
            Task::Rerank(head) => (head.pooling, Vec::new(), Some(Head::load(folder, head, &words, &mut projection)?)),
        };
        Ok(Self {
            hidden: description.hidden,
            width: description.width(),
            words,
            scale: description.scale,
            positions,
            segments,
            embedding_norm: description.embedding_norm.as_ref().map(norm).transpose()?,
            ropes: kinds.into_iter().map(models::Rope::table).collect(),
            order: description.order,
            layers,
            norm: description.norm.as_ref().map(norm).transpose()?,
            pooling,
            dense,
            head,
        })
    }

    /// How many numbers a text becomes.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Computes a step, and calls `between` twice in each layer; `out` becomes `[texts, width]`.
    pub fn forward(
        &self,
        step: &Step<'_>,
        machine: &mut Machine,
        cache: &mut KvCache,
        activations: &mut Activations,
        between: &mut dyn FnMut(),
        out: &mut Vec<f32>,
    ) {
        activations.angles.resize_with(self.ropes.len(), Angles::default);
        for (rope, angles) in self.ropes.iter().zip(&mut activations.angles) {
            rope.angles(step.positions(), angles);
        }
        self.embed(step, machine, activations);
        let spans = step.spans();
        for layer in &self.layers {
            self.attention(layer, &spans, step.tokens.len(), machine, cache, activations);
            between();
            self.mlp(layer, step.tokens.len(), machine, activations);
            between();
        }
        self.finish(step, machine, activations, out);
    }

    /// The sum of what is known of each token alone: its word, its position, its segment.
    fn embed(&self, step: &Step<'_>, machine: &Machine, activations: &mut Activations) {
        let stream = sized(&mut activations.stream, step.tokens.len() * self.hidden);
        let mut part = vec![0.0; self.hidden];
        let mut add_row = |table: &Projection, row: usize, sum: &mut [f32]| {
            table.row(row, &mut part);
            sum.iter_mut().zip(&part).for_each(|(sum, part)| *sum += part);
        };
        let places = step.positions().zip(step.segments());
        for ((token, (position, segment)), row) in
            step.tokens.iter().zip(places).zip(stream.chunks_exact_mut(self.hidden))
        {
            self.words.row(*token as usize, row);
            if self.scale != 1.0 {
                row.iter_mut().for_each(|x| *x *= self.scale);
            }
            if let Some((table, first)) = &self.positions {
                add_row(table, first + position as usize, row);
            }
            if let Some((table, count)) = &self.segments {
                // Models that were not trained on pairs have one row for all.
                add_row(table, segment.min(count - 1), row);
            }
        }
        if let Some(norm) = &self.embedding_norm {
            norm.apply_to(&machine.pool, stream, &mut activations.normed);
        }
    }

    /// `stream += output(attend(stream))`, with the norm before or after.
    fn attention(
        &self,
        layer: &Layer,
        spans: &[Span<'_>],
        rows: usize,
        machine: &mut Machine,
        cache: &mut KvCache,
        activations: &mut Activations,
    ) {
        let Layer { queries, keys, shape, .. } = layer;
        let hidden = self.hidden;
        let stream = sized(&mut activations.stream, rows * hidden);
        let qkv = sized(&mut activations.qkv, rows * queries.stride);
        let attended = sized(&mut activations.attended, rows * queries.count * queries.dim);
        for (x, qkv) in stream.chunks(CHUNK * hidden).zip(qkv.chunks_mut(CHUNK * queries.stride)) {
            let x = match &layer.attention_norm {
                Some(norm) if self.order == Order::Before => norm.apply(&machine.pool, x, &mut activations.normed),
                _ => x,
            };
            layer.qkv.forward(machine, x, x.len() / hidden, qkv);
        }
        let (of_queries, of_keys) = layer.qk_norm.as_ref().map(|(q, k)| (q.of_heads(), k.of_heads())).unzip();
        let rope = layer.rope.map(|kind| (&self.ropes[kind], &activations.angles[kind]));
        prepare(&machine.pool, qkv, &[(*queries, of_queries), (*keys, of_keys)], rope);
        let values = &qkv[keys.offset + keys.count * keys.dim..];
        cache.append(&machine.pool, 0, spans, &qkv[keys.offset..], values, keys.stride);
        attend(&machine.pool, &mut machine.scratch, cache.layer(0), qkv, spans, shape, attended);
        let width = queries.count * queries.dim;
        for (x, attended) in stream.chunks_mut(CHUNK * hidden).zip(attended.chunks(CHUNK * width)) {
            let branch = sized(&mut activations.branch, x.len());
            layer.output.forward(machine, attended, x.len() / hidden, branch);
            if let Some((norm, _)) = &layer.after {
                norm.apply_to(&machine.pool, branch, &mut activations.normed);
            }
            add(&machine.pool, x, branch);
            if let (Order::After, Some(norm)) = (self.order, &layer.attention_norm) {
                norm.apply_to(&machine.pool, x, &mut activations.normed);
            }
        }
    }

    /// `stream += down(activation(inner(stream)))`, with the norm before or after.
    fn mlp(&self, layer: &Layer, rows: usize, machine: &mut Machine, activations: &mut Activations) {
        let (inner_width, width) = layer.widths;
        let stream = sized(&mut activations.stream, rows * self.hidden);
        for x in stream.chunks_mut(CHUNK * self.hidden) {
            let rows = x.len() / self.hidden;
            let inner = sized(&mut activations.inner, rows * inner_width);
            let branch = sized(&mut activations.branch, x.len());
            let input: &[f32] = match self.order {
                Order::Before => layer.mlp_norm.apply(&machine.pool, x, &mut activations.normed),
                Order::After => x,
            };
            layer.inner.forward(machine, input, rows, inner);
            if inner_width == width {
                activate(&machine.pool, layer.activation, inner);
                layer.down.forward(machine, inner, rows, branch);
            } else {
                let activated = sized(&mut activations.activated, rows * width);
                gate(&machine.pool, layer.activation, inner, &inner[width..], inner_width, width, activated);
                layer.down.forward(machine, activated, rows, branch);
            }
            if let Some((_, norm)) = &layer.after {
                norm.apply_to(&machine.pool, branch, &mut activations.normed);
            }
            add(&machine.pool, x, branch);
            if self.order == Order::After {
                layer.mlp_norm.apply_to(&machine.pool, x, &mut activations.normed);
            }
        }
    }

    /// Pools each text's rows, after the last norm, and scores them where that is asked.
    fn finish(&self, step: &Step<'_>, machine: &mut Machine, activations: &mut Activations, out: &mut Vec<f32>) {
        let stream = sized(&mut activations.stream, step.tokens.len() * self.hidden);
        if let Some(norm) = &self.norm {
            norm.apply_to(&machine.pool, stream, &mut activations.normed);
        }
        out.resize(step.texts.len() * self.hidden, 0.0);
        let mut rest: &[f32] = stream;
        for (text, out) in step.texts.iter().zip(out.chunks_exact_mut(self.hidden)) {
            let (rows, others) = rest.split_at(text.tokens.len() * self.hidden);
            pool(self.pooling, rows, out);
            rest = others;
        }
        for (matrix, activation) in &self.dense {
            let pooled = std::mem::replace(out, vec![0.0; step.texts.len() * matrix.outputs()]);
            matrix.forward(machine, &pooled, step.texts.len(), out);
            if let Some(activation) = activation {
                activate(&machine.pool, *activation, out);
            }
        }
        if let Some(head) = &self.head {
            head.score(machine, out, step.texts.len(), &mut activations.normed);
        }
    }
}

impl Layer {
    fn load(
        folder: &Folder<encoders::Encoder>,
        layer: &encoders::Layer,
        rope: Option<usize>,
        projection: &mut dyn FnMut(&Stack) -> Result<Projection, LoadError>,
    ) -> Result<Self, LoadError> {
        let models::Attention { heads, kv_heads, head_dim, scale, .. } = folder.description.attention;
        let stride = layer.qkv.outputs();
        let norm = |norm: &encoders::Norm| Norm::load(folder, norm);
        let qk_norm = match &layer.qk_norm {
            Some((queries, keys)) => Some((norm(queries)?, norm(keys)?)),
            None => None,
        };
        let after = match &layer.after {
            Some((attention, mlp)) => Some((norm(attention)?, norm(mlp)?)),
            None => None,
        };
        Ok(Self {
            attention_norm: layer.attention_norm.as_ref().map(norm).transpose()?,
            qkv: projection(&layer.qkv)?,
            qk_norm,
            rope,
            queries: Heads { stride, offset: 0, count: heads, dim: head_dim },
            keys: Heads { stride, offset: heads * head_dim, count: kv_heads, dim: head_dim },
            shape: Shape {
                heads,
                stride,
                scale,
                window: layer.sight.window,
                ahead: layer.sight.ahead,
                softcap: None,
                sinks: None,
            },
            output: projection(&layer.output)?,
            mlp_norm: norm(&layer.mlp_norm)?,
            inner: projection(&layer.inner)?,
            widths: (layer.inner.outputs(), layer.down.inputs),
            activation: layer.activation,
            down: projection(&layer.down)?,
            after,
        })
    }
}

impl Norm {
    pub(super) fn load(folder: &Folder<encoders::Encoder>, norm: &encoders::Norm) -> Result<Self, LoadError> {
        let bias = norm.bias.as_ref().map(|bias| folder.vector(bias)).transpose()?;
        let mut weight = folder.vector(&norm.weight)?;
        if norm.less_one {
            weight.iter_mut().for_each(|factor| *factor += 1.0);
        }
        Ok(Self { weight, bias, epsilon: norm.epsilon, centred: norm.centred })
    }

    fn of_heads(&self) -> HeadNorm<'_> {
        HeadNorm { run: self.weight.len(), centred: self.centred, weight: &self.weight, epsilon: self.epsilon }
    }

    /// The norms of the rows of `x`, in `buffer`.
    fn apply<'a>(&self, pool: &Pool, x: &[f32], buffer: &'a mut Vec<f32>) -> &'a [f32] {
        let out = sized(buffer, x.len());
        match self.centred {
            true => layer_norm(pool, x, &self.weight, self.bias.as_deref(), self.epsilon, out),
            false => rms_norm(pool, x, &self.weight, self.epsilon, out),
        }
        out
    }

    /// The same in place, a chunk at a time.
    pub(super) fn apply_to(&self, pool: &Pool, x: &mut [f32], buffer: &mut Vec<f32>) {
        for x in x.chunks_mut(CHUNK * self.weight.len()) {
            x.copy_from_slice(self.apply(pool, x, buffer));
        }
    }
}
