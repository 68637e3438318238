//! How positions turn queries and keys, as `config.json` says it: a base and at most one way to stretch it.
//!
//! Reads both forms that transformers writes: `rope_theta` with `rope_scaling`, and `rope_parameters`. A stretch that is
//! not known is refused by name, as wrong angles read like a model that has gone slightly mad. Computes no table.

use crate::LoadError;
use crate::config::Config;
use crate::native::Scaling;

/// The rotary embedding of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    /// The base of the wavelengths.
    pub base: f64,
    /// How the wavelengths are stretched to reach past the context of the first training.
    pub scaling: Scaling,
}

impl Rope {
    /// Reads base and scaling; `default` is the base where the file has none.
    pub fn read(config: &Config, default: Option<f64>) -> Result<Self, LoadError> {
        let parameters = config.object_if_any("rope_parameters")?;
        let nested = parameters.as_ref().map(|table| table.number_if_any("rope_theta")).transpose()?.flatten();
        let base = config.number_if_any("rope_theta")?.or(nested).or(default);
        let base = base.ok_or_else(|| config.problem("rope_theta is missing".to_string()))?;
        let table = config.object_if_any("rope_scaling")?.or(parameters);
        let scaling = table.map_or(Ok(Scaling::None), |table| read_scaling(&table, config))?;
        Ok(Self { base, scaling })
    }

    /// The positions that a configured context reaches. YaRN's files often keep the context of the first training.
    pub fn context(&self, configured: usize) -> usize {
        match self.scaling {
            Scaling::Yarn { factor, original, .. } => configured.max((factor * original) as usize),
            _ => configured,
        }
    }
}

fn read_scaling(table: &Config, config: &Config) -> Result<Scaling, LoadError> {
    let kind = match table.word_if_any("rope_type")? {
        Some(kind) => kind,
        None => table.word_if_any("type")?.unwrap_or("default"),
    };
    if table.number_if_any("partial_rotary_factor")?.is_some_and(|share| share != 1.0) {
        return Err(LoadError::unsupported("partial_rotary_factor", "rope that turns whole heads is"));
    }
    let number = |key: &str| {
        table.number_if_any(key)?.ok_or_else(|| config.problem(format!("rope scaling {kind} has no {key}")))
    };
    match kind {
        "default" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear { factor: number("factor")? }),
        "llama3" => Ok(Scaling::Llama3 {
            factor: number("factor")?,
            low: number("low_freq_factor")?,
            high: number("high_freq_factor")?,
            original: number("original_max_position_embeddings")?,
        }),
        "yarn" => read_yarn(table, config, number("factor")?),
        other => Err(LoadError::unsupported(format!("rope scaling {other}"), "default, linear, llama3 and yarn are")),
    }
}

fn read_yarn(table: &Config, config: &Config, factor: f64) -> Result<Scaling, LoadError> {
    if table.flag_if_any("truncate")? == Some(false) {
        return Err(LoadError::unsupported("yarn without truncation", "yarn with truncation is"));
    }
    let sharpness = |weight: f64| if factor > 1.0 { 0.1 * weight * factor.ln() + 1.0 } else { 1.0 };
    let weight = |key: &str, default: f64| -> Result<f64, LoadError> { Ok(table.real_if_any(key)?.unwrap_or(default)) };
    let ratio = sharpness(weight("mscale", 1.0)?) / sharpness(weight("mscale_all_dim", 0.0)?);
    let original = match table.number_if_any("original_max_position_embeddings")? {
        Some(original) => original,
        None => config.count("max_position_embeddings")? as f64,
    };
    Ok(Scaling::Yarn {
        factor,
        fast: table.number_if_any("beta_fast")?.unwrap_or(32.0),
        slow: table.number_if_any("beta_slow")?.unwrap_or(1.0),
        original,
        magnitude: Some(table.number_if_any("attention_factor")?.unwrap_or(ratio)),
    })
}
