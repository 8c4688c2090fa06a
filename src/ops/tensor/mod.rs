//! Ops on tensors of any shape: elementwise, reductions, products, moving data.

pub(crate) mod argmax;
pub(crate) mod assign;
pub(crate) mod concat;
pub(crate) mod copy;
pub(crate) mod elementwise;
pub(crate) mod matmul;
pub(crate) mod pad;
pub(crate) mod reduce;
pub(crate) mod reshape;
pub(crate) mod strided;
pub(crate) mod tensor_stats;
