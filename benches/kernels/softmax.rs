//! Softmax over long rows.

use crate::cases::{Case, Fill, input};
use crate::{Bench, Limit, bench};

pub fn benches() -> Vec<Bench> {
    let rows = || vec![input([1024, 1024], Fill::Uniform)];
    let cases = [
        Case::one("softmax.rows", rows(), |g, v| g.softmax(v[0], 1)),
        Case::one("softmax.columns", rows(), |g, v| g.softmax(v[0], 0)),
        Case::one("softmax.log_rows", rows(), |g, v| g.log_softmax(v[0], 1)),
    ];
    cases.into_iter().map(|case| bench(Limit::Bytes, case)).collect()
}
