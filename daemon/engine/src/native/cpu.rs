//! What this processor can do, found out once.
//!
//! The pool carries the instruction set; every kernel asks the pool. Data layouts are the same for all of them, so
//! a matrix packed under one can be multiplied under another, which is how the tests compare them.

#[cfg(target_arch = "x86_64")]
use super::amx;
use std::sync::OnceLock;

/// An instruction set that the kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 with VNNI (int8 dot products).
    Avx512(Avx512),
    /// AVX2 with FMA.
    Avx2(Avx2),
    /// Arm NEON with int8 dot products.
    Neon,
    /// Portable code.
    Scalar,
}

/// What of a processor with AVX-512 and VNNI is used besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Avx512 {
    /// BF16 (dot products of bf16 pairs), and Intel's tile unit.
    Amx,
    /// BF16, on pipes of 512 bits, as AMD's have been since Zen 5.
    Full,
    /// BF16, on pipes of 256 bits.
    Bf16,
    /// Nothing: bf16 is multiplied as f32.
    Vnni,
}

/// What of a processor with AVX2 is used besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Avx2 {
    /// AVX-VNNI (int8 dot products), as Intel's processors without AVX-512 have them since Alder Lake.
    Vnni,
    /// Nothing.
    Plain,
}

impl Isa {
    /// The best instruction set of this processor.
    pub fn detect() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::available()[0])
    }

    /// Every instruction set that this processor runs, best first; the last is always `Scalar`.
    pub fn available() -> Vec<Isa> {
        let mut avx512 = [Avx512::Amx, Avx512::Bf16, Avx512::Full, Avx512::Vnni];
        if prefers_floats() {
            avx512.swap(1, 3);
        } else if has_full_pipes() {
            avx512.swap(1, 2);
        }
        let others = [Isa::Avx2(Avx2::Vnni), Isa::Avx2(Avx2::Plain), Isa::Neon, Isa::Scalar];
        avx512.map(Isa::Avx512).into_iter().chain(others).filter(|isa| isa.runs_here()).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn runs_here(self) -> bool {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let vnni = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        match self {
            Isa::Avx512(Avx512::Amx) => vnni && is_x86_feature_detected!("avx512bf16") && amx::permitted(),
            Isa::Avx512(Avx512::Full | Avx512::Bf16) => vnni && is_x86_feature_detected!("avx512bf16"),
            Isa::Avx512(Avx512::Vnni) => vnni,
            Isa::Avx2(Avx2::Vnni) => avx2 && is_x86_feature_detected!("avxvnni"),
            Isa::Avx2(Avx2::Plain) => avx2,
            Isa::Neon => false,
            Isa::Scalar => true,
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn runs_here(self) -> bool {
        match self {
            Isa::Neon => std::arch::is_aarch64_feature_detected!("dotprod"),
            Isa::Scalar => true,
            Isa::Avx512(_) | Isa::Avx2(_) => false,
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn runs_here(self) -> bool {
        self == Isa::Scalar
    }

    /// Columns (activation rows) that one kernel call holds in registers.
    pub(super) fn columns(self) -> usize {
        match self {
            Isa::Avx512(_) | Isa::Avx2(_) => 12,
            Isa::Neon | Isa::Scalar => 3,
        }
    }

    /// Whether sums of bytes are nearly free beside their products: Zen 4 adds on four pipes and multiplies on two of them, at
    /// half the rate of its loads. Intel's processors use the same two for both.
    pub(super) fn adds_beside_products(self) -> bool {
        self == Isa::Avx512(Avx512::Bf16)
    }

    /// Whether products of bytes wait for loads of their operands: a processor that multiplies two vectors of 512 bits a cycle
    /// loads no more than two.
    pub(super) fn multiplies_beside_loads(self) -> bool {
        self == Isa::Avx512(Avx512::Full)
    }

    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512(Avx512::Amx) => "AVX-512 VNNI and AMX",
            Isa::Avx512(Avx512::Full) => "AVX-512 VNNI and BF16, 512 bits wide",
            Isa::Avx512(Avx512::Bf16) => "AVX-512 VNNI and BF16",
            Isa::Avx512(Avx512::Vnni) => "AVX-512 VNNI",
            Isa::Avx2(Avx2::Vnni) => "AVX2 and AVX-VNNI",
            Isa::Avx2(Avx2::Plain) => "AVX2",
            Isa::Neon => "NEON",
            Isa::Scalar => "portable code",
        }
    }
}

/// Whether two multiplications of f32 are faster than one dot product of bf16 pairs: Intel's processors take as long for the
/// latter as for four (Emerald Rapids: 85 against 174 GFLOPS a core).
fn prefers_floats() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::x86_64::__cpuid(0).ebx.to_le_bytes() == *b"Genu";
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether this is AMD's Zen 5 or later, told by AVX-VNNI, which Zen 4 has not.
fn has_full_pipes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Compiles `$body`, an `#[inline(always)]` function of plain arithmetic, once for each instruction set whose wider
/// vectors the compiler can use, as `$name(isa, arguments)`.
macro_rules! versions {
    ($(#[$note:meta])* $visible:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:path) => {
        $(#[$note])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $visible fn $name(isa: $crate::native::Isa, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::native::Isa;
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
                fn avx512($($argument: $type),*) {
                    $body($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) {
                    $body($($argument),*)
                }
                match isa {
                    // SAFETY: a pool carries only what `Isa::available` has found on this processor.
                    Isa::Avx512(_) => {
                        return unsafe { avx512($($argument),*) };
                    }
                    // SAFETY: as above.
                    Isa::Avx2(_) => return unsafe { avx2($($argument),*) },
                    Isa::Neon | Isa::Scalar => {}
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = isa;
            $body($($argument),*)
        }
    };
}
pub(super) use versions;
