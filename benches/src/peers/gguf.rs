//! Writes the peer's model file: Qwen3-0.6B's shape with random weights, every matrix in Q4_0 or Q8_0.
//!
//! Weights are as wide as ours (4.5 or 8.5 bits with their scales), the embedding among them, so a token reads as many
//! bytes on both sides.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::letters::{COUNT, SPECIALS, merges, words};

const HIDDEN: u64 = 1024;
const LAYERS: u32 = 28;
const HEADS: u64 = 16;
const KV_HEADS: u64 = 8;
const HEAD_DIM: u64 = 128;
const FORWARD: u64 = 3072;

/// Offsets of tensors are multiples of this.
const ALIGNMENT: u64 = 32;

/// How a tensor is stored, with GGUF's numbers.
#[derive(Clone, Copy)]
enum Form {
    F32 = 0,
    Q4 = 2,
    Q8 = 8,
}

struct Tensor {
    name: String,
    /// Inputs first.
    shape: Vec<u64>,
    form: Form,
}

/// Writes the file for 4- or 8-bit weights.
pub fn write(path: &Path, bits: u32) -> io::Result<()> {
    let tensors = tensors(if bits == 4 { Form::Q4 } else { Form::Q8 });
    let mut fields = Fields::default();
    describe(&mut fields);
    let mut head = Vec::new();
    head.extend(b"GGUF");
    head.extend(3u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend(fields.count.to_le_bytes());
    head.extend(fields.bytes);
    let mut offset = 0;
    for tensor in &tensors {
        text(&mut head, &tensor.name);
        head.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().for_each(|size| head.extend(size.to_le_bytes()));
        head.extend((tensor.form as u32).to_le_bytes());
        head.extend(u64::to_le_bytes(offset));
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT as usize), 0);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&head)?;
    let mut random = 0x9e37_79b9_7f4a_7c15;
    tensors.iter().try_for_each(|tensor| tensor.write(&mut random, &mut file))?;
    file.flush()
}

fn describe(fields: &mut Fields) {
    fields.text("general.architecture", "qwen3");
    fields.number("qwen3.block_count", LAYERS);
    fields.number("qwen3.context_length", 40_960);
    fields.number("qwen3.embedding_length", HIDDEN as u32);
    fields.number("qwen3.feed_forward_length", FORWARD as u32);
    fields.number("qwen3.attention.head_count", HEADS as u32);
    fields.number("qwen3.attention.head_count_kv", KV_HEADS as u32);
    fields.number("qwen3.attention.key_length", HEAD_DIM as u32);
    fields.number("qwen3.attention.value_length", HEAD_DIM as u32);
    fields.float("qwen3.rope.freq_base", 1e6);
    fields.float("qwen3.attention.layer_norm_rms_epsilon", 1e-6);
    fields.text("tokenizer.ggml.model", "gpt2");
    fields.text("tokenizer.ggml.pre", "qwen2");
    fields.texts("tokenizer.ggml.tokens", words().chain(SPECIALS.map(str::to_owned)));
    fields.texts("tokenizer.ggml.merges", merges().map(|(left, right)| format!("{left} {right}")));
    // 1 is a word, 3 a control token.
    fields.numbers("tokenizer.ggml.token_type", (0..COUNT).map(|id| if id + SPECIALS.len() < COUNT { 1 } else { 3 }));
    fields.number("tokenizer.ggml.bos_token_id", COUNT as u32 - 3);
    fields.number("tokenizer.ggml.eos_token_id", COUNT as u32 - 1);
}

fn tensors(form: Form) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[u64], form| tensors.push(Tensor { name, shape: shape.to_vec(), form });
    add("token_embd.weight".to_owned(), &[HIDDEN, COUNT as u64], form);
    add("output_norm.weight".to_owned(), &[HIDDEN], Form::F32);
    for layer in 0..LAYERS {
        for (name, length) in [("attn", HIDDEN), ("ffn", HIDDEN), ("attn_q", HEAD_DIM), ("attn_k", HEAD_DIM)] {
            add(format!("blk.{layer}.{name}_norm.weight"), &[length], Form::F32);
        }
        let (queries, keys) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
        for (name, inputs, outputs) in [
            ("attn_q", HIDDEN, queries),
            ("attn_k", HIDDEN, keys),
            ("attn_v", HIDDEN, keys),
            ("attn_output", queries, HIDDEN),
            ("ffn_gate", HIDDEN, FORWARD),
            ("ffn_up", HIDDEN, FORWARD),
            ("ffn_down", FORWARD, HIDDEN),
        ] {
            add(format!("blk.{layer}.{name}.weight"), &[inputs, outputs], form);
        }
    }
    tensors
}

impl Tensor {
    fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    fn bytes(&self) -> u64 {
        match self.form {
            Form::F32 => self.elements() * 4,
            Form::Q4 => self.elements() / 32 * 18,
            Form::Q8 => self.elements() / 32 * 34,
        }
    }

    /// Ones for norms; for matrices, random integers under scales that keep activations near one.
    fn write(&self, random: &mut u64, out: &mut impl Write) -> io::Result<()> {
        let (bytes, levels) = match self.form {
            Form::F32 => {
                (0..self.elements()).try_for_each(|_| out.write_all(&1f32.to_le_bytes()))?;
                return pad(self.bytes(), out);
            }
            Form::Q4 => (16, 16.0),
            Form::Q8 => (32, 256.0),
        };
        let spread = 1.0 / (self.shape[0] as f32).sqrt();
        let scale = half(spread * 12f32.sqrt() / levels).to_le_bytes();
        for _ in 0..self.elements() / 32 {
            out.write_all(&scale)?;
            for _ in 0..bytes / 8 {
                // xorshift64.
                *random ^= *random << 13;
                *random ^= *random >> 7;
                *random ^= *random << 17;
                out.write_all(&random.to_le_bytes())?;
            }
        }
        pad(self.bytes(), out)
    }
}

fn pad(bytes: u64, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; ALIGNMENT as usize][..(bytes.next_multiple_of(ALIGNMENT) - bytes) as usize])
}

/// The half at or below a number between 2^-14 and 1.
fn half(value: f32) -> u16 {
    ((value.to_bits() - (112 << 23)) >> 13) as u16
}

/// The key-value part of the file's head.
#[derive(Default)]
struct Fields {
    bytes: Vec<u8>,
    count: u64,
}

impl Fields {
    fn key(&mut self, key: &str, kind: u32) {
        text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        self.count += 1;
    }

    fn number(&mut self, key: &str, value: u32) {
        self.key(key, 4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn float(&mut self, key: &str, value: f32) {
        self.key(key, 6);
        self.bytes.extend(value.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        text(&mut self.bytes, value);
    }

    fn texts(&mut self, key: &str, values: impl Iterator<Item = String>) {
        let values: Vec<String> = values.collect();
        self.array(key, 8, values.len());
        values.iter().for_each(|value| text(&mut self.bytes, value));
    }

    fn numbers(&mut self, key: &str, values: impl ExactSizeIterator<Item = i32>) {
        self.array(key, 5, values.len());
        values.for_each(|value| self.bytes.extend(value.to_le_bytes()));
    }

    fn array(&mut self, key: &str, kind: u32, length: usize) {
        self.key(key, 9);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((length as u64).to_le_bytes());
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
