//! Rows, columns and delta nets as llama.cpp's converter lays them.

use super::encode::Form;
use super::{Gguf, matrix_of};
use crate::gguf::{Layout, Order};
use crate::models::Vector;
use crate::native::DeltaShape;

/// The rows of a module as a file has them. Of a pair each stays by itself.
pub(super) fn stored(layout: Layout, rows: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let mut placed = rows.clone();
    for (at, row) in rows.into_iter().enumerate() {
        let row = match layout.columns {
            None => row,
            Some(heads) => {
                let mut columns = row.clone();
                row.into_iter().enumerate().for_each(|(at, value)| columns[heads.source(at)] = value);
                columns
            }
        };
        placed[layout.rows.source(at)] = row;
    }
    placed
}

/// Adds what Qwen3-Next's delta nets project in one matrix as two: queries, keys and values; and gates.
pub(super) fn apart(
    file: &mut Gguf<'static>,
    shape: &DeltaShape,
    module: &str,
    rows: Vec<Vec<f32>>,
    form: &impl Fn(&str) -> Form,
) {
    let layer = module.trim_start_matches("model.layers.").split('.').next().unwrap_or_default();
    let (keys, values) = (shape.key_dim, shape.value_heads / shape.key_heads * shape.value_dim);
    let of_heads = |from: usize, count: usize| {
        let of_head = move |head: &[Vec<f32>]| head[from..from + count].to_vec();
        rows.chunks(2 * keys + 2 * values).flat_map(of_head).collect::<Vec<_>>()
    };
    let together = [of_heads(0, keys), of_heads(keys, keys), of_heads(2 * keys, values)].concat();
    let gates = of_heads(2 * keys + values, values);
    for (name, rows) in [("attn_qkv", together), ("attn_gate", gates)] {
        let name = format!("blk.{layer}.{name}.weight");
        matrix_of(file, &name, &rows, None, form(&name));
    }
}

/// Adds a vector that is no norm's.
pub(super) fn vector(file: &mut Gguf<'static>, vector: &Vector, name: &str, order: Order, values: Vec<f32>) {
    let width = vector.dims[1..].iter().product();
    let layout = Layout { rows: order, columns: None };
    let rows = stored(layout, values.chunks(width).map(<[f32]>::to_vec).collect());
    if vector.dims.len() > 1 {
        matrix_of(file, name, &rows, None, Form::F32);
        return;
    }
    let decays = vector.name.ends_with(".A_log");
    let value = |value: f32| if decays { -value.exp() } else { value };
    file.vector(name, rows.into_iter().flatten().map(value).collect());
}
