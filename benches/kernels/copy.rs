//! Values in another arrangement: reads or writes that are not in order.

use crate::cases::{Case, Fill, input};
use crate::{Bench, Limit, bench};

pub fn benches() -> Vec<Bench> {
    vec![
        bench(
            Limit::Bytes,
            Case::one("copy.transpose", vec![input([1024, 1024], Fill::Uniform)], |g, v| g.transpose(v[0], 0, 1)),
        ),
        bench(
            Limit::Bytes,
            Case::one("copy.nchw_to_nhwc", vec![input([64, 64, 28, 28], Fill::Uniform)], |g, v| {
                g.permute(v[0], &[0, 2, 3, 1])
            }),
        ),
    ]
}
