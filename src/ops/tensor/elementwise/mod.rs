//! Elementwise functions of one and two operands, with NumPy's broadcasting, and their derivatives. Activations are
//! among them. Semantics are PyTorch's functions of the same names, subgradients at kinks included.

mod binary;
mod functions;
mod unary;

pub(crate) use binary::{Binary, BinaryBackward};
pub(crate) use functions::{BinaryFunction, Side, UnaryFunction};
pub(crate) use unary::{Unary, UnaryBackward};

use super::strided::{MAX_RANK, Strided};
use crate::ops::kernel::{Binding, Dispatch, Shader, grid, params, to_u32};

params! {
    struct Params {
        shape: dims,
        a_strides: dims,
        b_strides: dims,
        c_strides: dims,
        rank: u32,
        num_elems: u32,
        alpha: f32,
        beta: f32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "elementwise",
    source: concat!(
        include_str!("../../../../shaders/lib/index.wgsl"),
        include_str!("../../../../shaders/lib/nan.wgsl"),
        include_str!("../../../../shaders/lib/math.wgsl"),
        include_str!("../../../../shaders/lib/power.wgsl"),
        include_str!("../../../../shaders/elementwise.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// A dispatch of `entry_point` over operands as `walk` reads them, for the function of that code and constants.
fn dispatch<const N: usize>(
    entry_point: &'static str,
    code: u32,
    (alpha, beta): (f64, f64),
    walk: &Strided<N>,
    bindings: &[Binding],
) -> Dispatch {
    let num_elems: usize = walk.shape.iter().product();
    let strides = |operand: usize| if operand < N { walk.stride_dims(operand) } else { [0; MAX_RANK] };
    let params = Params {
        shape: walk.shape_dims(),
        a_strides: strides(0),
        b_strides: strides(1),
        c_strides: strides(2),
        rank: to_u32(walk.rank()),
        num_elems: to_u32(num_elems),
        // Kernels compute in f32.
        alpha: alpha as f32,
        beta: beta as f32,
    };
    Dispatch::new(&SHADER, entry_point, &params, bindings, grid(num_elems, WORKGROUP_SIZE).short_loops())
        .constant("WG", WORKGROUP_SIZE)
        .constant("FUNCTION", code)
        .constant("CONTIGUOUS", u32::from(walk.is_contiguous()))
}
