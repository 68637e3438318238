//! Linux: `/proc`, and the limits of the control group a container lives in.

use std::fs::read_to_string;

use super::Memory;

/// Bytes of one page, as `statm` counts them on the machines Impetus runs on.
const PAGE_BYTES: u64 = 4096;

pub fn memory() -> Memory {
    let info = read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let of_machine = kilobytes("MemTotal:").unwrap_or(0) * 1024;
    let available = kilobytes("MemAvailable:").unwrap_or(0) * 1024;
    let group = number("/sys/fs/cgroup/memory.max").unwrap_or(u64::MAX);
    let total = of_machine.min(group);
    let in_group = group.saturating_sub(number("/sys/fs/cgroup/memory.current").unwrap_or(0));
    Memory { total, available: available.min(in_group).min(total), own: own().unwrap_or(0) }
}

fn own() -> Option<u64> {
    let pages: u64 = read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

fn number(path: &str) -> Option<u64> {
    read_to_string(path).ok()?.trim().parse().ok()
}

pub fn cpu() -> Option<String> {
    let info = read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Linux does not say which cores are fast in a form that holds across machines.
pub fn performance_cores() -> Option<u32> {
    None
}
