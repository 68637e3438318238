//! The pages of models of which most layers are delta nets: Qwen3-Next and Qwen 3.5.

use serde_json::{Map, Value, json};

use super::{Source, object};
use crate::LoadError;

/// One layer of so many attends, where a file does not say.
const INTERVAL: usize = 4;

pub(super) fn qwen3_next(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    source.hybrid("qwen3_next", source.experts_and_one()?)
}

pub(super) fn qwen3_5(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    source.sections()?;
    source.hybrid("qwen3_5", Map::new())
}

pub(super) fn qwen3_5_moe(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    source.sections()?;
    source.hybrid("qwen3_5_moe", source.experts_and_one()?)
}

impl Source<'_> {
    /// How pictures turn heads: text turns them by one position in all sections.
    fn sections(&self) -> Result<(), LoadError> {
        self.head.fields.numbers(&self.key("rope.dimension_sections")).map(drop)
    }

    /// Experts, and one beside them that all tokens take.
    fn experts_and_one(&self) -> Result<Map<String, Value>, LoadError> {
        let (count, chosen) = self.experts()?;
        Ok(object(json!({
            "num_experts": count, "num_experts_per_tok": chosen, "norm_topk_prob": true, "decoder_sparse_step": 1,
            "moe_intermediate_size": self.count("expert_feed_forward_length")?, "mlp_only_layers": [],
            "shared_expert_intermediate_size": self.count("expert_shared_feed_forward_length")?,
        })))
    }

    /// A model type with what its delta nets say, and further keys.
    fn hybrid(&self, model_type: &str, more: Map<String, Value>) -> Result<Map<String, Value>, LoadError> {
        let interval = self.some("full_attention_interval")?.unwrap_or(INTERVAL);
        let listed = self.head.fields.numbers(&self.key("attention.recurrent_layers"))?;
        if !listed.is_empty() && listed.len() < self.layers {
            let (count, layers) = (listed.len(), self.layers);
            return Err(self.head.fields.problem(format!("its list of recurrent layers has {count} of {layers}")));
        }
        let recurs = |layer: usize| match listed.get(layer) {
            Some(flag) => *flag != 0.0,
            None => !(layer + 1).is_multiple_of(interval),
        };
        let kinds = (0..self.layers).map(|layer| if recurs(layer) { "linear_attention" } else { "full_attention" });
        let (values, width) = (self.count("ssm.time_step_rank")?, self.count("ssm.inner_size")?);
        if !width.is_multiple_of(values) {
            return Err(self.head.fields.problem(format!("{values} heads of values cannot be {width} wide together")));
        }
        let (head, turned) = (self.head_dim()?, self.count_if_any("rope.dimension_count")?);
        let mut config = self.typed(model_type, Value::Object(more))?;
        config.extend(object(json!({
            "full_attention_interval": interval, "layer_types": kinds.collect::<Vec<_>>(),
            "linear_num_key_heads": self.count("ssm.group_count")?, "linear_num_value_heads": values,
            "linear_key_head_dim": self.count("ssm.state_size")?, "linear_value_head_dim": width / values,
            "linear_conv_kernel_dim": self.count("ssm.conv_kernel")?,
            "partial_rotary_factor": turned.unwrap_or(head) as f64 / head as f64,
        })));
        Ok(config)
    }
}
