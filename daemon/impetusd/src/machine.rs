//! What the machine is and has: cores, processor, memory, and what this process holds. It reads facts and decides
//! nothing. Asked by `run` once at the start, and by `service` for every status.

#[cfg(target_os = "linux")]
#[path = "machine/linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "machine/macos.rs"]
mod system;

use protocol::status::Machine;

use crate::placement;

/// Memory of the machine and of this process, in bytes; 0 where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What the machine, or the container, has.
    pub total: u64,
    /// What it could give now.
    pub available: u64,
    /// What this process holds.
    pub own: u64,
}

/// Returns the memory now.
pub fn memory() -> Memory {
    system::memory()
}

/// Describes the machine to clients.
pub fn describe() -> Machine {
    Machine {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu: system::cpu().unwrap_or_else(|| "unknown".to_owned()),
        cores: cores(),
        gpu: None,
    }
}

/// Describes the machine to `placement`.
pub fn for_placement() -> placement::Machine {
    placement::Machine { cores: cores(), performance_cores: system::performance_cores() }
}

/// Cores that this process may use: affinity and container limits count.
fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_it_has() {
        let memory = memory();
        assert!(memory.total >= memory.available && memory.available > 0, "{memory:?}");
        assert!(memory.own > 1 << 20 && memory.own < memory.total, "{memory:?}");
        assert!(describe().cores >= 1 && for_placement().cores >= 1);
    }
}
