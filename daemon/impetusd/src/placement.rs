//! Which device a model runs on, and with how many threads: a pure function from machine and model to a decision.
//! It probes nothing. Called by `supervisor` when a model is loaded; GPU and ANE become answers here, nowhere else.

#[cfg(test)]
mod tests;

use protocol::model::ModelFacts;

/// What matters of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Logical cores that this process may use.
    pub cores: u32,
    /// Fast cores, where the machine has two kinds.
    pub performance_cores: Option<u32>,
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The device.
    pub device: Device,
    /// Compute threads.
    pub threads: u32,
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The processor, by the native engine.
    Cpu,
}

/// Beyond this, threads of a dense model wait for memory and for each other.
const THREADS_MAX: u32 = 32;

/// Parameters that keep one more thread busy between two synchronisations; a step of a small model is over before
/// many threads have met.
const PARAMETERS_PER_THREAD: u64 = 4_000_000;

/// Decides where a model runs; `threads` is the configured number, 0 for a free choice.
pub fn place(machine: &Machine, facts: &ModelFacts, threads: u32) -> Placement {
    let cores = machine.cores.max(1);
    if threads > 0 {
        return Placement { device: Device::Cpu, threads: threads.min(cores) };
    }
    // A slow core holds up every fast one at each synchronisation.
    let fast = machine.performance_cores.filter(|fast| *fast > 0).unwrap_or(cores).min(cores);
    let useful = facts.parameters.div_ceil(PARAMETERS_PER_THREAD).clamp(1, u64::from(THREADS_MAX)) as u32;
    Placement { device: Device::Cpu, threads: fast.min(useful) }
}
