//! In which order a file holds the rows and columns of a tensor, where it is another than that of what is written.
//!
//! llama.cpp turns neighbours where transformers turns halves, and repeats key heads one after another where transformers
//! repeats each at once; its converters lay rows accordingly, and here they are put back. Plain arithmetic.

use crate::gguf::pages::{Page, Values};
use crate::native::DeltaShape;

/// Which row of the file each row of what is written is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The same.
    Same,
    /// In heads of so many rows, the halves that turn together lie side by side.
    Turned(usize),
    /// From this row on, heads of values lie in llama.cpp's order.
    Tiled(usize, Heads),
    /// Two factors of each head lie in one tensor, where those of a key head follow one another: all of the first, then all
    /// of the second.
    Paired {
        /// How many value heads share a key head.
        each: usize,
        /// Whether this is the second.
        second: bool,
    },
}

/// Heads of values of which several share a head of keys. Transformers has all of the first key head first; llama.cpp has the
/// first of each key head first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    /// Heads of keys.
    pub keys: usize,
    /// Heads of values for each.
    pub each: usize,
    /// Rows or columns of a head of values.
    pub width: usize,
}

/// How a tensor lies in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Its rows.
    pub rows: Order,
    /// Its columns, unless they lie as they are written.
    pub columns: Option<Heads>,
}

impl Layout {
    /// As it is written.
    pub const SAME: Self = Self { rows: Order::Same, columns: None };

    const fn rows(rows: Order) -> Self {
        Self { rows, columns: None }
    }

    /// How a module or a vector of a decoder lies in files of a page.
    pub(in crate::gguf) fn of(page: &Page, head_dim: Option<usize>, delta: Option<DeltaShape>, name: &str) -> Self {
        let turned = name.ends_with("self_attn.q_proj") || name.ends_with("self_attn.k_proj");
        if let Some(head_dim) = head_dim.filter(|_| page.turned && turned) {
            return Self::rows(Order::Turned(head_dim));
        }
        match (delta, name.split_once(".linear_attn.")) {
            (Some(shape), Some((_, name))) => Self::of_delta(page.values, &shape, name),
            _ => Self::SAME,
        }
    }

    /// The same of what a delta net has.
    fn of_delta(values: Values, shape: &DeltaShape, name: &str) -> Self {
        let (keys, each) = (shape.key_heads, shape.value_heads / shape.key_heads);
        let heads = |width| Heads { keys, each, width };
        let queries = 2 * keys * shape.key_dim;
        match (values, name) {
            (Values::Paired, "in_proj_a" | "in_proj_b") => {
                Self::rows(Order::Paired { each, second: name == "in_proj_a" })
            }
            (Values::Tiled, _) if each == 1 => Self::SAME,
            (Values::Tiled, "in_proj_qkv" | "conv1d.weight") => {
                Self::rows(Order::Tiled(queries, heads(shape.value_dim)))
            }
            (Values::Tiled, "in_proj_z") => Self::rows(Order::Tiled(0, heads(shape.value_dim))),
            (Values::Tiled, "in_proj_a" | "in_proj_b" | "A_log" | "dt_bias") => Self::rows(Order::Tiled(0, heads(1))),
            (Values::Tiled, "out_proj") => Self { columns: Some(heads(shape.value_dim)), ..Self::SAME },
            _ => Self::SAME,
        }
    }
}

impl Order {
    /// Where the file has a row.
    pub fn source(self, row: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Turned(head_dim) => {
                let (head, at) = (row / head_dim, row % head_dim);
                let (second, pair) = (at / (head_dim / 2), at % (head_dim / 2));
                head * head_dim + 2 * pair + second
            }
            Self::Tiled(first, heads) => row.checked_sub(first).map_or(row, |row| first + heads.source(row)),
            Self::Paired { each, second } => {
                let (key, value) = (row / each, row % each);
                2 * each * key + if second { each } else { 0 } + value
            }
        }
    }
}

impl Heads {
    /// Where the file has a row or a column.
    pub fn source(self, at: usize) -> usize {
        let (head, within) = (at / self.width, at % self.width);
        let (key, value) = (head / self.each, head % self.each);
        (value * self.keys + key) * self.width + within
    }
}
