//! How positions turn queries and keys, as `config.json` says it: a base and at most one way to stretch it.
//!
//! Reads both forms that transformers writes: `rope_theta` with `rope_scaling`, and `rope_parameters`. A stretch that is
//! not known is refused by name, as wrong angles read like a model that has gone slightly mad. Computes no table.

use crate::LoadError;
use crate::config::Config;
use crate::native::{self, Scaling};

/// The most positions that any context may have.
pub(super) const CONTEXT_MAX: u64 = 1 << 28;

/// The rotary embedding of a decoder, or of some of its layers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    /// The base of the wavelengths.
    pub base: f64,
    /// How many dimensions of a head are turned, from the first on.
    pub dims: usize,
    /// Whether neighbours are turned together, where otherwise halves are.
    pub neighbours: bool,
    /// How the wavelengths are stretched to reach past the context of the first training.
    pub scaling: Scaling,
    /// A divisor for each frequency, and the factor of what is turned.
    pub listed: Option<(Vec<f64>, f64)>,
}

impl Rope {
    /// Turns whole heads, nothing stretched.
    pub fn plain(base: f64, head_dim: usize) -> Self {
        Self { base, dims: head_dim, neighbours: false, scaling: Scaling::None, listed: None }
    }

    /// Reads base and scaling; `default` is the base where the file has none.
    pub fn read(config: &Config, default: Option<f64>, head_dim: usize) -> Result<Self, LoadError> {
        let parameters = config.object_if_any("rope_parameters")?;
        let nested = parameters.as_ref().map(|table| table.number_if_any("rope_theta")).transpose()?.flatten();
        let default = config.number_if_any("rope_theta")?.or(nested).or(default);
        match config.object_if_any("rope_scaling")?.or(parameters) {
            Some(table) => Self::of_table(&table, config, default, head_dim),
            None => Self::of_table(config, config, default, head_dim),
        }
    }

    /// Reads a table of `config.json`, or the file itself where it has none.
    pub fn of_table(table: &Config, config: &Config, default: Option<f64>, head_dim: usize) -> Result<Self, LoadError> {
        let base = table.number_if_any("rope_theta")?.or(default);
        let base = base.ok_or_else(|| config.problem("rope_theta is missing".to_string()))?;
        let share = table.number_if_any("partial_rotary_factor")?;
        let share = share.or(config.number_if_any("partial_rotary_factor")?).unwrap_or(1.0);
        let dims = (head_dim as f64 * share) as usize;
        if share > 1.0 || dims < 2 || !dims.is_multiple_of(2) {
            return Err(
                config.problem(format!("partial_rotary_factor {share} leaves no pairs in a head of {head_dim}"))
            );
        }
        let kind = match table.word_if_any("rope_type")? {
            Some(kind) => kind,
            None => table.word_if_any("type")?.unwrap_or("default"),
        };
        let mut rope = Self { dims, ..Self::plain(base, head_dim) };
        match kind {
            "longrope" | "su" => rope.listed = Some(read_listed(table, config, dims)?),
            _ => rope.scaling = read_scaling(kind, table, config)?,
        }
        Ok(rope)
    }

    /// The positions that a configured context reaches. YaRN's files often keep the context of the first training.
    pub fn context(&self, configured: usize) -> usize {
        match self.scaling {
            Scaling::Yarn { factor, original, .. } => {
                configured.max((factor * original).min(CONTEXT_MAX as f64) as usize)
            }
            _ => configured,
        }
    }

    /// The frequencies, for the machine that turns.
    pub fn table(&self) -> native::Rope {
        let table = native::Rope::new(self.dims, self.base, &self.scaling);
        let table = match &self.listed {
            Some((divisors, magnitude)) => table.divided(divisors, *magnitude),
            None => table,
        };
        if self.neighbours { table.of_neighbours() } else { table }
    }
}

/// The context of the first training, where a file says it: beside the table, which counts first, or in it.
fn original(table: &Config, config: &Config) -> Result<Option<f64>, LoadError> {
    let key = "original_max_position_embeddings";
    Ok(config.number_if_any(key)?.or(table.number_if_any(key)?))
}

/// LongRoPE: the divisors of the long context wherever the model is configured for more than its first training.
fn read_listed(table: &Config, config: &Config, dims: usize) -> Result<(Vec<f64>, f64), LoadError> {
    let reached = config.count("max_position_embeddings")? as f64;
    let original = original(table, config)?.unwrap_or(reached);
    let factor = reached / original;
    let divisors = table.numbers(if factor > 1.0 { "long_factor" } else { "short_factor" })?;
    if divisors.len() != dims / 2 {
        return Err(config.problem(format!("longrope lists {} factors for {dims} dimensions", divisors.len())));
    }
    let magnitude = if factor > 1.0 { (1.0 + factor.ln() / original.ln()).sqrt() } else { 1.0 };
    Ok((divisors, table.number_if_any("attention_factor")?.unwrap_or(magnitude)))
}

fn read_scaling(kind: &str, table: &Config, config: &Config) -> Result<Scaling, LoadError> {
    let number = |key: &str| {
        table.number_if_any(key)?.ok_or_else(|| config.problem(format!("rope scaling {kind} has no {key}")))
    };
    match kind {
        "default" => Ok(Scaling::None),
        // It stretches what lies past the configured context, where nothing comes to lie; but for one family's own way.
        "dynamic" if table.value("alpha").is_none() => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear { factor: number("factor")? }),
        "llama3" if number("low_freq_factor")? >= number("high_freq_factor")? => {
            Err(config.problem("rope scaling llama3 has no high_freq_factor above its low_freq_factor".to_string()))
        }
        "llama3" => Ok(Scaling::Llama3 {
            factor: number("factor")?,
            low: number("low_freq_factor")?,
            high: number("high_freq_factor")?,
            original: match original(table, config)? {
                Some(original) => original,
                None => number("original_max_position_embeddings")?,
            },
        }),
        "yarn" => read_yarn(table, config, number("factor")?),
        other => Err(LoadError::unsupported(
            format!("rope scaling {other}"),
            "default, dynamic, linear, llama3, longrope and yarn are",
        )),
    }
}

fn read_yarn(table: &Config, config: &Config, factor: f64) -> Result<Scaling, LoadError> {
    let sharpness = |weight: f64| if factor > 1.0 { 0.1 * weight * factor.ln() + 1.0 } else { 1.0 };
    let weight = |key: &str, default: f64| -> Result<f64, LoadError> { Ok(table.real_if_any(key)?.unwrap_or(default)) };
    let ratio = sharpness(weight("mscale", 1.0)?) / sharpness(weight("mscale_all_dim", 0.0)?);
    // In the words of YaRN's authors, as in DeepSeek's Qwen 3. It comes on top of what YaRN has by itself, which it undoes there;
    // transformers and mlx-lm pass over it.
    let beside = table.number_if_any("attn_factor")?.unwrap_or(1.0);
    if let Some(share) = table.real_if_any("extrapolation_factor")?.filter(|share| *share != 1.0) {
        return Err(LoadError::unsupported(format!("an extrapolation_factor of {share} in yarn"), "1 is"));
    }
    let original = match original(table, config)? {
        Some(original) => original,
        None => config.count("max_position_embeddings")? as f64,
    };
    Ok(Scaling::Yarn {
        factor,
        fast: table.number_if_any("beta_fast")?.unwrap_or(32.0),
        slow: table.number_if_any("beta_slow")?.unwrap_or(1.0),
        original,
        whole: table.flag_if_any("truncate")?.unwrap_or(true),
        magnitude: Some(table.number_if_any("attention_factor")?.unwrap_or(ratio * beside)),
    })
}
