//! The decoder: one step of token rows through the layers of a description, to the logits of the rows that want them.
//!
//! Written once for every architecture, on the kernels of [`crate::native`]; where a layer differs, its description says
//! so. A token's numbers depend on its own row's tokens alone, never on the other rows or on how a prompt was cut, because
//! each verb below keeps that law. It validates nothing: [`crate::Model`] has done so.

use crate::LoadError;
use crate::folder::Folder;
use crate::models;
use crate::native::{
    Angles, Heads, KvCache, Precision, Rope, Shape, Span, add, attend, rms_norm, rms_norm_heads, silu_mul,
};
use crate::projection::{Machine, Projection, sized};

/// The weights of a decoder.
pub(crate) struct Decoder {
    hidden: usize,
    vocabulary: usize,
    epsilon: f32,
    rope: Rope,
    embedding: Projection,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Option<Projection>,
}

struct Layer {
    attention_norm: Vec<f32>,
    qkv: Projection,
    qk_norm: Option<(Vec<f32>, Vec<f32>)>,
    /// Where queries and keys lie in a row of `qkv`; the values follow.
    queries: Heads,
    keys: Heads,
    shape: Shape,
    output: Projection,
    mlp_norm: Vec<f32>,
    gate_up: Projection,
    intermediate: usize,
    down: Projection,
}

/// What one step computes: the tokens of all rows, one after another.
pub(crate) struct Step<'a> {
    /// The tokens.
    pub tokens: &'a [u32],
    /// A span of positions for each row, in the same order.
    pub spans: &'a [Span<'a>],
    /// Which tokens' logits are wanted, as indices into `tokens`.
    pub wanted: &'a [usize],
}

/// The activations of a step, kept between steps so that none allocates once the largest has been seen.
#[derive(Default)]
pub(crate) struct Activations {
    angles: Angles,
    stream: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    gated: Vec<f32>,
    branch: Vec<f32>,
}

impl Decoder {
    /// Packs the weights of a folder; `loaded` hears the bytes of each matrix that is done.
    pub fn load(
        folder: &Folder,
        precision: Precision,
        machine: &Machine,
        loaded: &mut dyn FnMut(u64),
    ) -> Result<Self, LoadError> {
        let description = &folder.description;
        let mut projection = |stack: &models::Stack| {
            let projection = Projection::load(folder, stack, precision, &machine.pool)?;
            loaded(folder.matrices(stack)?.iter().map(|matrix| matrix.bytes()).sum());
            Ok::<_, LoadError>(projection)
        };
        let embedding = projection(&description.embedding)?;
        let layers = description.layers.iter().map(|layer| Layer::load(folder, layer, &mut projection));
        Ok(Self {
            hidden: description.hidden,
            vocabulary: description.vocabulary,
            epsilon: description.norm_epsilon,
            rope: Rope::new(description.attention().head_dim, description.rope.base, &description.rope.scaling),
            embedding,
            layers: layers.collect::<Result<_, _>>()?,
            norm: folder.vector(&description.norm)?,
            head: description.head.as_ref().map(&mut projection).transpose()?,
        })
    }

    /// Computes a step: keys and values go to the cache, and `logits` becomes `[wanted, vocabulary]`.
    pub fn forward(
        &self,
        step: &Step<'_>,
        machine: &mut Machine,
        cache: &mut KvCache,
        activations: &mut Activations,
        logits: &mut Vec<f32>,
    ) {
        let positions = step.spans.iter().flat_map(|span| span.start..span.start + span.len);
        self.rope.angles(positions, &mut activations.angles);
        let stream = sized(&mut activations.stream, step.tokens.len() * self.hidden);
        for (token, row) in step.tokens.iter().zip(stream.chunks_exact_mut(self.hidden)) {
            self.embedding.row(*token as usize, row);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            self.attention(layer, index, step, machine, cache, activations);
            self.mlp(layer, step.tokens.len(), machine, activations);
        }
        self.logits(step, machine, activations, logits);
    }

    /// `stream += output(attend(norm(stream)))`.
    fn attention(
        &self,
        layer: &Layer,
        index: usize,
        step: &Step<'_>,
        machine: &mut Machine,
        cache: &mut KvCache,
        activations: &mut Activations,
    ) {
        let rows = step.tokens.len();
        let Layer { queries, keys, shape, .. } = layer;
        let stream = sized(&mut activations.stream, rows * self.hidden);
        let normed = sized(&mut activations.normed, rows * self.hidden);
        let qkv = sized(&mut activations.qkv, rows * queries.stride);
        let attended = sized(&mut activations.attended, rows * queries.count * queries.dim);
        let branch = sized(&mut activations.branch, rows * self.hidden);

        rms_norm(&machine.pool, stream, &layer.attention_norm, self.epsilon, normed);
        layer.qkv.forward(machine, normed, rows, qkv);
        if let Some((q_norm, k_norm)) = &layer.qk_norm {
            rms_norm_heads(&machine.pool, qkv, *queries, q_norm, self.epsilon);
            rms_norm_heads(&machine.pool, qkv, *keys, k_norm, self.epsilon);
        }
        self.rope.apply(&machine.pool, &activations.angles, qkv, *queries);
        self.rope.apply(&machine.pool, &activations.angles, qkv, *keys);
        let values = &qkv[keys.offset + keys.count * keys.dim..];
        cache.append(&machine.pool, index, step.spans, &qkv[keys.offset..], values, keys.stride);
        attend(&machine.pool, &mut machine.scratch, cache.layer(index), qkv, step.spans, shape, attended);
        layer.output.forward(machine, attended, rows, branch);
        add(&machine.pool, stream, branch);
    }

    /// `stream += down(silu(gate) × up)` of `norm(stream)`.
    fn mlp(&self, layer: &Layer, rows: usize, machine: &mut Machine, activations: &mut Activations) {
        let width = layer.intermediate;
        let stream = sized(&mut activations.stream, rows * self.hidden);
        let normed = sized(&mut activations.normed, rows * self.hidden);
        let gate_up = sized(&mut activations.gate_up, rows * 2 * width);
        let gated = sized(&mut activations.gated, rows * width);
        let branch = sized(&mut activations.branch, rows * self.hidden);

        rms_norm(&machine.pool, stream, &layer.mlp_norm, self.epsilon, normed);
        layer.gate_up.forward(machine, normed, rows, gate_up);
        silu_mul(&machine.pool, gate_up, &gate_up[width..], 2 * width, width, gated);
        layer.down.forward(machine, gated, rows, branch);
        add(&machine.pool, stream, branch);
    }

    /// The final norm and the scores of every token id, for the tokens that want them.
    fn logits(&self, step: &Step<'_>, machine: &mut Machine, activations: &mut Activations, logits: &mut Vec<f32>) {
        let rows = step.wanted.len();
        let stream = sized(&mut activations.stream, step.tokens.len() * self.hidden);
        let chosen = sized(&mut activations.branch, rows * self.hidden);
        for (index, row) in step.wanted.iter().zip(chosen.chunks_exact_mut(self.hidden)) {
            row.copy_from_slice(&stream[index * self.hidden..(index + 1) * self.hidden]);
        }
        let normed = sized(&mut activations.normed, rows * self.hidden);
        rms_norm(&machine.pool, chosen, &self.norm, self.epsilon, normed);
        logits.resize(rows * self.vocabulary, 0.0);
        self.head.as_ref().unwrap_or(&self.embedding).forward(machine, normed, rows, logits);
    }
}

impl Layer {
    fn load(
        folder: &Folder,
        layer: &models::Layer,
        projection: &mut dyn FnMut(&models::Stack) -> Result<Projection, LoadError>,
    ) -> Result<Self, LoadError> {
        let models::Attention { heads, kv_heads, head_dim, window } = layer.attention;
        let stride = layer.qkv.outputs();
        let qk_norm = match &layer.qk_norm {
            Some((queries, keys)) => Some((folder.vector(queries)?, folder.vector(keys)?)),
            None => None,
        };
        Ok(Self {
            attention_norm: folder.vector(&layer.attention_norm)?,
            qkv: projection(&layer.qkv)?,
            qk_norm,
            queries: Heads { stride, offset: 0, count: heads, dim: head_dim },
            keys: Heads { stride, offset: heads * head_dim, count: kv_heads, dim: head_dim },
            shape: Shape {
                heads,
                stride,
                scale: (head_dim as f32).powf(-0.5),
                window: window.map(|positions| positions as u32),
                softcap: None,
            },
            output: projection(&layer.output)?,
            mlp_norm: folder.vector(&layer.mlp_norm)?,
            gate_up: projection(&layer.gate_up)?,
            intermediate: layer.down.inputs,
            down: projection(&layer.down)?,
        })
    }
}
