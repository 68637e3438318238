//! What the machine is and has: cores, processor, memory, and what this process holds. It reads facts and decides
//! nothing. Asked by `run` once at the start, and by `service` for every status.

#[cfg(target_os = "linux")]
#[path = "machine/linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "machine/macos.rs"]
mod system;

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

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

/// Returns how many bytes may still be written where `path` lies; `None` where the system does not say.
// macOS counts in other widths than Linux.
#[allow(unsafe_code, clippy::unnecessary_cast)]
pub fn disk_room(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut told = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `path` ends in a zero byte, and the call fills the live local where it succeeds; zero is a value of it anyway.
    let (status, told) = unsafe {
        let status = libc::statvfs(path.as_ptr(), told.as_mut_ptr());
        (status, told.assume_init())
    };
    (status == 0).then(|| (told.f_bavail as u64).saturating_mul(told.f_frsize as u64))
}

/// Describes the machine to clients.
pub fn describe() -> Machine {
    Machine {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu: system::cpu().unwrap_or_else(|| "unknown".to_owned()),
        cores: cores(),
        performance_cores: system::performance_cores(),
        features: features(),
        gpu: None,
    }
}

/// What the vector units can do that kernels ask for.
fn features() -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
    ];
    #[cfg(target_arch = "aarch64")]
    let found = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
        ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
    ];
    found.into_iter().filter(|(_, there)| *there).map(|(name, _)| name.to_owned()).collect()
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
    fn a_disk_says_what_room_it_has() {
        assert!(disk_room(Path::new("/")).is_some_and(|room| room < 1 << 60), "{:?}", disk_room(Path::new("/")));
        assert_eq!(disk_room(Path::new("/nonexistent")), None);
    }

    #[test]
    fn the_machine_says_what_it_has() {
        let memory = memory();
        assert!(memory.total >= memory.available && memory.available > 0, "{memory:?}");
        assert!(memory.own > 1 << 20 && memory.own < memory.total, "{memory:?}");
        assert!(describe().cores >= 1 && for_placement().cores >= 1);
    }
}
