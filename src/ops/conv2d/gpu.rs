//! stub
use super::Geometry;
use crate::ops::kernel::{Dispatches, GpuTraits, Shader};
pub static SHADER: Shader = Shader { name: "conv2d", source: "", params: &[] };
pub static GRAD_INPUT_SHADER: Shader = Shader { name: "conv2d_grad_input", source: "", params: &[] };
pub static GRAD_WEIGHT_SHADER: Shader = Shader { name: "conv2d_grad_weight", source: "", params: &[] };
pub fn forward(_g: &Geometry, _has_bias: bool, _gpu: GpuTraits) -> Dispatches { Dispatches::default() }
pub fn grad_input(_g: &Geometry, _gpu: GpuTraits) -> Dispatches { Dispatches::default() }
pub fn grad_weight(_g: &Geometry, _has_bias: bool, _gpu: GpuTraits) -> Dispatches { Dispatches::default() }
