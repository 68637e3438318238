//! Which third-party crate may be named where: vocabulary stays in its room.

use super::{none, sources};

/// Crates whose words shape code, and the folders or files that may use them.
const ROOMS: &[(&str, &[&str])] = &[
    ("tarpc", &["protocol/src/", "daemon/impetusd/src/service"]),
    ("tokio_serde", &["protocol/src/wire"]),
    ("bincode", &["protocol/src/wire"]),
    ("interprocess", &["protocol/src/socket"]),
    ("axum", &["clients/http/"]),
    ("utoipa", &["clients/http/"]),
    ("redis", &["clients/http/src/shared"]),
    ("hyper", &["clients/http/src/serve"]),
    ("hyper_util", &["clients/http/src/serve"]),
    ("ring", &["clients/http/src/login", "daemon/worker/src/shelf/seal"]),
    ("tokio_rustls", &["clients/http/src/serve"]),
    ("rusqlite", &["daemon/store/"]),
    ("tokenizers", &["daemon/engine/src/text"]),
    ("minijinja", &["daemon/engine/src/text"]),
    ("llguidance", &["daemon/engine/src/text/grammar"]),
    ("toktrie", &["daemon/engine/src/text/grammar"]),
    ("safetensors", &["daemon/engine/src/"]),
    ("mlx_rs", &["daemon/engine/src/mlx"]),
    ("memmap2", &["daemon/engine/src/native/"]),
    ("hf_hub", &["daemon/impetusd/src/hub"]),
    ("ureq", &["daemon/impetusd/src/hub", "daemon/impetusd/src/traces/export"]),
    ("launchd", &["launchd/"]),
    ("plist", &["launchd/"]),
    ("rustix", &["clients/impetusctl/src/commands/stop", "clients/impetusctl/src/daemon", "tests/src/process"]),
    ("rustyline", &["clients/impetusctl/src/commands/chat"]),
    ("indicatif", &["clients/impetusctl/src/commands/work"]),
];

/// Folders whose code never waits on a runtime.
const SYNCHRONOUS: &[&str] =
    &["daemon/scheduler/", "daemon/engine/", "daemon/store/", "daemon/pipe/", "daemon/worker/"];

/// Files that may hold `unsafe`: kernels and calls into the system, each block with its reason.
const UNSAFE: &[&str] = &[
    "daemon/engine/src/native",
    "daemon/impetusd/src/machine",
    "daemon/worker/src/facts",
    "launchd/src/",
    "protocol/src/memory",
    "protocol/src/socket",
];

/// Whether a line uses the crate `name` as a path.
fn names(line: &str, name: &str) -> bool {
    let path = format!("{name}::");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':')
    })
}

#[test]
fn third_party_words_stay_in_their_rooms() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (at, line) in source.product_lines().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for (name, rooms) in ROOMS {
                if names(line, name) && !rooms.iter().any(|room| source.path.starts_with(room)) {
                    offences.push(format!("{}:{at} names {name}", source.path));
                }
            }
        }
    }
    none("third-party crates outside their room", offences);
}

#[test]
fn synchronous_crates_know_no_runtime() {
    let mut offences = Vec::new();
    for source in sources() {
        if SYNCHRONOUS.iter().any(|folder| source.path.starts_with(folder)) {
            for (at, line) in source.product_lines() {
                if names(line, "tokio") || line.contains("async fn") {
                    offences.push(format!("{}:{at}", source.path));
                }
            }
        }
    }
    none("async in synchronous crates", offences);
}

#[test]
fn the_scheduler_reads_no_clock_and_holds_no_float() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("daemon/scheduler/") && !source.is_test()) {
        for (at, line) in source.product_lines().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            let impure = ["std::time", "std::fs", "std::io", "std::thread", "std::env", "std::net", "f32", "f64"];
            if impure.iter().any(|word| line.contains(word)) {
                offences.push(format!("{}:{at} {}", source.path, line.trim()));
            }
        }
    }
    none("impurity in the scheduler", offences);
}

#[test]
fn only_the_bridge_knows_the_dialects() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test() && !source.path.starts_with("clients/http/")) {
        for (at, line) in source.product_lines().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if ["OpenAI", "openai", "Anthropic", "anthropic", "Ollama", "ollama"].iter().any(|word| line.contains(word))
            {
                offences.push(format!("{}:{at}", source.path));
            }
        }
    }
    none("dialects outside the bridge", offences);
}

#[test]
fn unsafe_code_stays_in_kernels_and_system_calls() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        if UNSAFE.iter().any(|folder| source.path.starts_with(folder)) {
            continue;
        }
        for (at, line) in source.product_lines().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl") {
                offences.push(format!("{}:{at}", source.path));
            }
        }
    }
    none("unsafe outside its rooms", offences);
}
