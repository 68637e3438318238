//! The decoder: one step of token rows through the layers of a description, to the logits of the rows that want them.
//!
//! Written once for every architecture and every machine, in the verbs of [`Ops`]; where a layer differs, its description
//! says so. It validates nothing: [`crate::Model`] has done so.

use crate::LoadError;
use crate::folder::Folder;
use crate::matrix::Matrix;
use crate::models;
use crate::ops::{Attention, Ops, Step};

/// The weights of a decoder.
pub(crate) struct Decoder<O: Ops> {
    embedding: O::Matrix,
    layers: Vec<Layer<O>>,
    norm: O::Norm,
    head: Option<O::Matrix>,
    embedding_scale: f32,
    logit_scale: f32,
    logit_softcap: Option<f32>,
}

struct Layer<O: Ops> {
    mixer: Option<Branch<O, Mixer<O>>>,
    feed: Option<Branch<O, Feed<O>>>,
    parallel: bool,
    residual_scale: f32,
}

struct Branch<O: Ops, T> {
    before: Option<O::Norm>,
    inner: T,
    after: Option<O::Norm>,
}

struct Mixer<O: Ops> {
    qkv: O::Matrix,
    form: Form<O>,
    output: O::Matrix,
}

enum Form<O: Ops> {
    Plain(Attention<O>),
    Gated(Attention<O>),
    Latent(O::Latent, Attention<O>),
    Delta(O::Delta),
}

enum Feed<O: Ops> {
    Gated(Gated<O>),
    Experts(O::Experts, Option<Shared<O>>),
}

/// What every token takes beside its experts, and what weighs it.
struct Shared<O: Ops> {
    gated: Gated<O>,
    gate: Option<O::Matrix>,
}

struct Gated<O: Ops> {
    gate_up: O::Matrix,
    activation: models::Activation,
    down: O::Matrix,
}

impl<O: Ops> Decoder<O> {
    /// Brings the weights of a folder to the machine; `loaded` hears the bytes of each stack that is done.
    pub fn load(folder: &Folder, ops: &mut O, loaded: &mut dyn FnMut(u64)) -> Result<Self, LoadError> {
        let description = &folder.description;
        let mut loader = Loader { folder, ops, loaded };
        let embedding = loader.matrix(&description.embedding)?;
        let layers = description.layers.iter().enumerate().map(|(index, layer)| loader.layer(index, layer));
        Ok(Self {
            embedding,
            layers: layers.collect::<Result<_, _>>()?,
            norm: loader.norm(&description.norm)?,
            head: description.head.as_ref().map(|head| loader.matrix(head)).transpose()?,
            embedding_scale: description.embedding_scale,
            logit_scale: description.logit_scale,
            logit_softcap: description.logit_softcap,
        })
    }

    /// Computes a step: keys and values go to the cache, and `logits` becomes `[wanted, vocabulary]`. Before each layer it
    /// asks whether to go on; false if it was not to.
    pub fn forward(
        &self,
        step: &Step<'_>,
        ops: &mut O,
        logits: &mut Vec<f32>,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool, O::Fault> {
        ops.begin(step)?;
        let mut stream = ops.embed(&self.embedding, step, self.embedding_scale)?;
        for (index, layer) in self.layers.iter().enumerate() {
            if !go_on() {
                ops.done(stream);
                return Ok(false);
            }
            let last = index + 1 == self.layers.len();
            stream = layer.forward(ops, stream, step, last)?;
        }
        let normed = ops.norm(&self.norm, &stream)?;
        ops.done(stream);
        ops.logits(self.head.as_ref().unwrap_or(&self.embedding), normed, step, logits)?;
        self.adjust(logits);
        Ok(true)
    }

    /// Scales and caps logits, where the architecture does.
    fn adjust(&self, logits: &mut [f32]) {
        if self.logit_scale != 1.0 {
            logits.iter_mut().for_each(|logit| *logit *= self.logit_scale);
        }
        if let Some(cap) = self.logit_softcap {
            logits.iter_mut().for_each(|logit| *logit = (*logit / cap).tanh() * cap);
        }
    }
}

impl<O: Ops> Layer<O> {
    /// The stream after this layer; after the last one, only of the rows whose logits are wanted: once keys and values
    /// are stored, nobody needs the others.
    fn forward(&self, ops: &mut O, mut stream: O::Rows, step: &Step<'_>, last: bool) -> Result<O::Rows, O::Fault> {
        let cut = last && step.wanted.len() < step.tokens.len();
        if let (true, Some(mixer), Some(feed)) = (self.parallel, &self.mixer, &self.feed) {
            let branch = mixer.forward(ops, &stream, |ops, mixer, x| {
                let mixed = mixer.forward(ops, x, step, cut, None)?;
                let x = if cut { &ops.wanted(x, step)? } else { x };
                let fed = feed.forward(ops, x, |ops, feed, x| feed.forward(ops, x, None))?;
                ops.add(mixed, fed, 1.0)
            })?;
            stream = if cut { wanted(ops, stream, step)? } else { stream };
            return ops.add(stream, branch, self.residual_scale);
        }
        match &self.mixer {
            Some(mixer) => {
                let narrow = |ops: &mut O, stream| if cut { wanted(ops, stream, step) } else { Ok(stream) };
                stream = mixer.join(ops, stream, self.residual_scale, narrow, |ops, mixer, x, onto| {
                    mixer.forward(ops, x, step, cut, onto)
                })?;
            }
            None if cut => stream = wanted(ops, stream, step)?,
            None => {}
        }
        if let Some(feed) = &self.feed {
            stream = feed.join(
                ops,
                stream,
                self.residual_scale,
                |_, stream| Ok(stream),
                |ops, feed, x, onto| feed.forward(ops, x, onto),
            )?;
        }
        Ok(stream)
    }
}

impl<O: Ops, T> Branch<O, T> {
    /// narrow(stream) + scale × after(inner(before(stream))). Where nothing comes after it, `inner` is given what its last
    /// product is to be added to.
    fn join(
        &self,
        ops: &mut O,
        stream: O::Rows,
        scale: f32,
        narrow: impl FnOnce(&mut O, O::Rows) -> Result<O::Rows, O::Fault>,
        inner: impl FnOnce(&mut O, &T, &O::Rows, Option<O::Rows>) -> Result<O::Rows, O::Fault>,
    ) -> Result<O::Rows, O::Fault> {
        if let (Some(norm), None, 1.0) = (&self.before, &self.after, scale) {
            let normed = ops.norm(norm, &stream)?;
            let stream = narrow(ops, stream)?;
            let sum = inner(ops, &self.inner, &normed, Some(stream))?;
            ops.done(normed);
            return Ok(sum);
        }
        let branch = self.forward(ops, &stream, |ops, part, x| inner(ops, part, x, None))?;
        let stream = narrow(ops, stream)?;
        ops.add(stream, branch, scale)
    }

    /// after(inner(before(x))).
    fn forward(
        &self,
        ops: &mut O,
        x: &O::Rows,
        inner: impl FnOnce(&mut O, &T, &O::Rows) -> Result<O::Rows, O::Fault>,
    ) -> Result<O::Rows, O::Fault> {
        let out = match &self.before {
            None => inner(ops, &self.inner, x)?,
            Some(norm) => {
                let normed = ops.norm(norm, x)?;
                let out = inner(ops, &self.inner, &normed)?;
                ops.done(normed);
                out
            }
        };
        let Some(norm) = &self.after else { return Ok(out) };
        let normed = ops.norm(norm, &out)?;
        ops.done(out);
        Ok(normed)
    }
}

impl<O: Ops> Mixer<O> {
    /// output(attend(x)), of all rows or of the wanted ones, and what it is added to.
    fn forward(
        &self,
        ops: &mut O,
        x: &O::Rows,
        step: &Step<'_>,
        cut: bool,
        onto: Option<O::Rows>,
    ) -> Result<O::Rows, O::Fault> {
        let qkv = ops.linear(&self.qkv, x)?;
        let attended = match &self.form {
            Form::Plain(attention) => ops.attend(attention, qkv, step, cut)?,
            Form::Gated(attention) => {
                let (qkv, gates) = ops.part_gates(&attention.shape, qkv)?;
                let gates = if cut { wanted(ops, gates, step)? } else { gates };
                let attended = ops.attend(attention, qkv, step, cut)?;
                ops.open(gates, attended)?
            }
            Form::Delta(delta) => {
                let read = ops.recur(delta, qkv, step)?;
                if cut { wanted(ops, read, step)? } else { read }
            }
            Form::Latent(latent, attention) => {
                let qkv = ops.enter_latent(latent, qkv)?;
                let attended = ops.attend(attention, qkv, step, cut)?;
                ops.leave_latent(latent, attended)?
            }
        };
        let out = product(ops, &self.output, &attended, onto)?;
        ops.done(attended);
        Ok(out)
    }
}

/// W x, or the sum of it and what is there.
fn product<O: Ops>(ops: &mut O, matrix: &O::Matrix, x: &O::Rows, onto: Option<O::Rows>) -> Result<O::Rows, O::Fault> {
    match onto {
        None => ops.linear(matrix, x),
        Some(onto) => ops.linear_onto(matrix, x, onto),
    }
}

/// The wanted rows in the place of all.
fn wanted<O: Ops>(ops: &mut O, x: O::Rows, step: &Step<'_>) -> Result<O::Rows, O::Fault> {
    let chosen = ops.wanted(&x, step)?;
    ops.done(x);
    Ok(chosen)
}

impl<O: Ops> Feed<O> {
    fn forward(&self, ops: &mut O, x: &O::Rows, onto: Option<O::Rows>) -> Result<O::Rows, O::Fault> {
        let sum = match self {
            Self::Gated(gated) => return gated.forward(ops, x, onto),
            Self::Experts(experts, None) => ops.experts(experts, x)?,
            Self::Experts(experts, Some(shared)) => {
                let sum = ops.experts(experts, x)?;
                shared.forward(ops, x, sum)?
            }
        };
        match onto {
            None => Ok(sum),
            Some(onto) => ops.add(onto, sum, 1.0),
        }
    }
}

impl<O: Ops> Shared<O> {
    /// sum + gated(x), or sum + sigmoid(gate x) × gated(x).
    fn forward(&self, ops: &mut O, x: &O::Rows, sum: O::Rows) -> Result<O::Rows, O::Fault> {
        let Some(gate) = &self.gate else { return self.gated.forward(ops, x, Some(sum)) };
        let out = self.gated.forward(ops, x, None)?;
        let gate = ops.linear(gate, x)?;
        let beside = ops.open(gate, out)?;
        ops.add(sum, beside, 1.0)
    }
}

impl<O: Ops> Gated<O> {
    /// down(activation(gate) × up), and what it is added to.
    fn forward(&self, ops: &mut O, x: &O::Rows, onto: Option<O::Rows>) -> Result<O::Rows, O::Fault> {
        let gated = ops.gated(&self.gate_up, self.activation, x)?;
        let out = product(ops, &self.down, &gated, onto)?;
        ops.done(gated);
        Ok(out)
    }
}

/// Brings a folder's weights to a machine.
struct Loader<'a, O> {
    folder: &'a Folder,
    ops: &'a mut O,
    loaded: &'a mut dyn FnMut(u64),
}

impl<O: Ops> Loader<'_, O> {
    fn layer(&mut self, index: usize, layer: &models::Layer) -> Result<Layer<O>, LoadError> {
        let mixer = layer.mixer().map(|branch| {
            let mixer = self.mixer(index, &branch.inner)?;
            self.branch(branch, mixer)
        });
        let mixer = mixer.transpose()?;
        let feed = layer.feed().map(|branch| {
            let feed = self.feed(&branch.inner)?;
            self.branch(branch, feed)
        });
        Ok(Layer { mixer, feed: feed.transpose()?, parallel: layer.parallel, residual_scale: layer.residual_scale })
    }

    fn branch<M, T>(&mut self, branch: &models::Branch<M>, inner: T) -> Result<Branch<O, T>, LoadError> {
        let mut norm = |norm: &Option<models::Norm>| norm.as_ref().map(|norm| self.norm(norm)).transpose();
        Ok(Branch { before: norm(&branch.before)?, inner, after: norm(&branch.after)? })
    }

    fn mixer(&mut self, layer: usize, mixer: &models::Mixer) -> Result<Mixer<O>, LoadError> {
        let qk_norm = match &mixer.qk_norm {
            Some((queries, keys)) => Some((self.norm(queries)?, self.norm(keys)?)),
            None => None,
        };
        let sinks = mixer.sinks.as_ref().map(|sinks| self.folder.vector(sinks)).transpose()?;
        let attention = Attention { layer, shape: mixer.attention, qk_norm, sinks };
        let form = match &mixer.form {
            models::Form::Plain => Form::Plain(attention),
            models::Form::Gated => Form::Gated(attention),
            models::Form::Delta(delta) => Form::Delta(self.ops.delta_weights(self.folder, delta)?),
            models::Form::Latent(latent) => {
                let weights = self.ops.latent_weights(self.folder, latent)?;
                latent.stacks().try_for_each(|stack| self.report(stack))?;
                Form::Latent(weights, attention)
            }
        };
        Ok(Mixer { qkv: self.matrix(&mixer.qkv)?, form, output: self.matrix(&mixer.output)? })
    }

    fn feed(&mut self, feed: &models::Feed) -> Result<Feed<O>, LoadError> {
        Ok(match feed {
            models::Feed::Gated(gated) => Feed::Gated(self.gated(gated)?),
            models::Feed::Experts(experts) => {
                let weights = self.ops.expert_weights(self.folder, experts)?;
                experts.own_stacks().try_for_each(|stack| self.report(stack))?;
                let shared = experts.shared.as_ref().map(|shared| {
                    let gate = shared.gate.as_ref().map(|gate| self.matrix(gate)).transpose()?;
                    Ok::<_, LoadError>(Shared { gated: self.gated(&shared.gated)?, gate })
                });
                Feed::Experts(weights, shared.transpose()?)
            }
        })
    }

    fn gated(&mut self, gated: &models::Gated) -> Result<Gated<O>, LoadError> {
        Ok(Gated {
            gate_up: self.gate_matrix(&gated.gate_up)?,
            activation: gated.activation,
            down: self.matrix(&gated.down)?,
        })
    }

    fn matrix(&mut self, stack: &models::Stack) -> Result<O::Matrix, LoadError> {
        let matrix = self.ops.matrix(self.folder, stack)?;
        self.report(stack)?;
        Ok(matrix)
    }

    fn gate_matrix(&mut self, stack: &models::Stack) -> Result<O::Matrix, LoadError> {
        let matrix = self.ops.gate_matrix(self.folder, stack)?;
        self.report(stack)?;
        Ok(matrix)
    }

    fn report(&mut self, stack: &models::Stack) -> Result<(), LoadError> {
        (self.loaded)(self.folder.matrices(stack)?.iter().map(Matrix::bytes).sum());
        Ok(())
    }

    fn norm(&mut self, norm: &models::Norm) -> Result<O::Norm, LoadError> {
        self.ops.norm_weights(self.folder, norm)
    }
}
