//! What the CPU could do at best: products and sums in registers, with nothing to load. What a kernel reaches is told as
//! a share of it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pulp::{Simd, WithSimd};

use super::unroll::unroll;
use super::{isa, threads};

/// Sums side by side: enough to hide the latency of a fused product, and few enough for 16 registers.
const SUMS: usize = 12;
const ITERATIONS: usize = 20_000;
/// The best of so many runs counts, since another program may disturb one.
const RUNS: usize = 20;

/// Floating-point operations per second of one thread and of all threads of the current pool.
pub(crate) fn flops() -> [f64; 2] {
    let num_threads = threads::Threads::current().num_threads();
    [1, num_threads].map(|tasks| {
        let time = (0..RUNS).map(|_| {
            let started = Instant::now();
            threads::run(tasks, |_| isa::dispatch(Products));
            started.elapsed()
        });
        let best = time.min().unwrap_or(Duration::MAX).as_secs_f64();
        (tasks * 2 * SUMS * isa::lanes() * ITERATIONS) as f64 / best
    })
}

struct Products;

impl WithSimd for Products {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, y) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(1e-3)));
        let mut sums = [y; SUMS];
        for _ in 0..ITERATIONS {
            unroll!(i in 0..SUMS, up to 16 => { sums[i] = simd.mul_add_e_f32s(sums[i], x, y); });
        }
        black_box(sums);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_core_computes_more_than_a_billion_products_a_second() {
        let [one, all] = super::flops();
        assert!(one > 1e8 && all > 1e8, "{one} {all}");
    }
}
