//! Processes that are nobody's child here: killed as an accident would, and watched until they are gone.
//!
//! Only the system is asked, not the programs `kill` and `ps`, which a minimal Debian lacks. Tests of faults call this.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Kills a process that runs.
pub fn kill(pid: u32) {
    kill_process(raw(pid), Signal::KILL).expect("the process runs and is ours");
}

/// Tells a process that its terminal is gone.
pub fn hang_up(pid: u32) {
    kill_process(raw(pid), Signal::HUP).expect("the process runs and is ours");
}

/// Stops a process in its tracks: it neither works nor ends.
pub fn pause(pid: u32) {
    kill_process(raw(pid), Signal::STOP).expect("the process runs and is ours");
}

/// Lets a process that was paused go on.
pub fn go_on(pid: u32) {
    kill_process(raw(pid), Signal::CONT).expect("the process runs and is ours");
}

/// Whether a process runs; a zombie does not.
pub fn runs(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    // The state follows the name, which stands in parentheses and may hold any character.
    let zombie = state.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')));
    !zombie && test_kill_process(raw(pid)).is_ok()
}

/// Kilobytes of memory that a process holds; `None` where the system does not say it in a file.
pub fn resident_kb(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
}

fn raw(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id is above 0")
}
