//! What CPU kernels use: the float they are generic over, their operands, threads, vector units, working memory and
//! matrix products.

pub(crate) mod chunks;
mod context;
pub(crate) mod conv;
pub(crate) mod exp;
mod float;
pub(crate) mod gemm;
pub(crate) mod isa;
mod math;
pub(crate) mod parallel;
pub(crate) mod peak;
pub(crate) mod scratch;
pub(crate) mod skinny;
pub(crate) mod threads;
pub(crate) mod transpose;
pub(crate) mod unroll;

pub(crate) use context::{CpuContext, Memory, Operands, elem_bytes};
pub use float::Float;
