//! Intel's tile unit (AMX): who may use it, and its two products, of bytes and of bf16 pairs.
//!
//! A product multiplies up to 16 rows of 64 bytes with 16 lines of 64 bytes: steps of a panel or lines of a tile, which lie in
//! memory as the unit reads them. Its instructions stand here in assembly, as the compiler knows no stable name for them. A
//! thread keeps its unit set up, and its tiles full, between products: the compiler never touches them, and nothing else may on a
//! thread of the pool. The affine and the float kernels call it; of weights and attention it knows nothing.

/// Rows and steps of a tile at most.
pub(super) const ROWS: usize = 16;

/// Whether this processor has the unit and the system lets this process use it, which is asked for once.
pub(super) fn permitted() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        static PERMITTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        *PERMITTED.get_or_init(|| cfg!(target_os = "linux") && x86::ask())
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use super::ROWS;
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;
    use std::cell::Cell;
    use std::marker::PhantomData;

    /// AMX-BF16, AMX-TILE and AMX-INT8 among the features of leaf 7.
    const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    /// Linux: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), since 5.16.
    const ARCH_PRCTL: i64 = 158;
    const REQUEST: u64 = 0x1023;
    const TILE_DATA: u64 = 18;

    pub(super) fn ask() -> bool {
        if __cpuid_count(7, 0).edx & FEATURES != FEATURES {
            return false;
        }
        let answer: i64;
        // SAFETY: a system call that reads no memory; a system that does not know it says so.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => answer,
                in("rdi") REQUEST,
                in("rsi") TILE_DATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        answer == 0
    }

    /// What `ldtilecfg` reads.
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }

    /// What sums begin with.
    static ZEROS: Zeros = Zeros([0; ROWS * 64]);

    #[repr(align(64))]
    struct Zeros(#[allow(dead_code)] [u8; ROWS * 64]);

    thread_local! {
        /// Rows and steps that this thread's unit is set up for: doing so takes as long as a dozen products.
        static SET_UP: Cell<(u8, u8)> = const { Cell::new((0, 0)) };
    }

    /// This thread's tiles, set up for products of some rows by some steps.
    pub(in crate::native) struct Tiles(PhantomData<*mut ()>);

    impl Tiles {
        /// Tiles 0 to 3 hold sums, 4 and 5 rows of `steps` dwords, 6 and 7 `steps` lines of 64 bytes.
        ///
        /// # Safety
        /// `permitted`, and 1 to `ROWS` rows and steps.
        #[inline]
        pub(in crate::native) unsafe fn new(rows: usize, steps: usize) -> Tiles {
            debug_assert!((1..=ROWS).contains(&rows) && (1..=ROWS).contains(&steps));
            let wanted = (rows as u8, steps as u8);
            if SET_UP.replace(wanted) != wanted {
                // SAFETY: passed on to the caller.
                unsafe { set_up(wanted) };
            }
            Tiles(PhantomData)
        }

        /// Tile `SUMS` of 4 = rows times lines, of signed by unsigned bytes, four to a dword.
        ///
        /// # Safety
        /// `rows` has the rows, `pitch` bytes from one to the next, and `lines` the lines.
        #[inline(always)]
        pub(in crate::native) unsafe fn bytes<const SUMS: usize>(
            &self,
            rows: *const u8,
            pitch: usize,
            lines: *const u8,
        ) {
            // SAFETY: passed on to the caller.
            unsafe {
                asm!(
                    // A product waits long for a tile that `tilezero` made.
                    "tileloadd tmm{sums}, [{zeros} + {line}]",
                    "tileloadd tmm{a}, [{rows} + {pitch}]",
                    "tileloadd tmm{b}, [{lines} + {line}]",
                    "tdpbsud tmm{sums}, tmm{a}, tmm{b}",
                    sums = const SUMS,
                    a = const 4 + SUMS % 2,
                    b = const 6 + SUMS % 2,
                    zeros = in(reg) &raw const ZEROS,
                    rows = in(reg) rows,
                    pitch = in(reg) pitch,
                    lines = in(reg) lines,
                    line = in(reg) 64usize,
                    options(nostack, readonly, preserves_flags),
                );
            }
        }

        /// Writes tile `SUMS` of 4: 16 numbers of 4 bytes to a row.
        ///
        /// # Safety
        /// `to` has 64 bytes for each row.
        #[inline(always)]
        pub(in crate::native) unsafe fn write<const SUMS: usize>(&self, to: *mut i32) {
            // SAFETY: passed on to the caller.
            unsafe {
                asm!(
                    "tilestored [{to} + {line}], tmm{sums}",
                    sums = const SUMS,
                    to = in(reg) to,
                    line = in(reg) 64usize,
                    options(nostack, preserves_flags),
                );
            }
        }

        /// Forgets the sums of bf16 pairs in tiles 2 `PAIR` and 2 `PAIR` + 1.
        #[inline(always)]
        pub(in crate::native) unsafe fn clear<const PAIR: usize>(&self) {
            // SAFETY: they are there.
            unsafe { self.load::<PAIR>((&raw const ZEROS).cast(), 0) };
        }

        /// Takes those sums from `sums`: f32 `[rows, 32]`, `pitch` bytes from one row to the next.
        ///
        /// # Safety
        /// They are there.
        #[inline(always)]
        pub(in crate::native) unsafe fn load<const PAIR: usize>(&self, sums: *const f32, pitch: usize) {
            // SAFETY: passed on to the caller.
            unsafe {
                asm!(
                    "tileloadd tmm{first}, [{sums} + {pitch}]",
                    "tileloadd tmm{second}, [{sums} + {pitch} + 64]",
                    first = const 2 * PAIR,
                    second = const 2 * PAIR + 1,
                    sums = in(reg) sums,
                    pitch = in(reg) pitch,
                    options(nostack, readonly, preserves_flags),
                );
            }
        }

        /// Writes them where `load` takes them from.
        ///
        /// # Safety
        /// As for `load`; nobody else touches them.
        #[inline(always)]
        pub(in crate::native) unsafe fn store<const PAIR: usize>(&self, sums: *mut f32, pitch: usize) {
            // SAFETY: passed on to the caller.
            unsafe {
                asm!(
                    "tilestored [{sums} + {pitch}], tmm{first}",
                    "tilestored [{sums} + {pitch} + 64], tmm{second}",
                    first = const 2 * PAIR,
                    second = const 2 * PAIR + 1,
                    sums = in(reg) sums,
                    pitch = in(reg) pitch,
                    options(nostack, preserves_flags),
                );
            }
        }

        /// Adds to them rows times lines, of bf16 pairs, and of 32 outputs to a line.
        ///
        /// # Safety
        /// `rows` has the rows, `pitch` bytes from one to the next, `lines` the lines, `line` bytes from one to the next.
        #[inline(always)]
        pub(in crate::native) unsafe fn pairs<const PAIR: usize>(
            &self,
            rows: *const u8,
            pitch: usize,
            lines: *const u8,
            line: usize,
        ) {
            // SAFETY: passed on to the caller.
            unsafe {
                asm!(
                    "tileloadd tmm{a}, [{rows} + {pitch}]",
                    "tileloadd tmm6, [{lines} + {line}]",
                    "tileloadd tmm7, [{lines} + {line} + 64]",
                    "tdpbf16ps tmm{first}, tmm{a}, tmm6",
                    "tdpbf16ps tmm{second}, tmm{a}, tmm7",
                    first = const 2 * PAIR,
                    second = const 2 * PAIR + 1,
                    a = const 4 + PAIR,
                    rows = in(reg) rows,
                    pitch = in(reg) pitch,
                    lines = in(reg) lines,
                    line = in(reg) line,
                    options(nostack, readonly, preserves_flags),
                );
            }
        }
    }

    #[cold]
    unsafe fn set_up((rows, steps): (u8, u8)) {
        let mut config = Config { palette: 1, start: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
        let dwords = u16::from(steps) * 4;
        config.bytes[..8].copy_from_slice(&[64, 64, 64, 64, dwords, dwords, 64, 64]);
        config.rows[..8].copy_from_slice(&[rows, rows, rows, rows, rows, rows, steps, steps]);
        // SAFETY: the configuration is one that palette 1 allows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::Tiles;
