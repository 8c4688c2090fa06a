//! Images with their channels last, where the elements that a row of the kernel meets are contiguous: a row of a kernel is a
//! vector or a few, also where there are few channels. The gradients of pooled convolutions take it, and the gradient by
//! the input of those with few input channels.

pub(super) mod input;
pub(super) mod kernels;
pub(super) mod layout;
#[cfg(test)]
mod tests;
