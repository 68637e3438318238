//! The walls of the house: sizes, names, edges and rooms. Reads the sources as text; runs nothing.

mod edges;
mod rooms;
mod shape;

use std::fs;
use std::path::{Path, PathBuf};

use tests::programs::root;

/// A source file: its path from the root, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Whether it holds tests or benches rather than the product.
    fn is_test(&self) -> bool {
        let path = self.path.as_str();
        ["tests/", "benches/", "examples/", "fuzz/"]
            .iter()
            .any(|folder| path.starts_with(folder) || path.contains(&format!("/{folder}")))
            || path.ends_with("tests.rs")
            || path.contains("/simulation/")
            || ["simulation.rs", "testing.rs", "goldens.rs"].iter().any(|name| path.ends_with(name))
    }

    /// Its lines before any inline test module, numbered from 1.
    fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let inline = |line: &&str| line.trim() == "mod tests {";
        let end = self.text.lines().position(|line| inline(&line)).unwrap_or(usize::MAX);
        self.text.lines().take(end).enumerate().map(|(at, line)| (at + 1, line))
    }
}

/// Returns every Rust source of the checkout.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    walk(root(), &mut found);
    assert!(found.len() > 50, "the checkout has sources");
    found
}

fn walk(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("the checkout is readable") {
        let path: PathBuf = entry.expect("the checkout is readable").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules", "tmp"].contains(&name) {
                walk(&path, found);
            }
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            let path = path.strip_prefix(root()).expect("it lies in the checkout").to_string_lossy().into_owned();
            found.push(Source { path, text });
        }
    }
}

/// Fails with every offence at once.
#[track_caller]
fn none(what: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{what}:\n  {}", offences.join("\n  "));
}
