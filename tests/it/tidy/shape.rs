//! Sizes, names and habits: what keeps a file readable by a stranger.

use std::fs;

use tests::programs::root;

use super::{Source, none, sources};

/// The most lines of a file.
const FILE_LINES_MAX: usize = 500;

/// The most lines of a function.
const FUNCTION_LINES_MAX: usize = 70;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] =
    &["utils", "util", "helpers", "helper", "common", "misc", "manager", "mod", "base", "core"];

#[test]
fn files_are_short() {
    let long = |source: &Source| {
        let lines = source.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{} has {lines} lines", source.path))
    };
    none("files over the limit", sources().iter().filter_map(long).collect());
}

#[test]
fn functions_are_short() {
    none("functions over the limit", sources().iter().flat_map(long_functions).collect());
}

/// Whether a line begins a function, whatever stands before the word.
fn is_head(code: &str) -> bool {
    let before = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
    code.split(' ').find(|word| !before.contains(word)) == Some("fn")
}

/// Finds functions by the indentation that rustfmt gives their first and last line.
fn long_functions(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize, String)> = None;
    for (at, line) in source.text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let code = line.trim_start();
        if is_head(code) && open.is_none() {
            open = Some((at, indent, code.to_owned()));
        }
        if let Some((start, depth, head)) = &open
            && indent == *depth
            && (code.starts_with('}') || (code.ends_with('}') && at == *start) || (code.ends_with(';') && at == *start))
        {
            if at - start + 1 > FUNCTION_LINES_MAX {
                found.push(format!("{}:{} {} lines: {head}", source.path, start + 1, at - start + 1));
            }
            open = None;
        }
    }
    found
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = sources().into_iter().filter(|source| !source.text.starts_with("//! ")).map(|source| source.path);
    none("files without a header", silent.collect());
}

#[test]
fn names_say_something() {
    let empty = |source: &Source| {
        let stem = source.path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).unwrap_or_default();
        EMPTY_NAMES.contains(&stem).then(|| source.path.clone())
    };
    none("files whose name says nothing", sources().iter().filter_map(empty).collect());
}

#[test]
fn the_product_does_not_panic_on_purpose() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test() && source.path != "daemon/engine/src/random.rs") {
        for (at, line) in source.product_lines().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if [".unwrap()", "panic!(", "todo!(", "unimplemented!(", "dbg!("].iter().any(|word| line.contains(word)) {
                offences.push(format!("{}:{at} {}", source.path, line.trim()));
            }
        }
    }
    none("panics in the product", offences);
}

#[test]
fn no_test_is_switched_off() {
    let words = [concat!("#[", "ignore"), concat!("#[", "should_panic")];
    let mut offences = Vec::new();
    for source in sources() {
        for (at, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                offences.push(format!("{}:{}", source.path, at + 1));
            }
        }
    }
    none("tests that do not test", offences);
}

#[test]
fn no_test_file_is_forgotten() {
    let main = fs::read_to_string(root().join("tests/it/main.rs")).expect("the runner exists");
    let mut offences = Vec::new();
    for entry in fs::read_dir(root().join("tests/it")).expect("the tests exist") {
        let name = entry.expect("the tests exist").file_name().to_string_lossy().into_owned();
        if let Some(stem) = name.strip_suffix(".rs")
            && stem != "main"
            && !main.contains(&format!("mod {stem};"))
        {
            offences.push(name);
        }
    }
    none("test files that nobody runs", offences);
}
