//! nomic-embed-text-v1.5's shape, every matrix in F16, Q8_0 or Q4_0.

use std::io;
use std::path::Path;

use engine::random::gguf::{Form, Gguf};

use super::{matrices, matrix, measures, vector};

const HIDDEN: u64 = 768;
const LAYERS: u32 = 12;
const HEADS: u32 = 12;
const FORWARD: u64 = 3072;
const WORDS: usize = 30_528;

/// Writes the file.
pub fn write(path: &Path, form: Form) -> io::Result<()> {
    let mut file = Gguf::default();
    describe(&mut file);
    matrix(&mut file, "token_embd.weight".to_owned(), HIDDEN, WORDS as u64, form);
    file.tensor("token_types.weight", &[HIDDEN, 2], Form::F32, {
        Box::new(|out| (0..2 * HIDDEN).try_for_each(|_| out.write_all(&0.5f32.to_le_bytes())))
    });
    let norm = |file: &mut Gguf<'_>, name: String| {
        vector(file, format!("{name}.weight"), HIDDEN, 1.0);
        vector(file, format!("{name}.bias"), HIDDEN, 0.1);
    };
    norm(&mut file, "token_embd_norm".to_owned());
    for layer in 0..LAYERS {
        let all = [
            ("attn_qkv", HIDDEN, 3 * HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", HIDDEN, FORWARD),
            ("ffn_up", HIDDEN, FORWARD),
            ("ffn_down", FORWARD, HIDDEN),
        ];
        matrices(&mut file, layer, &all, form);
        norm(&mut file, format!("blk.{layer}.attn_output_norm"));
        norm(&mut file, format!("blk.{layer}.layer_output_norm"));
    }
    file.write(path)
}

fn describe(file: &mut Gguf<'_>) {
    let all = [
        ("block_count", LAYERS),
        ("context_length", 8192),
        ("embedding_length", HIDDEN as u32),
        ("feed_forward_length", FORWARD as u32),
        ("attention.head_count", HEADS),
        // The mean.
        ("pooling_type", 1),
    ];
    measures(file, "nomic-bert", &all);
    file.float("nomic-bert.attention.layer_norm_epsilon", 1e-12);
    file.flag("nomic-bert.attention.causal", false);
    file.float("nomic-bert.rope.freq_base", 1000.0);
    file.text("tokenizer.ggml.model", "bert");
    file.number("tokenizer.ggml.token_type_count", 2);
    let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let words = (specials.len()..WORDS).map(|id| format!("\u{2581}w{id}"));
    file.texts("tokenizer.ggml.tokens", specials.map(str::to_owned).into_iter().chain(words));
    file.numbers("tokenizer.ggml.token_type", (0..WORDS).map(|id| if id < 5 { 3 } else { 1 }));
    for (name, id) in
        [("padding", 0), ("unknown", 1), ("cls", 2), ("bos", 2), ("seperator", 3), ("eos", 3), ("mask", 4)]
    {
        file.number(&format!("tokenizer.ggml.{name}_token_id"), id);
    }
}
