//! How positions turn queries and keys: GGUF's keys, and the tensors in which some families keep factors.

use serde_json::{Map, Value, json};

use super::Source;
use crate::LoadError;
use crate::gguf::form::Becomes;
use crate::native::Dtype;

/// What Llama 3 stretches its wavelengths with, but for the factor.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;
const ORIGINAL: usize = 8192;

impl Source<'_> {
    /// Writes base, share of a head that is turned, and scaling.
    pub(super) fn rope(&self, head_dim: usize, config: &mut Map<String, Value>) -> Result<(), LoadError> {
        let base = self.number("rope.freq_base")?.unwrap_or(10_000.0);
        config.insert("rope_theta".to_string(), json!(base));
        let dims = self.count_if_any("rope.dimension_count")?.unwrap_or(head_dim);
        if dims != head_dim {
            config.insert("partial_rotary_factor".to_string(), json!(dims as f64 / head_dim as f64));
        }
        // Says how the model came to its context, and nothing of how it computes.
        self.head.fields.flag_if_any(&self.key("rope.scaling.finetuned"))?;
        let original = self.count_if_any("rope.scaling.original_context_length")?;
        let factor = self.number("rope.scaling.factor")?.or(self.number("rope.scale_linear")?);
        let magnitude = self.number("rope.scaling.attn_factor")?;
        let kind = self.head.fields.text_if_any(&self.key("rope.scaling.type"))?;
        let scaling = if let Some(divisors) = self.factors("rope_freqs.weight")? {
            self.unless_yarn(kind)?;
            // Old files have a tensor that does nothing.
            divisors.iter().any(|divisor| *divisor != 1.0).then(|| listed_once(&divisors, base, dims, original))
        } else if let Some(long) = self.factors("rope_factors_long.weight")? {
            let short = self.factors("rope_factors_short.weight")?;
            if let Some(original) = original {
                config.insert("original_max_position_embeddings".to_string(), json!(original));
            }
            let mut table = json!({ "rope_type": "longrope", "long_factor": long, "short_factor": short });
            if let Some(magnitude) = magnitude {
                table["attention_factor"] = json!(magnitude);
            }
            Some(table)
        } else {
            self.by_factor(kind, factor, original, magnitude)?
        };
        if let Some(scaling) = scaling {
            config.insert("rope_scaling".to_string(), scaling);
        }
        Ok(())
    }

    /// A scaling that is one number.
    fn by_factor(
        &self,
        kind: Option<&str>,
        factor: Option<f64>,
        original: Option<usize>,
        magnitude: Option<f64>,
    ) -> Result<Option<Value>, LoadError> {
        let stretched = factor.filter(|factor| *factor != 0.0 && *factor != 1.0);
        let Some(factor) = stretched.filter(|_| kind != Some("none")) else { return Ok(None) };
        match kind.unwrap_or("linear") {
            "linear" => Ok(Some(json!({ "rope_type": "linear", "factor": factor }))),
            "yarn" => {
                let mut table = json!({ "rope_type": "yarn", "factor": factor });
                if let Some(original) = original {
                    table["original_max_position_embeddings"] = json!(original);
                }
                for (key, name) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
                    if let Some(beta) = self.number(&format!("rope.scaling.{name}"))? {
                        table[key] = json!(beta);
                    }
                }
                // One of the two comes on top of what YaRN has by itself; the other is the original's own, in its place.
                let own = self.number("rope.scaling.yarn_attn_factor")?;
                if let Some(magnitude) = own.or(magnitude.map(|magnitude| magnitude * (1.0 + 0.1 * factor.ln()))) {
                    table["attention_factor"] = json!(magnitude);
                }
                self.sharpen(&mut table)?;
                // Below 0 says that nobody has set it.
                let share = self.number("rope.scaling.yarn_ext_factor")?;
                if let Some(share) = share.filter(|share| *share >= 0.0 && *share != 1.0) {
                    return Err(LoadError::unsupported(format!("a yarn_ext_factor of {share}"), "1 is"));
                }
                if self.architecture == "gpt-oss" {
                    table["truncate"] = json!(false);
                }
                Ok(Some(table))
            }
            other => {
                Err(LoadError::unsupported(format!("rope scaling {other}"), "linear, yarn and lists of factors are"))
            }
        }
    }

    /// Writes how YaRN sharpens scores. Of the original's two weights a file has one: where heads read a latent, both
    /// are the same, and otherwise the other is 1.
    fn sharpen(&self, table: &mut Value) -> Result<(), LoadError> {
        let weight = self.number("rope.scaling.yarn_log_multiplier")?.filter(|weight| *weight != 0.0);
        let Some(weight) = weight else { return Ok(()) };
        if table.get("attention_factor").is_some() {
            return Err(LoadError::unsupported("a factor of yarn beside yarn_log_multiplier", "one of the two is"));
        }
        // DeepSeek's files have a tenth of it, in f32.
        let latent = self.architecture == "deepseek2";
        let weight = if latent { f64::from(weight as f32 / 0.1) } else { weight };
        (table["mscale"], table["mscale_all_dim"]) = (json!(if latent { weight } else { 1.0 }), json!(weight));
        Ok(())
    }

    fn unless_yarn(&self, kind: Option<&str>) -> Result<(), LoadError> {
        match kind {
            Some("yarn") => Err(LoadError::unsupported("yarn beside rope_freqs", "one of the two is")),
            _ => Ok(()),
        }
    }

    /// The factors of a tensor, if the file has it.
    fn factors(&self, name: &str) -> Result<Option<Vec<f64>>, LoadError> {
        let Some(tensor) = self.head.tensors.get(name) else { return Ok(None) };
        if tensor.form.becomes() != Becomes::Floats(Dtype::F32) || tensor.shape.len() != 1 {
            return Err(self.head.fields.problem(format!("tensor {name} is no list of f32")));
        }
        let numbers = tensor.bytes.as_chunks::<4>().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes)));
        Ok(Some(numbers.collect()))
    }
}

/// A divisor for each wavelength: as Llama 3 computes them, if it does, or else as a list.
fn listed_once(divisors: &[f64], base: f64, dims: usize, original: Option<usize>) -> Value {
    let factor = divisors.iter().copied().fold(1.0, f64::max);
    let original = original.unwrap_or(ORIGINAL);
    let alike = |(i, divisor): (usize, &f64)| {
        let expected = llama3(base.powf(2.0 * i as f64 / dims as f64), factor, original as f64);
        (divisor / expected - 1.0).abs() < 1e-4
    };
    if factor > 1.0 && divisors.len() * 2 == dims && divisors.iter().enumerate().all(alike) {
        return json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": LOW, "high_freq_factor": HIGH,
            "original_max_position_embeddings": original,
        });
    }
    json!({ "rope_type": "longrope", "long_factor": divisors, "short_factor": divisors })
}

/// What Llama 3 divides the frequency of a turn by that takes `2 π × scale` positions.
fn llama3(scale: f64, factor: f64, original: f64) -> f64 {
    let turns = original / (scale * std::f64::consts::TAU);
    let smooth = ((turns - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
    1.0 / ((1.0 - smooth) / factor + smooth)
}
