//! What a machine must do for a decoder: the verbs that [`crate::decoder`] is written in, once for every machine.
//!
//! Activations are values: a verb that no longer needs one takes it, so the native kernels work in place and keep its
//! memory for the next, and a lazy machine only grows its graph. Nothing comes back to the host before [`Ops::logits`],
//! which ends the step; what the host knows beforehand, tokens, positions and blocks, every verb may read from the
//! [`Step`]. Keys and values stay with the machine, in blocks that the step names. One thread makes the machine, loads
//! its weights and runs its steps.

use crate::folder::Folder;
use crate::models;
use crate::native::Span;
use crate::{ForwardError, LoadError, State};

/// What one step computes: the tokens of all rows, one after another.
pub(crate) struct Step<'a> {
    /// The tokens.
    pub tokens: &'a [u32],
    /// A span of positions for each row, in the same order.
    pub spans: &'a [Span<'a>],
    /// For each row where its recurrent state lies; empty for models without one.
    pub states: &'a [State],
    /// Which tokens' logits are wanted, as indices into `tokens`.
    pub wanted: &'a [usize],
    /// The same tokens as spans, in the same order.
    pub wanted_spans: &'a [Span<'a>],
}

/// One layer's attention, between the projections: where heads lie, how they are normed and turned, what they see.
pub(crate) struct Attention<O: Ops> {
    /// The layer whose keys and values it writes and reads.
    pub layer: usize,
    /// Heads, rope and window.
    pub shape: models::Attention,
    /// Norms of the queries and of the keys: of each head, or of all together where they are that long.
    pub qk_norm: Option<(O::Norm, O::Norm)>,
    /// For each query head a score that takes its share of attention and gives nothing for it.
    pub sinks: Option<Vec<f32>>,
}

/// A machine that computes decoders.
pub(crate) trait Ops: Sized {
    /// Activations: one row of numbers per token.
    type Rows;
    /// A stack of matrices with their biases.
    type Matrix;
    /// A norm's weights.
    type Norm;
    /// Experts and their router.
    type Experts;
    /// What brings heads into a latent and out of it.
    type Latent;
    /// What a delta net has between its projections.
    type Delta;
    /// What can go wrong in a step.
    type Fault: Into<ForwardError>;

    /// Takes a stack of matrices from the folder.
    fn matrix(&mut self, folder: &Folder, stack: &models::Stack) -> Result<Self::Matrix, LoadError>;

    /// Takes a gate and what it multiplies, for `gated`.
    fn gate_matrix(&mut self, folder: &Folder, stack: &models::Stack) -> Result<Self::Matrix, LoadError> {
        self.matrix(folder, stack)
    }

    /// Takes a norm's weights from the folder.
    fn norm_weights(&mut self, folder: &Folder, norm: &models::Norm) -> Result<Self::Norm, LoadError>;

    /// Takes experts and their router from the folder.
    fn expert_weights(&mut self, folder: &Folder, experts: &models::Experts) -> Result<Self::Experts, LoadError>;

    /// Takes what a layer of latent attention has between its projections from the folder.
    fn latent_weights(&mut self, folder: &Folder, latent: &models::Latent) -> Result<Self::Latent, LoadError>;

    /// Takes what a delta net has between its projections from the folder; they come in the order of the layers.
    fn delta_weights(&mut self, folder: &Folder, delta: &models::Delta) -> Result<Self::Delta, LoadError>;

    /// Makes one block of keys and values hold what another holds.
    fn copy_block(&mut self, from: u32, to: u32) -> Result<(), Self::Fault>;

    /// Opens a step: the positions are known from here on.
    fn begin(&mut self, step: &Step<'_>) -> Result<(), Self::Fault>;

    /// The rows of `table` that the step's tokens name, times `scale`.
    fn embed(&mut self, table: &Self::Matrix, step: &Step<'_>, scale: f32) -> Result<Self::Rows, Self::Fault>;

    /// W x + b for each row: `[tokens, inputs]` to `[tokens, outputs]`.
    fn linear(&mut self, matrix: &Self::Matrix, x: &Self::Rows) -> Result<Self::Rows, Self::Fault>;

    /// stream + W x + b.
    fn linear_onto(
        &mut self,
        matrix: &Self::Matrix,
        x: &Self::Rows,
        stream: Self::Rows,
    ) -> Result<Self::Rows, Self::Fault> {
        let branch = self.linear(matrix, x)?;
        self.add(stream, branch, 1.0)
    }

    /// activation(gate x) × up x, of a matrix from `gate_matrix`.
    fn gated(
        &mut self,
        matrix: &Self::Matrix,
        activation: models::Activation,
        x: &Self::Rows,
    ) -> Result<Self::Rows, Self::Fault> {
        let gate_up = self.linear(matrix, x)?;
        self.gate(activation, gate_up)
    }

    /// Each row normed.
    fn norm(&mut self, norm: &Self::Norm, x: &Self::Rows) -> Result<Self::Rows, Self::Fault>;

    /// Norms and turns the heads of `[queries | keys | values]`, stores keys and values in the step's blocks, and
    /// attends: `[tokens, heads * head_dim]`, of the wanted tokens alone where `cut` says so.
    fn attend(
        &mut self,
        attention: &Attention<Self>,
        qkv: Self::Rows,
        step: &Step<'_>,
        cut: bool,
    ) -> Result<Self::Rows, Self::Fault>;

    /// Takes the gate after each query head out of `[queries and gates | keys | values]`: what `attend` takes, and the gates.
    fn part_gates(
        &mut self,
        attention: &models::Attention,
        x: Self::Rows,
    ) -> Result<(Self::Rows, Self::Rows), Self::Fault>;

    /// x × sigmoid(gate), with as many gates as numbers in a row, or one for the whole row.
    fn open(&mut self, gate: Self::Rows, x: Self::Rows) -> Result<Self::Rows, Self::Fault>;

    /// What `attend` takes, in the space of the latent: a query for each head, and the latent as the only key and value.
    /// In each, what is turned comes first.
    fn enter_latent(&mut self, latent: &Self::Latent, x: Self::Rows) -> Result<Self::Rows, Self::Fault>;

    /// The values of each head, from what it has attended to in the space of the latent.
    fn leave_latent(&mut self, latent: &Self::Latent, attended: Self::Rows) -> Result<Self::Rows, Self::Fault>;

    /// Changes the states that the step names by its tokens, and gives what they read: `[tokens, heads * value_dim]`.
    fn recur(&mut self, delta: &Self::Delta, x: Self::Rows, step: &Step<'_>) -> Result<Self::Rows, Self::Fault>;

    /// activation(gate) × up of `[gate | up]`: half the width.
    fn gate(&mut self, activation: models::Activation, gate_up: Self::Rows) -> Result<Self::Rows, Self::Fault>;

    /// The weighted sum of what each row's experts compute.
    fn experts(&mut self, experts: &Self::Experts, x: &Self::Rows) -> Result<Self::Rows, Self::Fault>;

    /// stream + scale × branch.
    fn add(&mut self, stream: Self::Rows, branch: Self::Rows, scale: f32) -> Result<Self::Rows, Self::Fault>;

    /// The rows of the tokens whose logits are wanted.
    fn wanted(&mut self, x: &Self::Rows, step: &Step<'_>) -> Result<Self::Rows, Self::Fault>;

    /// Gives activations back.
    fn done(&mut self, x: Self::Rows);

    /// Ends the step: everything is computed, keys and values too, and `logits` holds `[wanted, vocabulary]`.
    fn logits(
        &mut self,
        head: &Self::Matrix,
        x: Self::Rows,
        step: &Step<'_>,
        logits: &mut Vec<f32>,
    ) -> Result<(), Self::Fault>;
}
