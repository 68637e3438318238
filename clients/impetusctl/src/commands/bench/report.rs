//! The figures of one run: how they are saved, and how they look.

use std::fs;
use std::path::Path;

use protocol::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::output::table;

/// What was measured; a report is compared only with one of the same settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Samples of each measure.
    pub runs: u32,
    /// Tokens of the prompt whose reading is timed.
    pub prompt: u32,
    /// Tokens of each answer.
    pub tokens: u32,
    /// Streams of the batch.
    pub streams: u32,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// `ttft`, `prefill`, `decode` or `batch`; of an embedder `latency`, `embed` or `embed_batch`.
    pub name: String,
    /// `ms` or `tok/s`.
    pub unit: String,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// The median.
    pub value: f64,
    /// All samples in order.
    pub samples: Vec<f64>,
    /// What the memory allows, in the same unit, where it is the bound: of `decode` only. What arithmetic allows the rest
    /// is not known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roofline: Option<f64>,
    /// `value` as a percentage of it; a model that fits into the processor's caches can pass 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roofline_percent: Option<f64>,
}

/// All figures of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The model.
    pub model: String,
    /// How its weights are stored.
    pub weights: String,
    /// What computed.
    pub device: String,
    /// The processor.
    pub cpu: String,
    /// The daemon's version.
    pub version: String,
    /// The commit it was built from.
    pub commit: String,
    /// What was asked for.
    pub settings: Settings,
    /// How fast memory was read.
    pub memory_read_bytes_per_s: f64,
    /// The figures.
    pub measures: Vec<Measure>,
}

impl Measure {
    /// A figure of which less is better.
    pub fn lower(name: &str, unit: &str, samples: Vec<f64>) -> Self {
        Self { higher_is_better: false, ..Self::higher(name, unit, samples) }
    }

    /// A figure of which more is better.
    pub fn higher(name: &str, unit: &str, samples: Vec<f64>) -> Self {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let value = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            higher_is_better: true,
            value,
            samples,
            roofline: None,
            roofline_percent: None,
        }
    }

    /// Sets what the memory allows, if that is known.
    pub fn against(self, roofline: Option<f64>) -> Self {
        Self { roofline, roofline_percent: roofline.map(|roofline| self.value / roofline * 100.0), ..self }
    }

    fn explained(&self, settings: &Settings) -> String {
        let Settings { prompt, tokens, streams, .. } = settings;
        match self.name.as_str() {
            "ttft" => "first token of a short prompt".to_owned(),
            "prefill" => format!("reading a prompt of {prompt} tokens"),
            "decode" => format!("one stream of {tokens} tokens"),
            "latency" => "vector of a short text".to_owned(),
            "embed" => format!("vector of a text of {prompt} tokens"),
            "embed_batch" => format!("vectors of {streams} texts of {tokens} tokens"),
            _ => format!("{streams} streams of {tokens} tokens together"),
        }
    }
}

impl Report {
    /// Writes the report for a later comparison.
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(|error| Error::internal(error.to_string()))?;
        fs::write(path, json + "\n")
            .map_err(|error| Error::invalid("save", format!("{} cannot be written: {error}.", path.display())))
    }

    /// The report for people.
    pub fn table(&self) -> String {
        let row = |measure: &Measure| {
            let least = measure.samples.iter().copied().fold(f64::INFINITY, f64::min);
            let most = measure.samples.iter().copied().fold(0.0, f64::max);
            [
                measure.explained(&self.settings),
                format!("{:.1} {}", measure.value, measure.unit),
                format!("{least:.1} to {most:.1}"),
                measure.roofline_percent.map_or_else(String::new, |percent| format!("{percent:.0} %")),
            ]
        };
        let rows: Vec<_> = self.measures.iter().map(row).collect();
        format!(
            "{} ({}) on {}, memory read at {:.1} GB/s\n\n{}",
            self.model,
            self.weights,
            self.device,
            self.memory_read_bytes_per_s / 1e9,
            table(["MEASURE", "MEDIAN", "SPREAD", "OF THE ROOFLINE"], &rows)
        )
    }
}
