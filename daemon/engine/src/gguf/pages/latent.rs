//! The pages of models whose experts are chosen in groups: DeepSeek V2 and V3, GLM-4.7 Flash, and GLM-4.5 with its kin.
//!
//! All but the last attend in a latent space. Their files hold the matrices between heads and latent apart, as MLX does;
//! those of before April 2025 hold them as one.

use serde_json::{Map, Value, json};

use super::{SIGMOID, SOFTMAX, Source};
use crate::LoadError;

/// Models of fewer experts had one group of them, when files did not say how many there are.
const GROUPED_FROM: usize = 160;

/// DeepSeek V2 and V3, and GLM-4.7 Flash, which its way to split text tells from V3.
pub(super) fn deepseek(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let of_glm = source.head.fields.text_if_any("tokenizer.ggml.pre")? == Some("glm4");
    // Files of before 2025 do not say how experts are chosen; only those of V3 and its kin have a bias to choose by.
    let biased = source.head.tensors.keys().any(|name| name.ends_with(".exp_probs_b.bias"));
    let sigmoid = source.sigmoid(biased)?;
    let model_type = match (sigmoid, of_glm) {
        (false, _) => "deepseek_v2",
        (true, false) => "deepseek_v3",
        (true, true) => "glm4_moe_lite",
    };
    let mut config = source.typed(model_type, source.in_groups(sigmoid)?)?;
    let experts = config.get("n_routed_experts").and_then(Value::as_u64).unwrap_or(0);
    if experts >= GROUPED_FROM as u64 && !config.contains_key("n_group") {
        return Err(LoadError::unsupported(
            format!("a file of {experts} experts that does not say in which groups they are"),
            "one with deepseek2.expert_group_count, as converters of late 2025 write it, is",
        ));
    }
    config.insert("attention_bias".to_string(), json!(source.holds("blk.0.attn_kv_a_mqa.bias")));
    Ok(config)
}

/// GLM-4.5 and its kin.
pub(super) fn glm4_moe(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    if !source.sigmoid(true)? {
        return Err(LoadError::unsupported("experts of glm4moe that are chosen by softmax", "each by a sigmoid is"));
    }
    let mut config = source.typed("glm4_moe", source.in_groups(true)?)?;
    let (head, turned) = (source.head_dim()?, source.count_if_any("rope.dimension_count")?);
    config.extend([
        ("attention_bias".to_string(), json!(source.holds("blk.0.attn_q.bias"))),
        ("use_qk_norm".to_string(), json!(source.holds("blk.0.attn_q_norm.weight"))),
        ("partial_rotary_factor".to_string(), json!(turned.unwrap_or(head) as f64 / head as f64)),
    ]);
    Ok(config)
}

impl Source<'_> {
    /// What decoders that attend in a latent space say alike.
    pub(super) fn latent(&self) -> Result<Map<String, Value>, LoadError> {
        let mut config = self.dimensions()?;
        let turned = self.count("rope.dimension_count")?;
        let (rank, heads) = (self.count("attention.kv_lora_rank")?, self.count("attention.head_count")?);
        let widths = (self.count("attention.key_length")?, self.count("attention.value_length")?);
        let apart =
            self.count_if_any("attention.key_length_mla")?.zip(self.count_if_any("attention.value_length_mla")?);
        // Where heads are apart, the two name what all share: the latent and what is turned.
        if apart.is_some() && widths != (rank + turned, rank) {
            return Err(self.head.fields.problem("the widths of its latent contradict each other"));
        }
        let (keys, values) = apart.unwrap_or(widths);
        let plain = keys.checked_sub(turned).filter(|plain| *plain > 0);
        let plain = plain.ok_or_else(|| self.head.fields.problem(format!("it turns {turned} of {keys} dimensions")))?;
        // One where heads are apart, and all of them otherwise: says nothing more.
        self.count_if_any("attention.head_count_kv")?;
        config.extend(super::object(json!({
            "num_key_value_heads": heads, "kv_lora_rank": rank, "qk_rope_head_dim": turned, "qk_nope_head_dim": plain,
            "v_head_dim": values, "tie_word_embeddings": !self.holds("output.weight"),
        })));
        if let Some(rank) = self.some("attention.q_lora_rank")? {
            config.insert("q_lora_rank".to_string(), json!(rank));
        }
        self.rope(turned, &mut config)?;
        Ok(config)
    }

    /// Whether experts are chosen each by a sigmoid, and not by a softmax over all.
    fn sigmoid(&self, unsaid: bool) -> Result<bool, LoadError> {
        match self.some("expert_gating_func")? {
            None => Ok(unsaid),
            Some(SOFTMAX) => Ok(false),
            Some(SIGMOID) => Ok(true),
            Some(other) => {
                Err(LoadError::unsupported(format!("expert_gating_func {other}"), "1 (softmax) and 2 (sigmoid) are"))
            }
        }
    }

    /// The experts of a model that has dense layers first.
    fn in_groups(&self, sigmoid: bool) -> Result<Value, LoadError> {
        let first = self.head.fields.whole_if_any(&self.key("leading_dense_block_count"))?.unwrap_or(0);
        let (width, shared) = (self.count_if_any("expert_feed_forward_length")?, self.some("expert_shared_count")?);
        if self.some("expert_count")?.is_none() {
            return Ok(json!({}));
        }
        let (count, chosen) = self.experts_from(first)?;
        let groups = self.some("expert_group_count")?;
        let method = if groups.is_some_and(|groups| groups > 1) { "group_limited_greedy" } else { "greedy" };
        Ok(json!({
            "n_routed_experts": count, "num_experts_per_tok": chosen, "n_shared_experts": shared,
            "moe_intermediate_size": width, "first_k_dense_replace": first, "n_group": groups,
            "topk_group": self.some("expert_group_used_count")?, "topk_method": (!sigmoid).then_some(method),
            "routed_scaling_factor": self.number("expert_weights_scale")?.filter(|scale| *scale != 0.0),
            "norm_topk_prob": self.head.fields.flag_if_any(&self.key("expert_weights_norm"))?.unwrap_or(false),
        }))
    }
}
