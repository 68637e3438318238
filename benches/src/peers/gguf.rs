//! Writes the peer's model files: random weights in the shapes that this house is measured with.
//!
//! Weights are as wide as ours (4.5 or 8.5 bits with their scales, or 16), the embedding among them, so a token reads as
//! many bytes on both sides.

mod decoder;
mod encoder;

use std::io::{self, Write};

use engine::random::gguf::{Form, Gguf};

pub use decoder::write as write_decoder;
pub use encoder::write as write_encoder;

/// Adds a matrix of random numbers under scales that keep activations near one.
fn matrix(file: &mut Gguf<'_>, name: String, inputs: u64, outputs: u64, form: Form) {
    let content = move |out: &mut dyn Write| random(inputs, outputs, form, out);
    file.tensor(&name, &[inputs, outputs], form, Box::new(content));
}

/// Adds the matrices of a layer: name, inputs, outputs.
fn matrices(file: &mut Gguf<'_>, layer: u32, all: &[(&str, u64, u64)], form: Form) {
    for (name, inputs, outputs) in all {
        matrix(file, format!("blk.{layer}.{name}.weight"), *inputs, *outputs, form);
    }
}

/// Says what a model is, and its measures under its own name.
fn measures(file: &mut Gguf<'_>, architecture: &str, all: &[(&str, u32)]) {
    file.text("general.architecture", architecture);
    for (name, value) in all {
        file.number(&format!("{architecture}.{name}"), *value);
    }
}

/// Adds a vector of one number.
fn vector(file: &mut Gguf<'_>, name: String, length: u64, value: f32) {
    file.vector(&name, vec![value; length as usize]);
}

fn random(inputs: u64, outputs: u64, form: Form, out: &mut dyn Write) -> io::Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ inputs << 32 ^ outputs;
    let mut next = || {
        // xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let spread = 1.0 / (inputs as f32).sqrt();
    let (bytes, levels) = match form {
        Form::Q4_0 => (16, 16.0),
        Form::Q8_0 => (32, 256.0),
        _ => {
            let half = |word: u64| half(spread * (1.0 + (word as u8 as f32) / 256.0)) | (word >> 63 << 15) as u16;
            return (0..inputs * outputs).try_for_each(|_| out.write_all(&half(next()).to_le_bytes()));
        }
    };
    let scale = half(spread * 12f32.sqrt() / levels).to_le_bytes();
    for _ in 0..inputs * outputs / 32 {
        out.write_all(&scale)?;
        for _ in 0..bytes / 8 {
            out.write_all(&next().to_le_bytes())?;
        }
    }
    Ok(())
}

/// The half at or below a number between 2^-14 and 1.
fn half(value: f32) -> u16 {
    ((value.to_bits() - (112 << 23)) >> 13) as u16
}
