//! The parts of a description: layers, their branches, and the weights that these name.
//!
//! Plain data that pages fill in and everyone else walks.

use crate::native::DeltaShape;

/// One layer: `x += mixer(x)`, then `x += feed(x)`, or both side by side.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// What mixes tokens.
    pub mixer: Branch<Mixer>,
    /// What each token computes alone.
    pub feed: Branch<Feed>,
    /// Both branches read the mixer's norm of the same x, and `feed` has none of its own.
    pub parallel: bool,
    /// What branches are multiplied by before they are added.
    pub residual_scale: f32,
    /// Whether the mixer is left out, weights and all.
    pub without_mixer: bool,
    /// Whether the feed is left out, weights and all.
    pub without_feed: bool,
}

/// A branch of the residual stream, and the norms before and after it.
#[derive(Clone, Debug)]
pub(crate) struct Branch<T> {
    /// The norm of what goes in.
    pub before: Option<Norm>,
    /// What computes.
    pub inner: T,
    /// The norm of what comes out.
    pub after: Option<Norm>,
}

/// Attention with its projections.
#[derive(Clone, Debug)]
pub(crate) struct Mixer {
    /// Queries, keys and values, stacked in this order.
    pub qkv: Stack,
    /// Norms of the queries and of the keys, before rope.
    pub qk_norm: Option<(Norm, Norm)>,
    /// Who attends to what, unless the form has another way.
    pub attention: Attention,
    /// For each query head a score that takes its share of attention and gives nothing for it.
    pub sinks: Option<Vector>,
    /// How queries, keys and values come of what was projected, and what is done with what they give.
    pub form: Form,
    /// The projection back to the residual stream.
    pub output: Stack,
}

/// What lies between a mixer's two projections.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// Attention.
    Plain,
    /// Attention whose heads are each multiplied by the sigmoid of a gate: `qkv` gives a gate after each query head.
    Gated,
    /// Attention in a space that all heads share.
    Latent(Latent),
    /// No attention, but a state that each token changes: `qkv` gives queries, keys, values, gates and two factors a head.
    Delta(Delta),
}

/// A gated delta net.
#[derive(Clone, Debug)]
pub(crate) struct Delta {
    /// Its heads, and how their parts lie in what was projected.
    pub shape: DeltaShape,
    /// The convolution over the last tokens of each channel.
    pub conv: Vector,
    /// For each value head the logarithm of how fast it forgets, and what is added to what a token says about it.
    pub decay: Vector,
    /// See `decay`.
    pub decay_bias: Vector,
    /// The norm of what a head gives.
    pub norm: Norm,
}

/// Multi-head latent attention, as DeepSeek has it. A token's keys and values are kept as one short vector, the latent, and
/// one turned part; each head's queries are brought into that space, and what is attended is brought out of it. `qkv` gives
/// the queries, or what they are made of, then the latent and the part of the keys that is turned.
#[derive(Clone, Debug)]
pub(crate) struct Latent {
    /// Where queries are made in two steps, the norm between and the second.
    pub queries: Option<(Norm, Stack)>,
    /// The norm of the latent.
    pub norm: Norm,
    /// Width of the latent.
    pub rank: usize,
    /// Of each head: what is turned of it, what is not, and the width of its values.
    pub widths: (usize, usize, usize),
    /// What brings heads into the latent and out of it.
    pub heads: LatentHeads,
}

/// How a checkpoint holds the matrices between heads and the latent.
#[derive(Clone, Debug)]
pub(crate) enum LatentHeads {
    /// One matrix from the latent to the unturned keys and the values of each head in turn.
    Joined(Stack),
    /// A matrix a head from its unturned queries to the latent, and one from the latent to its values.
    Apart(Vec<Stack>, Vec<Stack>),
}

/// The shape of a layer's attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// How many positions a token sees, itself included; `None` is all.
    pub window: Option<usize>,
    /// The rope of the description that turns queries and keys; `None` leaves them.
    pub rope: Option<usize>,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Scores become softcap * tanh(score / softcap).
    pub softcap: Option<f32>,
    /// Whether queries grow with their position.
    pub sharpening: Option<Sharpening>,
}

/// A query is multiplied by 1 + weight × ln(1 + how often `every` goes into its position).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sharpening {
    /// The weight of the logarithm.
    pub weight: f32,
    /// Positions at which nothing changes.
    pub every: u32,
}

impl Sharpening {
    /// The factor of a position.
    pub fn at(&self, position: u32) -> f32 {
        1.0 + self.weight * (1.0 + (position / self.every) as f32).ln()
    }
}

/// What each token computes alone.
#[derive(Clone, Debug)]
pub(crate) enum Feed {
    /// One gated MLP.
    Gated(Gated),
    /// A few of many.
    Experts(Experts),
}

/// Gated MLPs of which each token takes those that a router scores highest, weighted by what becomes of its scores.
#[derive(Clone, Debug)]
pub(crate) struct Experts {
    /// A score for each expert.
    pub router: Stack,
    /// How many a token takes.
    pub chosen: usize,
    /// Which they are, and what they weigh.
    pub routing: Routing,
    /// What every token takes as well.
    pub shared: Option<Shared>,
    /// The experts, all of one shape.
    pub each: Vec<Gated>,
    /// The module under which converted checkpoints hold the matrices of all experts as one tensor.
    pub joined: String,
}

/// How scores become weights.
#[derive(Clone, Debug)]
pub(crate) struct Routing {
    /// Whether each score goes through a sigmoid alone, and not all through a softmax.
    pub sigmoid: bool,
    /// What is added to the weights to choose by, and not to weigh by.
    pub bias: Option<Vector>,
    /// Experts are chosen from the best of so many groups only.
    pub groups: Option<Groups>,
    /// Whether the weights of the chosen add up to one.
    pub normalised: bool,
    /// What they are multiplied by then.
    pub scale: f32,
}

/// Groups of experts that follow one another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Groups {
    /// How many there are.
    pub count: usize,
    /// How many of them a token may take from.
    pub chosen: usize,
    /// A group counts as much as so many of its best.
    pub by: usize,
}

/// An MLP beside the experts.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// The MLP.
    pub gated: Gated,
    /// One score; the MLP is multiplied by its sigmoid.
    pub gate: Option<Stack>,
}

/// `down(activation(gate) × up)`.
#[derive(Clone, Debug)]
pub(crate) struct Gated {
    /// Gate and up, stacked in this order.
    pub gate_up: Stack,
    /// What the gate goes through.
    pub activation: Activation,
    /// The projection back to the residual stream.
    pub down: Stack,
}

/// What a gate goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// x × sigmoid(x).
    Silu,
    /// The tanh approximation of x × Φ(x).
    GeluTanh,
    /// x × sigmoid(1.702 x), both halves clipped, and one added to the other half.
    ClippedSwiglu,
}

/// A norm over runs of as many numbers as the last dimension of its factors.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    /// What is taken out.
    pub kind: NormKind,
    /// A factor for each number.
    pub weight: Vector,
    /// Whether the factors are stored less one.
    pub less_one: bool,
    /// What is added to the mean square.
    pub epsilon: f32,
}

/// What a norm takes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// The root mean square.
    Rms,
    /// The mean, then the root mean square.
    Layer,
}

/// Matrices that read the same input; their outputs follow one another.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    /// The matrices.
    pub parts: Vec<Part>,
    /// Width of the input.
    pub inputs: usize,
}

/// One matrix of a stack, as a module of the checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The module's name; its tensors are `NAME.weight` and, where they exist, `.scales`, `.biases` and `.bias`.
    pub name: String,
    /// Rows of the matrix.
    pub outputs: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// Which of how many: the module's tensors have one dimension more, and this is one step of it.
    pub slice: Option<(usize, usize)>,
}

/// A vector of weights.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    /// The tensor's name.
    pub name: String,
    /// The tensor's shape.
    pub dims: Vec<usize>,
}

impl Vector {
    /// A plain vector.
    pub fn new(name: impl Into<String>, length: usize) -> Self {
        Self { name: name.into(), dims: vec![length] }
    }

    /// How many numbers it has.
    pub fn length(&self) -> usize {
        self.dims.iter().product()
    }

    /// Its last dimension.
    pub fn width(&self) -> usize {
        self.dims[self.dims.len() - 1]
    }
}

impl Mixer {
    /// Its stacks of matrices.
    pub fn stacks(&self) -> impl Iterator<Item = &Stack> {
        let inner = match &self.form {
            Form::Latent(latent) => Some(latent.stacks()),
            Form::Plain | Form::Gated | Form::Delta(_) => None,
        };
        std::iter::once(&self.qkv).chain(inner.into_iter().flatten()).chain(std::iter::once(&self.output))
    }

    /// Its norms.
    fn norms(&self) -> impl Iterator<Item = &Norm> {
        let (latent, delta) = match &self.form {
            Form::Latent(latent) => (Some(latent.queries.iter().map(|(norm, _)| norm).chain([&latent.norm])), None),
            Form::Delta(delta) => (None, Some(&delta.norm)),
            Form::Plain | Form::Gated => (None, None),
        };
        self.qk_norm.iter().flat_map(|(q, k)| [q, k]).chain(latent.into_iter().flatten()).chain(delta)
    }
}

impl Latent {
    /// Its stacks of matrices.
    pub fn stacks(&self) -> impl Iterator<Item = &Stack> {
        let (joined, apart) = match &self.heads {
            LatentHeads::Joined(stack) => (Some(stack), None),
            LatentHeads::Apart(keys, values) => (None, Some(keys.iter().chain(values))),
        };
        let queries = self.queries.iter().map(|(_, stack)| stack);
        queries.chain(joined).chain(apart.into_iter().flatten())
    }
}

impl Layer {
    /// What mixes tokens, unless it is left out.
    pub fn mixer(&self) -> Option<&Branch<Mixer>> {
        (!self.without_mixer).then_some(&self.mixer)
    }

    /// What each token computes alone, unless it is left out.
    pub fn feed(&self) -> Option<&Branch<Feed>> {
        (!self.without_feed).then_some(&self.feed)
    }

    /// Its stacks of matrices, in the order of the computation.
    pub fn stacks(&self) -> impl Iterator<Item = &Stack> {
        let mixer = self.mixer().into_iter().flat_map(|branch| branch.inner.stacks());
        let (gated, experts) = match self.feed().map(|branch| &branch.inner) {
            Some(Feed::Gated(gated)) => (Some([&gated.gate_up, &gated.down]), None),
            Some(Feed::Experts(experts)) => (None, Some(experts.stacks())),
            None => (None, None),
        };
        mixer.chain(gated.into_iter().flatten()).chain(experts.into_iter().flatten())
    }

    /// Its norms, in the order of the computation.
    pub fn norms(&self) -> impl Iterator<Item = &Norm> {
        let mixer = self
            .mixer()
            .into_iter()
            .flat_map(|branch| branch.before.iter().chain(branch.inner.norms()).chain(&branch.after));
        mixer.chain(self.feed().into_iter().flat_map(|branch| branch.before.iter().chain(&branch.after)))
    }

    /// The same, to be changed.
    pub fn norms_mut(&mut self) -> impl Iterator<Item = &mut Norm> {
        let heads = self.mixer.inner.qk_norm.iter_mut().flat_map(|(q, k)| [q, k]);
        let mixer = self.mixer.before.iter_mut().chain(heads).chain(&mut self.mixer.after);
        mixer.chain(&mut self.feed.before).chain(&mut self.feed.after)
    }
}

impl Experts {
    /// Every stack of matrices but those of what all tokens take.
    pub fn own_stacks(&self) -> impl Iterator<Item = &Stack> {
        std::iter::once(&self.router).chain(self.each.iter().flat_map(|gated| [&gated.gate_up, &gated.down]))
    }

    /// Every stack of matrices.
    pub fn stacks(&self) -> impl Iterator<Item = &Stack> {
        let shared = self
            .shared
            .iter()
            .flat_map(|shared| [&shared.gated.gate_up, &shared.gated.down].into_iter().chain(&shared.gate));
        self.own_stacks().chain(shared)
    }

    /// Takes the experts from the tensors that hold all of them.
    pub fn join(&mut self) {
        let count = self.each.len();
        for (index, gated) in self.each.iter_mut().enumerate() {
            let parts = gated.gate_up.parts.iter_mut().chain(&mut gated.down.parts);
            for (part, module) in parts.zip(["gate_proj", "up_proj", "down_proj"]) {
                (part.name, part.slice) = (format!("{}.{module}", self.joined), Some((index, count)));
            }
        }
    }
}

impl Norm {
    /// A root-mean-square norm of so many numbers: `MODULE.weight`.
    pub fn rms(module: &str, length: usize, epsilon: f32) -> Self {
        let weight = Vector::new(format!("{module}.weight"), length);
        Self { kind: NormKind::Rms, weight, less_one: false, epsilon }
    }

    /// The same with factors of another shape.
    pub fn with_dims(self, dims: Vec<usize>) -> Self {
        Self { weight: Vector { dims, ..self.weight }, ..self }
    }

    /// The same with weights of another module: the last one of the name, `old`, is replaced.
    pub fn renamed(&self, old: &str, new: &str) -> Self {
        let weight = Vector { name: self.weight.name.replace(old, new), ..self.weight.clone() };
        Self { weight, ..self.clone() }
    }
}

impl Part {
    /// A whole matrix.
    pub fn new(name: impl Into<String>, outputs: usize, bias: bool) -> Self {
        Self { name: name.into(), outputs, bias, slice: None }
    }
}

impl Stack {
    /// A stack of one matrix without a bias.
    pub fn single(name: impl Into<String>, outputs: usize, inputs: usize) -> Self {
        Self { parts: vec![Part::new(name, outputs, false)], inputs }
    }

    /// Width of the output.
    pub fn outputs(&self) -> usize {
        self.parts.iter().map(|part| part.outputs).sum()
    }
}
