//! How the programs of the house hold memory: what was much is given back to the system when it is free.
//!
//! glibc's allocator learns from the first large buffer that is freed to keep all later ones of that size, up to 32 MiB each,
//! and what many small pieces leave stays its own too: after a few requests of 15 MB a daemon of 10 MB held half a gigabyte
//! for good. So it is told how large is large, and a thread looks now and then whether it keeps much. Here because every
//! program speaks this crate's protocol; each calls it first of all. Other systems' allocators are left as they are.

/// Has the allocator give back what is much, for as long as the program runs.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use gnu::give_back;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
mod gnu {
    use std::thread::{Builder, sleep};
    use std::time::Duration;

    /// Bytes from which a buffer is a mapping of its own, which ends with it. A smaller one that is made and freed again and
    /// again, as templates do, would take longer to map than to fill.
    const MAPPED_FROM: libc::c_int = 4 << 20;

    /// Bytes that may be free at an end of the heap before that end is given back.
    const KEPT: libc::c_int = 16 << 20;

    /// How often a look is taken.
    const EVERY: Duration = Duration::from_secs(10);

    /// How many bytes are much.
    const MUCH: usize = 32 << 20;

    /// Has the allocator give back what is much, for as long as the program runs.
    pub fn give_back() {
        tell_sizes();
        // Without the thread the program keeps more than it needs, and works.
        let _ = Builder::new().name("memory".to_string()).spawn(|| {
            let mut kept = Kept::default();
            loop {
                sleep(EVERY);
                kept.look();
            }
        });
    }

    /// Tells the allocator how large is large.
    fn tell_sizes() {
        // SAFETY: `mallopt` takes two numbers and changes a setting of the allocator, under its own lock.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        }
    }

    /// Bytes that nothing is in, and that are the allocator's: among them those whose pages it gave back.
    fn free_bytes() -> usize {
        // SAFETY: it takes nothing and counts under the allocator's own locks.
        unsafe { libc::mallinfo2() }.fordblks
    }

    /// How much of what is free was given back already.
    #[derive(Debug, Default)]
    struct Kept {
        given: usize,
    }

    impl Kept {
        /// Gives back what is free, if that is much.
        fn look(&mut self) {
            if self.is_much(free_bytes()) {
                // SAFETY: it takes a number and gives whole free pages back, under the allocator's own locks.
                unsafe { libc::malloc_trim(0) };
                self.gave(free_bytes());
            }
        }

        /// Whether much is free that was not given back.
        fn is_much(&mut self, free: usize) -> bool {
            // What was given back is used again first, for all that can be known.
            self.given = self.given.min(free);
            free - self.given >= MUCH
        }

        fn gave(&mut self, free: usize) {
            self.given = free;
        }
    }

    #[cfg(test)]
    mod tests {
        use std::hint::black_box;

        use super::*;

        /// Bytes of memory that this process holds.
        fn resident() -> usize {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
        }

        #[test]
        fn a_large_buffer_goes_back_to_the_system_each_time_it_is_freed() {
            // More than other tests free meanwhile, and less than glibc may learn to keep.
            const LARGE: usize = 30 << 20;
            tell_sizes();
            let mut ends = Vec::new();
            for _ in 0..3 {
                let buffer = black_box(vec![1_u8; LARGE]);
                // What lies behind it keeps its place in a heap, if it has one, from being given back as the heap's end.
                ends.push(black_box(vec![1_u8; 64 << 10]));
                let held = resident();
                drop(buffer);
                assert!(resident() + LARGE / 2 < held);
            }
        }

        #[test]
        fn what_many_small_pieces_leave_goes_back_to_the_system() {
            const PIECE: usize = 4 << 10;
            let mut pieces: Vec<Vec<u8>> = (0..8 * MUCH / PIECE).map(|_| vec![1; PIECE]).collect();
            let (held, mut kept) = (resident(), Kept::default());
            let last = pieces.pop();
            drop(black_box(pieces));
            kept.look();
            assert!(resident() + 4 * MUCH < held, "{} of {held} bytes are held", resident());
            drop(black_box(last));
        }

        #[test]
        fn memory_is_given_back_once_and_again_when_much_more_was_freed() {
            let mut kept = Kept::default();
            assert!(!kept.is_much(MUCH - 1));
            assert!(kept.is_much(MUCH));
            kept.gave(MUCH);
            assert!(!kept.is_much(2 * MUCH - 1), "what was given back is not given twice");
            assert!(!kept.is_much(10));
            assert!(kept.is_much(10 + MUCH), "what was used again counts again");
        }
    }
}
