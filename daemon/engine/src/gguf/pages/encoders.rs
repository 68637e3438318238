//! The pages of encoders, and what a file says of how tokens become a vector.

use serde_json::{Map, Value, json};

use super::{Page, Source};
use crate::LoadError;
use crate::gguf::head::Head;

/// What `pooling_type` says of rerankers.
const RANK: usize = 4;

impl Page {
    /// How a file's tokens become the vector of a text, in sentence-transformers' words; `None` where it does not say, or where
    /// they become a score.
    pub(in crate::gguf) fn pooling(&self, head: &Head<'_>) -> Result<Option<&'static str>, LoadError> {
        match head.fields.whole_if_any(&self.key("pooling_type"))? {
            None | Some(0) => Ok(None),
            Some(RANK) if self.whole => Ok(None),
            Some(1) => Ok(Some("mean_tokens")),
            Some(2) => Ok(Some("cls_token")),
            Some(3) => Ok(Some("lasttoken")),
            Some(other) => Err(LoadError::unsupported(
                format!("{} {other} of a GGUF file", self.key("pooling_type")),
                "1 (mean), 2 (the first token), 3 (the last), and 4 (a score) of an encoder are",
            )),
        }
    }
}

/// BERT, and RoBERTa and XLM-R, which compute as it does once the rows of positions that no text reaches are left out, as
/// converters do.
pub(super) fn bert(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let classifies = source.classifies()?;
    if classifies && !source.holds("cls.weight") {
        return Err(LoadError::unsupported(
            "a cross-encoder whose GGUF file lacks its pooler",
            "the folder that the file was made of, and XLM-R's cross-encoders, are",
        ));
    }
    // The table and not the context: what a text can reach.
    let positions = source.rows("position_embd.weight")?;
    let more = json!({ "max_position_embeddings": positions, "hidden_act": "gelu" });
    source.encoder("bert", "BertForSequenceClassification", more)
}

pub(super) fn nomic_bert(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let more = json!({ "rotary_emb_base": source.base("rope.freq_base")? });
    source.encoder("nomic_bert", "NomicBertForSequenceClassification", more)
}

pub(super) fn modern_bert(source: &Source<'_>) -> Result<Map<String, Value>, LoadError> {
    let epsilon = source.number("attention.layer_norm_epsilon")?;
    let more = json!({
        "global_rope_theta": source.base("rope.freq_base")?,
        "local_rope_theta": source.base("rope.freq_base_swa")?,
        "local_attention": source.count("attention.sliding_window")?,
        "global_attn_every_n_layers": source.count_if_any("attention.sliding_window_pattern")?.unwrap_or(3),
        "hidden_activation": source.head.fields.text_if_any(&source.key("hidden_activation"))?.unwrap_or("gelu"),
        "norm_eps": epsilon, "classifier_pooling": source.classifier_pooling()?,
    });
    source.encoder("modernbert", "ModernBertForSequenceClassification", more)
}

impl Source<'_> {
    /// A model type and further keys, with what encoders have in common; `class` is what one that scores is called.
    fn encoder(&self, model_type: &str, class: &str, more: Value) -> Result<Map<String, Value>, LoadError> {
        let fields = &self.head.fields;
        if fields.flag_if_any(&self.key("attention.causal"))? != Some(false) {
            return Err(LoadError::unsupported("an encoder whose tokens see only back", "one that sees both ways is"));
        }
        let heads = self.count("attention.head_count")?;
        if self.count_if_any("attention.head_count_kv")?.is_some_and(|count| count != heads) {
            return Err(LoadError::unsupported("an encoder with fewer heads of keys", "as many as of queries are"));
        }
        let width = self.count("embedding_length")? / heads;
        for key in ["attention.key_length", "attention.value_length"] {
            if self.count_if_any(key)?.is_some_and(|length| length != width) {
                return Err(LoadError::unsupported(
                    "an encoder whose heads do not share its width",
                    "one that divides it is",
                ));
            }
        }
        let scaling = fields.text_if_any(&self.key("rope.scaling.type"))?.filter(|kind| *kind != "none");
        if let Some(kind) = scaling {
            return Err(LoadError::unsupported(format!("{kind} scaling in an encoder"), "plain rope is"));
        }
        let mut config = self.typed(model_type, more)?;
        let segments = if self.holds("token_types.weight") { self.rows("token_types.weight")? } else { 0 };
        config.insert("type_vocab_size".to_string(), json!(segments));
        if self.classifies()? {
            config.insert("architectures".to_string(), json!([class]));
            config.insert("num_labels".to_string(), json!(self.rows("cls.output.weight")?));
        }
        Ok(config)
    }

    /// Whether the file's model gives a score of a pair.
    fn classifies(&self) -> Result<bool, LoadError> {
        let ranks = self.head.fields.whole_if_any(&self.key("pooling_type"))? == Some(RANK);
        // The names of labels change no number; how many there are is the shape of the matrix.
        self.head.fields.texts(&self.key("classifier.output_labels"))?;
        Ok(ranks || self.holds("cls.output.weight"))
    }

    /// Which tokens the score of a pair is made of.
    fn classifier_pooling(&self) -> Result<&'static str, LoadError> {
        match self.head.fields.whole_if_any(&self.key("classifier.pooling_type"))? {
            None | Some(1) => Ok("mean"),
            Some(2) => Ok("cls"),
            Some(other) => {
                Err(LoadError::unsupported(format!("classifier.pooling_type {other}"), "1 (mean) and 2 (cls) are"))
            }
        }
    }

    /// How many rows a matrix has; one that was written as a vector has one.
    fn rows(&self, tensor: &str) -> Result<usize, LoadError> {
        let shape = self.head.tensors.get(tensor).map(|tensor| &tensor.shape[..]);
        match shape {
            Some([_]) => Ok(1),
            Some([rows, ..]) => Ok(*rows),
            _ => Err(self.head.fields.problem(format!("tensor {tensor} is missing"))),
        }
    }

    /// The base of a rope that turns whole heads.
    fn base(&self, name: &str) -> Result<f64, LoadError> {
        let width = self.head_dim()?;
        if self.count_if_any("rope.dimension_count")?.is_some_and(|turned| turned != width) {
            return Err(LoadError::unsupported("an encoder that turns a part of its heads", "one that turns all is"));
        }
        Ok(self.number(name)?.unwrap_or(10_000.0))
    }
}
