//! A report of another day, and what has become of its figures.

use std::fs;
use std::path::{Path, PathBuf};

use protocol::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use super::report::{Measure, Report, Settings};
use crate::output::table;

/// The longest file that is read as a baseline.
const BYTES_MAX: u64 = 1 << 20;

/// A saved report.
pub struct Baseline(Report);

/// What became of one figure.
#[derive(Debug, PartialEq, Serialize)]
struct Change {
    name: String,
    unit: String,
    before: f64,
    now: f64,
    /// By how much it is better, in percent of what it was; below zero it is worse.
    better_percent: f64,
    regressed: bool,
}

/// What is not as it was.
#[derive(Debug, PartialEq, Serialize)]
struct Difference {
    /// `cpu`, `device` or `weights`.
    what: &'static str,
    before: String,
    now: String,
}

/// What became of all figures.
#[derive(Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What else than the time may have made the figures differ.
    differences: Vec<Difference>,
    /// A figure that is worse by more than this has regressed.
    regression_percent: f64,
    changes: Vec<Change>,
}

/// Reads a file that `--save` wrote.
pub fn read(path: &Path) -> Result<(PathBuf, Baseline)> {
    let invalid = |reason: String| {
        Error::invalid("baseline", format!("{} is no baseline: {reason}.", path.display()))
            .hint("Make one: impetusctl bench --save FILE")
    };
    let size = fs::metadata(path).map_err(|error| invalid(error.to_string()))?.len();
    if size > BYTES_MAX {
        return Err(invalid(format!("it has {size} bytes, more than {BYTES_MAX}")));
    }
    let text = fs::read_to_string(path).map_err(|error| invalid(error.to_string()))?;
    let report = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    Ok((path.to_owned(), Baseline(report)))
}

impl Baseline {
    /// Refuses a comparison of different things.
    pub fn check(&self, path: &Path, model: &str, settings: &Settings) -> Result<()> {
        let Settings { prompt, tokens, streams, .. } = self.0.settings;
        let same = (prompt, tokens, streams) == (settings.prompt, settings.tokens, settings.streams);
        if self.0.model == model && same {
            return Ok(());
        }
        let was = format!("{} with --prompt {prompt} --tokens {tokens} --streams {streams}", self.0.model);
        Err(Error::invalid("baseline", format!("{} holds something else: {was}.", path.display()))
            .hint("Measure the same, or save a new baseline."))
    }

    /// What the figures depend on and is not the same.
    fn differences(&self, now: &Report) -> Vec<Difference> {
        let before = &self.0;
        [
            ("cpu", &before.cpu, &now.cpu),
            ("device", &before.device, &now.device),
            ("weights", &before.weights, &now.weights),
        ]
        .into_iter()
        .filter(|(_, before, now)| before != now)
        .map(|(what, before, now)| Difference { what, before: before.clone(), now: now.clone() })
        .collect()
    }

    /// Compares the figures that both have.
    pub fn compare(&self, now: &Report, regression_percent: f64) -> Comparison {
        let change = |measure: &Measure| {
            // Nothing is a share of zero.
            let before = self.0.measures.iter().find(|it| it.name == measure.name && it.value > 0.0)?;
            let ratio =
                if measure.higher_is_better { measure.value / before.value } else { before.value / measure.value };
            let better_percent = (ratio - 1.0) * 100.0;
            Some(Change {
                name: measure.name.clone(),
                unit: measure.unit.clone(),
                before: before.value,
                now: measure.value,
                better_percent,
                regressed: better_percent < -regression_percent,
            })
        };
        let changes = now.measures.iter().filter_map(change).collect();
        Comparison { differences: self.differences(now), regression_percent, changes }
    }
}

impl Comparison {
    /// The report with the comparison in it, for programs.
    pub fn document(&self, report: &Report) -> Result<Value> {
        let value = |value: serde_json::Result<Value>| value.map_err(|error| Error::internal(error.to_string()));
        let mut document = value(serde_json::to_value(report))?;
        document["comparison"] = value(serde_json::to_value(self))?;
        Ok(document)
    }

    /// The comparison for people.
    pub fn table(&self) -> String {
        let row = |change: &Change| {
            [
                change.name.clone(),
                format!("{:.1} {}", change.before, change.unit),
                format!("{:.1} {}", change.now, change.unit),
                format!("{:+.1} %", change.better_percent),
                if change.regressed { "regressed".to_owned() } else { String::new() },
            ]
        };
        let rows: Vec<_> = self.changes.iter().map(row).collect();
        let mut text = table(["MEASURE", "BASELINE", "NOW", "BETTER BY", ""], &rows);
        for Difference { what, before, now } in &self.differences {
            text += &format!("\nNot the same {what}: {before} then, {now} now.");
        }
        text
    }

    /// An error if a figure has regressed, or none could be compared.
    pub fn verdict(&self) -> Result<()> {
        if self.changes.is_empty() {
            return Err(Error::invalid("baseline", "The baseline holds none of the figures that were measured.")
                .hint("Save a new one: impetusctl bench --save FILE"));
        }
        let worse: Vec<_> = self.changes.iter().filter(|change| change.regressed).map(described).collect();
        if worse.is_empty() {
            return Ok(());
        }
        let allowed = self.regression_percent;
        Err(Error::internal(format!("Slower than the baseline by more than {allowed} %: {}.", worse.join(", "))))
    }
}

fn described(change: &Change) -> String {
    format!("{} {:.1} {} where it was {:.1}", change.name, change.now, change.unit, change.before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ttft: f64, decode: f64) -> Report {
        Report {
            model: "m".into(),
            weights: "4-bit".into(),
            device: "CPU".into(),
            cpu: "c".into(),
            version: "0".into(),
            commit: "unknown".into(),
            settings: Settings { runs: 1, prompt: 8, tokens: 8, streams: 2 },
            memory_read_bytes_per_s: 1e9,
            measures: vec![
                Measure::lower("ttft", "ms", vec![ttft]),
                Measure::higher("decode", "tok/s", vec![decode]).against(Some(200.0)),
            ],
        }
    }

    fn worse(before: Report, now: Report, percent: f64) -> Vec<String> {
        let comparison = Baseline(before).compare(&now, percent);
        assert_eq!(comparison.changes.len(), 2);
        assert_eq!(comparison.verdict().is_err(), comparison.changes.iter().any(|change| change.regressed));
        comparison.changes.into_iter().filter(|change| change.regressed).map(|change| change.name).collect()
    }

    #[test]
    fn a_figure_regresses_in_its_own_direction_and_past_the_allowance_only() {
        assert_eq!(worse(report(10.0, 100.0), report(10.0, 100.0), 0.0), Vec::<String>::new());
        assert_eq!(worse(report(10.0, 100.0), report(20.0, 200.0), 10.0), ["ttft"]);
        assert_eq!(worse(report(10.0, 100.0), report(5.0, 50.0), 10.0), ["decode"]);
        assert_eq!(worse(report(10.0, 100.0), report(10.5, 95.0), 10.0), Vec::<String>::new());
        assert_eq!(worse(report(10.0, 100.0), report(12.0, 85.0), 10.0), ["ttft", "decode"]);
    }

    #[test]
    fn a_baseline_that_shares_no_figure_is_an_error() {
        let bare = |measures| Report { measures, ..report(10.0, 100.0) };
        let others = vec![Measure::lower("latency", "ms", vec![1.0]), Measure::higher("decode", "tok/s", vec![0.0])];
        for measures in [Vec::new(), others] {
            let error = Baseline(bare(measures)).compare(&report(10.0, 100.0), 10.0).verdict().unwrap_err();
            assert_eq!(error.param.as_deref(), Some("baseline"));
            assert!(error.hint.is_some_and(|hint| hint.contains("--save")));
        }
    }

    #[test]
    fn another_processor_and_other_weights_are_named() {
        let before = Report { cpu: "b".into(), weights: "bf16".into(), ..report(10.0, 100.0) };
        let now = report(10.0, 100.0);
        let comparison = Baseline(before).compare(&now, 10.0);
        assert!(comparison.table().contains("Not the same cpu: b then, c now."), "{}", comparison.table());
        let document = comparison.document(&now).unwrap();
        let weights = serde_json::json!({ "what": "weights", "before": "bf16", "now": "4-bit" });
        assert_eq!(document["comparison"]["differences"][1], weights);
        assert_eq!(Baseline(report(10.0, 100.0)).compare(&now, 10.0).differences, []);
    }

    #[test]
    fn another_model_or_other_settings_are_not_compared() {
        let before = Baseline(report(10.0, 100.0));
        let settings = before.0.settings;
        let check = |model: &str, settings: &Settings| before.check(Path::new("b.json"), model, settings).is_ok();
        assert!(check("m", &Settings { runs: 9, ..settings }));
        assert!(!check("n", &settings));
        assert!(!check("m", &Settings { tokens: 9, ..settings }));
    }

    #[test]
    fn the_roofline_is_a_share_of_the_median() {
        let measure = Measure::higher("decode", "tok/s", vec![30.0, 10.0, 20.0]).against(Some(80.0));
        assert_eq!((measure.value, measure.roofline_percent), (20.0, Some(25.0)));
        assert_eq!(measure.against(None).roofline_percent, None, "unknown");
    }
}
