//! macOS: `sysctl` and the process's own task information.
#![allow(unsafe_code)]

use std::ffi::CStr;

use super::Memory;

pub fn memory() -> Memory {
    let total = number(c"hw.memsize").unwrap_or(0);
    let page = number(c"hw.pagesize").unwrap_or(0);
    let pages = |name| number(name).unwrap_or(0);
    // What can be given without swapping: free pages, and pages that are only copies of files or may be dropped.
    let free =
        pages(c"vm.page_free_count") + pages(c"vm.page_purgeable_count") + pages(c"vm.page_pageable_external_count");
    Memory { total, available: (free * page).min(total), own: own().unwrap_or(0) }
}

fn own() -> Option<u64> {
    let size = size_of::<libc::proc_taskinfo>() as libc::c_int;
    // SAFETY: proc_taskinfo is a struct of integers, for which zero is a value.
    let mut info: libc::proc_taskinfo = unsafe { std::mem::zeroed() };
    let pid = std::process::id() as libc::c_int;
    // SAFETY: the pointer is to a live local of `size` bytes, which the call fills.
    let filled = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTASKINFO, 0, (&raw mut info).cast(), size) };
    (filled == size).then_some(info.pti_resident_size)
}

pub fn cpu() -> Option<String> {
    let mut text = [0_u8; 256];
    let length = read(c"machdep.cpu.brand_string", &mut text)?;
    CStr::from_bytes_until_nul(&text[..length]).ok()?.to_str().ok().map(str::to_owned)
}

pub fn performance_cores() -> Option<u32> {
    number(c"hw.perflevel0.logicalcpu").and_then(|cores| u32::try_from(cores).ok())
}

/// Reads an integer of four or eight bytes.
fn number(name: &CStr) -> Option<u64> {
    let mut bytes = [0_u8; 8];
    match read(name, &mut bytes)? {
        4 | 8 => Some(u64::from_le_bytes(bytes)),
        _ => None,
    }
}

fn read(name: &CStr, bytes: &mut [u8]) -> Option<usize> {
    let mut length = bytes.len();
    // SAFETY: `name` ends in a zero byte, and `length` is the size of the live buffer that the call fills.
    let status = unsafe {
        libc::sysctlbyname(name.as_ptr(), bytes.as_mut_ptr().cast(), &raw mut length, std::ptr::null_mut(), 0)
    };
    (status == 0).then_some(length)
}
