//! Prometheus' text format, version 0.0.4: families with their help and type, samples with escaped labels. Pure; it knows
//! no metric.

use std::fmt::{Display, Write as _};

use protocol::measures::{BUCKETS_US, Histogram};

/// What a scraper is told the text is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A label's name and value.
pub type Label<'a> = (&'a str, &'a str);

/// Metrics as text.
#[derive(Debug, Default)]
pub struct Text(String);

/// The samples of one metric.
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Text {
    /// Begins a count that only grows.
    pub fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "counter", help)
    }

    /// Begins a figure that comes and goes.
    pub fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "gauge", help)
    }

    /// Begins a distribution.
    pub fn histogram<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "histogram", help)
    }

    fn family<'a>(&'a mut self, name: &'a str, kind: &str, help: &str) -> Family<'a> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { text: &mut self.0, name }
    }

    /// Returns the whole text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Adds a sample; a label without a value is left out, which means the same.
    pub fn sample(&mut self, labels: &[Label<'_>], value: impl Display) {
        self.line("", labels, value);
    }

    /// Adds the samples of a distribution of durations, in seconds.
    pub fn durations(&mut self, labels: &[Label<'_>], histogram: &Histogram) {
        let bounds = BUCKETS_US.iter().map(|bound| seconds(*bound).to_string()).chain(["+Inf".to_owned()]);
        let mut reached = 0;
        for (bound, count) in bounds.zip(histogram.counts) {
            reached += count;
            let labels: Vec<Label<'_>> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.line("_bucket", &labels, reached);
        }
        self.line("_sum", labels, seconds(histogram.sum_us));
        self.line("_count", labels, reached);
    }

    fn line(&mut self, suffix: &str, labels: &[Label<'_>], value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let mut separator = '{';
        for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
            self.text.push(separator);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        // Writing to a string does not fail.
        let _ = writeln!(self.text, " {value}");
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn escape(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_empty_ones_left_out() {
        let mut text = Text::default();
        let mut family = text.counter("a_total", "Help with \\ and\nlines.");
        family.sample(&[("model", "a\"b\\c\nd"), ("key", "")], 3);
        family.sample(&[("key", "")], 4);
        let expected = "# HELP a_total Help with \\\\ and\\nlines.\n# TYPE a_total counter\n\
            a_total{model=\"a\\\"b\\\\c\\nd\"} 3\na_total 4\n";
        assert_eq!(text.into_string(), expected);
    }

    #[test]
    fn buckets_are_cumulative_and_end_at_infinity() {
        let mut durations = Histogram::default();
        [500, 1_000, 3_000, 90_000_000].map(|us| durations.record(us)).iter().for_each(|()| {});
        let mut text = Text::default();
        text.histogram("a_seconds", "A.").durations(&[("model", "m")], &durations);
        let text = text.into_string();
        for line in [
            "a_seconds_bucket{model=\"m\",le=\"0.001\"} 2",
            "a_seconds_bucket{model=\"m\",le=\"0.005\"} 3",
            "a_seconds_bucket{model=\"m\",le=\"60\"} 3",
            "a_seconds_bucket{model=\"m\",le=\"+Inf\"} 4",
            "a_seconds_sum{model=\"m\"} 90.0045",
            "a_seconds_count{model=\"m\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        assert_eq!(text.lines().count(), 2 + BUCKETS_US.len() + 3);
    }
}
