//! Qwen3-0.6B's shape, every matrix in Q4_0 or Q8_0.

use std::io;
use std::path::Path;

use engine::random::gguf::{Form, Gguf};

use super::super::letters::{COUNT, SPECIALS, merges, words};
use super::{matrices, matrix, measures, vector};

const HIDDEN: u64 = 1024;
const LAYERS: u32 = 28;
const HEADS: u64 = 16;
const KV_HEADS: u64 = 8;
const HEAD_DIM: u64 = 128;
const FORWARD: u64 = 3072;

/// Writes the file for 4- or 8-bit weights.
pub fn write(path: &Path, bits: u32) -> io::Result<()> {
    let form = if bits == 4 { Form::Q4_0 } else { Form::Q8_0 };
    let mut file = Gguf::default();
    describe(&mut file);
    matrix(&mut file, "token_embd.weight".to_owned(), HIDDEN, COUNT as u64, form);
    vector(&mut file, "output_norm.weight".to_owned(), HIDDEN, 1.0);
    for layer in 0..LAYERS {
        for (name, length) in [("attn", HIDDEN), ("ffn", HIDDEN), ("attn_q", HEAD_DIM), ("attn_k", HEAD_DIM)] {
            vector(&mut file, format!("blk.{layer}.{name}_norm.weight"), length, 1.0);
        }
        let (queries, keys) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
        let all = [
            ("attn_q", HIDDEN, queries),
            ("attn_k", HIDDEN, keys),
            ("attn_v", HIDDEN, keys),
            ("attn_output", queries, HIDDEN),
            ("ffn_gate", HIDDEN, FORWARD),
            ("ffn_up", HIDDEN, FORWARD),
            ("ffn_down", FORWARD, HIDDEN),
        ];
        matrices(&mut file, layer, &all, form);
    }
    file.write(path)
}

fn describe(file: &mut Gguf<'_>) {
    let all = [
        ("block_count", LAYERS),
        ("context_length", 40_960),
        ("embedding_length", HIDDEN as u32),
        ("feed_forward_length", FORWARD as u32),
        ("attention.head_count", HEADS as u32),
        ("attention.head_count_kv", KV_HEADS as u32),
        ("attention.key_length", HEAD_DIM as u32),
        ("attention.value_length", HEAD_DIM as u32),
    ];
    measures(file, "qwen3", &all);
    file.float("qwen3.rope.freq_base", 1e6);
    file.float("qwen3.attention.layer_norm_rms_epsilon", 1e-6);
    file.text("tokenizer.ggml.model", "gpt2");
    file.text("tokenizer.ggml.pre", "qwen2");
    file.texts("tokenizer.ggml.tokens", words().chain(SPECIALS.map(str::to_owned)));
    file.texts("tokenizer.ggml.merges", merges().map(|(left, right)| format!("{left} {right}")));
    // 1 is a word, 3 a control token.
    file.numbers("tokenizer.ggml.token_type", (0..COUNT).map(|id| if id + SPECIALS.len() < COUNT { 1 } else { 3 }));
    file.number("tokenizer.ggml.bos_token_id", COUNT as u32 - 3);
    file.number("tokenizer.ggml.eos_token_id", COUNT as u32 - 1);
}
