//! The instruction set that CPU kernels are compiled for, chosen once as the program runs: AVX-512, AVX2 with FMA,
//! NEON, or the portable baseline. Kernels are one text, either plain loops within [`simd`], which the compiler
//! vectorises for each set, or functions generic over [`pulp::Simd`] called by [`dispatch`].
//!
//! `WGRAD_CPU` = `portable`, `avx2` or `avx512` selects a smaller set than the CPU has, for tests and comparisons. A
//! set that the CPU lacks is ignored; any other value is an error where a device is chosen (`exec/environment.rs`).

use std::sync::OnceLock;

use pulp::WithSimd;

/// What `WGRAD_CPU` may be.
pub(crate) const NAMES: [&str; 4] = ["portable", "avx2", "avx512", "neon"];

/// The instruction set in use.
#[derive(Clone, Copy, Debug)]
enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
    Portable,
}

#[inline(always)]
fn isa() -> Isa {
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    *CHOSEN.get_or_init(|| choose(std::env::var("WGRAD_CPU").unwrap_or_default().trim()))
}

fn choose(wanted: &str) -> Isa {
    if wanted == "portable" {
        return Isa::Portable;
    }
    #[cfg(target_arch = "x86_64")]
    {
        let avx512 = pulp::x86::V4::try_new().filter(|_| wanted != "avx2").map(Isa::Avx512);
        if let Some(isa) = avx512.or_else(|| pulp::x86::V3::try_new().map(Isa::Avx2)) {
            return isa;
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(neon) = pulp::aarch64::Neon::try_new() {
        return Isa::Neon(neon);
    }
    Isa::Portable
}

/// The name of the instruction set, as `WGRAD_CPU` has it.
pub(crate) fn name() -> &'static str {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => "avx512",
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => "avx2",
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(_) => "neon",
        Isa::Portable => "portable",
    }
}

/// Runs a kernel on the chosen instruction set.
#[inline(always)]
pub(crate) fn dispatch<K: WithSimd>(kernel: K) -> K::Output {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(simd) => pulp::Simd::vectorize(simd, kernel),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(simd) => pulp::Simd::vectorize(simd, kernel),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(simd) => pulp::Simd::vectorize(simd, kernel),
        Isa::Portable => kernel.with_simd(pulp::Scalar),
    }
}

/// Runs `body` compiled for the chosen instruction set: its loops become vector loops. Only what is inlined into it is,
/// and a closure that is called in an arm for each set is inlined only where it asks for it: callers write
/// `simd(#[inline(always)] || …)`, and the same for closures that such a body calls.
#[inline(always)]
pub(crate) fn simd<R>(body: impl FnOnce() -> R) -> R {
    struct Plain<B>(B);
    impl<R, B: FnOnce() -> R> WithSimd for Plain<B> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _simd: S) -> R {
            (self.0)()
        }
    }
    dispatch(Plain(body))
}

/// [`dispatch`] with vectors of at most 256 bits: for kernels whose loads begin anywhere, since one of 512 bits nearly
/// always crosses a cache line then and counts for two.
#[inline(always)]
pub(crate) fn dispatch_narrow<K: WithSimd>(kernel: K) -> K::Output {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(simd) => pulp::Simd::vectorize(*simd, kernel),
        _ => dispatch(kernel),
    }
}

/// [`dispatch`] with vectors of half the length where there is AVX-512, and all of its registers: for work that has no more
/// than half a vector.
#[inline(always)]
pub(crate) fn dispatch_half<K: WithSimd>(kernel: K) -> K::Output {
    struct Half<K>(K);
    impl<K: WithSimd> WithSimd for Half<K> {
        type Output = K::Output;
        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, simd: S) -> K::Output {
            #[cfg(target_arch = "x86_64")]
            if let Some(&simd) = (&simd as &dyn std::any::Any).downcast_ref::<pulp::x86::V4>() {
                return self.0.with_simd(*simd);
            }
            self.0.with_simd(simd)
        }
    }
    dispatch(Half(kernel))
}

/// The f32 lanes of a vector under [`dispatch_narrow`].
#[inline]
pub(crate) fn narrow_lanes() -> usize {
    lanes().min(8)
}

/// Whether there are 32 vector registers, not 16.
#[inline]
pub(crate) fn has_32_registers() -> bool {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => true,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(_) => true,
        _ => false,
    }
}

/// The f32 lanes of a vector.
#[inline]
pub(crate) fn lanes() -> usize {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(_) => 16,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => 8,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(_) => 4,
        Isa::Portable => 1,
    }
}
