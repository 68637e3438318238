//! Which crate may depend on which: the graph of ARCHITECTURE.md, and nothing else.

use std::fs;

use tests::programs::root;

use super::none;

/// Every crate of the house, its folder, and the crates of the house it may use.
const EDGES: &[(&str, &str, &[&str])] = &[
    ("protocol", "protocol", &[]),
    ("pipe", "daemon/pipe", &["protocol"]),
    ("scheduler", "daemon/scheduler", &[]),
    ("engine", "daemon/engine", &[]),
    ("store", "daemon/store", &[]),
    ("impetus-launchd", "launchd", &[]),
    ("worker", "daemon/worker", &["protocol", "pipe", "scheduler", "engine"]),
    ("impetusd", "daemon/impetusd", &["protocol", "pipe", "store", "impetus-launchd"]),
    ("impetusctl", "clients/impetusctl", &["protocol"]),
    ("impetus-http", "clients/http", &["protocol"]),
];

fn manifest(folder: &str) -> toml::Table {
    let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("every crate has a manifest");
    text.parse().expect("manifests are TOML")
}

fn dependencies(manifest: &toml::Table, kind: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut collect = |table: Option<&toml::Value>| {
        names.extend(table.and_then(toml::Value::as_table).into_iter().flat_map(|table| table.keys().cloned()));
    };
    collect(manifest.get(kind));
    for (_, target) in manifest.get("target").and_then(toml::Value::as_table).into_iter().flatten() {
        collect(target.get(kind));
    }
    names
}

#[test]
fn crates_depend_only_along_the_drawn_edges() {
    let mut offences = Vec::new();
    for (name, folder, allowed) in EDGES {
        for used in dependencies(&manifest(folder), "dependencies") {
            if EDGES.iter().any(|(known, ..)| *known == used) && !allowed.contains(&used.as_str()) {
                offences.push(format!("{name} may not depend on {used}"));
            }
        }
    }
    none("edges that are not in the graph", offences);
}

#[test]
fn every_member_of_the_workspace_is_drawn() {
    let workspace = manifest(".");
    let members = workspace["workspace"]["members"].as_array().expect("members are a list");
    let drawn = |member: &str| {
        EDGES.iter().any(|(_, folder, _)| *folder == member) || ["tests", "benches", "fuzz"].contains(&member)
    };
    let missing = members.iter().filter_map(toml::Value::as_str).filter(|member| !drawn(member));
    none("members missing from the graph", missing.map(str::to_owned).collect());
}

#[test]
fn versions_are_named_once_in_the_root() {
    let mut offences = Vec::new();
    for (name, folder, _) in EDGES {
        let manifest = manifest(folder);
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (used, how) in manifest.get(kind).and_then(toml::Value::as_table).into_iter().flatten() {
                if how.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    offences.push(format!("{name}: {used} does not come from the workspace"));
                }
            }
        }
    }
    none("dependencies with a version of their own", offences);
}
