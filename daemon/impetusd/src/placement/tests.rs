//! The table of machines: what each model gets on each.

use super::*;

fn model(parameters: u64) -> ModelFacts {
    ModelFacts {
        architecture: "qwen3".to_owned(),
        parameters,
        context_length: 32_768,
        vocabulary: 1,
        weights: "4-bit, group 64".to_owned(),
        weights_bytes: parameters / 2,
        memory_bytes: parameters / 2,
        step_bytes: parameters / 2,
        kv_bytes_per_token: 1,
        dimensions: None,
        capabilities: Default::default(),
    }
}

#[test]
fn every_machine_of_the_table_gets_the_threads_that_help() {
    let machine = |cores, performance_cores| Machine { cores, performance_cores };
    // Threads for 5 M, 600 M and 32 B parameters.
    let table = [
        ("one core", machine(1, None), [1, 1, 1]),
        ("a small virtual machine", machine(2, None), [2, 2, 2]),
        ("M1: 4 fast, 4 slow", machine(8, Some(4)), [2, 4, 4]),
        ("M4 Pro: 10 fast, 4 slow", machine(14, Some(10)), [2, 10, 10]),
        ("M3 Ultra: 24 fast, 8 slow", machine(32, Some(24)), [2, 24, 24]),
        ("a server", machine(192, None), [2, 32, 32]),
        ("a container with 3 of many cores", machine(3, Some(24)), [2, 3, 3]),
        ("a machine that says nothing", machine(0, Some(0)), [1, 1, 1]),
    ];
    for (name, machine, expected) in table {
        let threads = [5_000_000, 600_000_000, 32_000_000_000].map(|count| place(&machine, &model(count), 0).threads);
        assert_eq!(threads, expected, "{name}");
    }
}

#[test]
fn a_configured_number_of_threads_is_kept_within_the_machine() {
    let machine = Machine { cores: 8, performance_cores: Some(4) };
    assert_eq!(place(&machine, &model(1), 6).threads, 6);
    assert_eq!(place(&machine, &model(1), 60).threads, 8);
}
