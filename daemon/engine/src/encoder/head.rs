//! The head of a reranker: from a pair's pooled row to its score, through a matrix or two, or by two words that a decoder
//! might say.
//!
//! Its description says which. It validates nothing and pools nothing: [`super::network`] calls it with what was pooled.

use super::network::Norm;
use crate::LoadError;
use crate::folder::Folder;
use crate::models::Stack;
use crate::models::encoders;
use crate::native::{Activation, activate};
use crate::projection::{Machine, Projection};
use crate::text::Tokenizer;

/// What turns pooled rows into scores.
pub(super) struct Head {
    dense: Option<(Projection, Activation)>,
    norm: Option<Norm>,
    score: Score,
}

enum Score {
    Matrix(Projection),
    /// A factor for each number.
    Factors(Vec<f32>),
}

impl Head {
    /// Packs its weights; the table of words may be what scores.
    pub fn load(
        folder: &Folder<encoders::Encoder>,
        head: &encoders::Head,
        words: &Projection,
        projection: &mut dyn FnMut(&Stack) -> Result<Projection, LoadError>,
    ) -> Result<Self, LoadError> {
        let dense = match &head.dense {
            Some((stack, activation)) => Some((projection(stack)?, *activation)),
            None => None,
        };
        let norm = head.norm.as_ref().map(|norm| Norm::load(folder, norm)).transpose()?;
        let score = match &head.score {
            encoders::Score::Matrix(stack) => Score::Matrix(projection(stack)?),
            encoders::Score::Words { head, yes, no } => {
                let head = head.as_ref().map(&mut *projection).transpose()?;
                let table = head.as_ref().unwrap_or(words);
                let tokenizer = Tokenizer::open(&folder.path)?;
                let row = |word: &encoders::Word| {
                    let token = word.token(&tokenizer, table.outputs())?;
                    let mut row = vec![0.0; table.inputs()];
                    table.row(token as usize, &mut row);
                    Ok::<_, LoadError>(row)
                };
                Score::Factors(row(yes)?.iter().zip(row(no)?).map(|(yes, no)| yes - no).collect())
            }
        };
        Ok(Self { dense, norm, score })
    }

    /// Turns pooled rows into scores.
    pub fn score(&self, machine: &mut Machine, rows: &mut Vec<f32>, count: usize, buffer: &mut Vec<f32>) {
        let mut dense = rows.clone();
        if let Some((matrix, activation)) = &self.dense {
            matrix.forward(machine, rows, count, &mut dense);
            activate(&machine.pool, *activation, &mut dense);
        }
        if let Some(norm) = &self.norm {
            norm.apply_to(&machine.pool, &mut dense, buffer);
        }
        rows.resize(count, 0.0);
        match &self.score {
            Score::Matrix(matrix) => matrix.forward(machine, &dense, count, rows),
            Score::Factors(factors) => {
                for (score, row) in rows.iter_mut().zip(dense.chunks_exact(factors.len())) {
                    *score = row.iter().zip(factors).map(|(x, factor)| x * factor).sum();
                }
            }
        }
    }
}
