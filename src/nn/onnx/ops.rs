//! Each op as ONNX operators.

use super::attributes::{both_sides, float, int, ints, string};
use super::proto::AttributeProto;
use super::{Writer, shapes, to_i64, unsupported};
use crate::graph::Value;
use crate::ops::nn::avg_pool2d::Averages;
use crate::ops::nn::softmax::SoftmaxFunction;
use crate::ops::tensor::elementwise::{BinaryFunction, UnaryFunction};
use crate::ops::{Activation, AvgPool2d, Conv2d, Matmul, MaxPool2d, Op, Operation};
use crate::{Error, Result};

/// Appends the op of a node.
///
/// # Errors
/// [`Error::Unsupported`].
pub(super) fn write(writer: &mut Writer<'_>, node: usize, op: &Op) -> Result<()> {
    let inputs: Vec<Value> = writer.one.nodes[node].inputs.clone();
    let names: Vec<String> = inputs.iter().map(|&input| writer.name(input)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let output = writer.name(writer.one.value(node, 0));
    match op {
        Op::Conv2d(conv) => {
            activated(writer, "Conv", &names, &output, conv_attributes(conv), conv.activation);
        }
        Op::Matmul(matmul) => write_matmul(writer, matmul, &inputs, &names, &output)?,
        Op::MaxPool2d(pool) => {
            if pool.ceil_mode {
                return Err(unsupported(op.name(), "windows beyond the input (ceil_mode) differ between runtimes"));
            }
            writer.node("MaxPool", &names, &output, pool_attributes(pool));
        }
        Op::AveragePool(pool) => {
            let dims = writer.one.shape(inputs[0]).dims().to_vec();
            let attributes = avg_pool_attributes(&pool.0, [dims[2], dims[3]])?;
            writer.node("AveragePool", &names, &output, attributes);
        }
        Op::BatchNormEval(norm) => {
            writer.node("BatchNormalization", &names, &output, vec![float("epsilon", norm.eps)]);
        }
        Op::Softmax(softmax) => {
            let op_type = match softmax.function {
                SoftmaxFunction::Softmax => "Softmax",
                SoftmaxFunction::LogSoftmax => "LogSoftmax",
            };
            writer.node(op_type, &names, &output, vec![int("axis", to_i64(softmax.axis))]);
        }
        Op::Reshape(_) => shapes::reshape(writer, node)?,
        Op::Copy(copy) => shapes::copy(writer, node, copy)?,
        Op::Pad(pad) => shapes::pad(writer, node, pad)?,
        Op::Reduce(reduce) => shapes::reduce(writer, node, reduce),
        Op::Concat(concat) => {
            writer.node("Concat", &names, &output, vec![int("axis", to_i64(concat.axis))]);
        }
        Op::Detach(_) => drop(writer.node("Identity", &names, &output, vec![])),
        Op::Unary(unary) => unary_function(writer, unary.0, names[0], &output)?,
        Op::Binary(binary) => {
            let op_type = match binary.0 {
                BinaryFunction::Add => "Add",
                BinaryFunction::Sub => "Sub",
                BinaryFunction::Mul => "Mul",
                BinaryFunction::Div => "Div",
                BinaryFunction::Pow => "Pow",
                BinaryFunction::Min => "Min",
                BinaryFunction::Max => "Max",
                BinaryFunction::Equal | BinaryFunction::Greater | BinaryFunction::BceWithLogits => {
                    return Err(no_counterpart(op));
                }
            };
            writer.node(op_type, &names, &output, vec![]);
        }
        _ => return Err(no_counterpart(op)),
    }
    Ok(())
}

pub(super) fn no_counterpart(op: &Op) -> Error {
    unsupported(op.name(), "the export has no counterpart for it; leave it out of the evaluation graph")
}

fn write_matmul(
    writer: &mut Writer<'_>,
    matmul: &Matmul,
    inputs: &[Value],
    names: &[&str],
    output: &str,
) -> Result<()> {
    let is_matrix = |value: &Value| writer.one.shape(*value).rank() == 2;
    if !inputs[..2].iter().all(is_matrix) {
        return Err(unsupported("matmul", "only products of two matrices are exported, not batches of them"));
    }
    let transposed = |name: &str, is: bool| int(name, i64::from(is));
    let attributes = vec![transposed("transA", matmul.trans_a), transposed("transB", matmul.trans_b)];
    activated(writer, "Gemm", names, output, attributes, matmul.activation);
    Ok(())
}

/// An operator, and after it the activation that was fused into the op.
fn activated(
    writer: &mut Writer<'_>,
    op_type: &str,
    inputs: &[&str],
    output: &str,
    attributes: Vec<AttributeProto>,
    activation: Activation,
) {
    let function = match activation {
        Activation::None => {
            writer.node(op_type, inputs, output, attributes);
            return;
        }
        Activation::Relu => "Relu",
        Activation::Sigmoid => "Sigmoid",
        Activation::Tanh => "Tanh",
    };
    let before = writer.node(op_type, inputs, &format!("{output}.before"), attributes);
    writer.node(function, &[&before], output, vec![]);
}

fn unary_function(writer: &mut Writer<'_>, function: UnaryFunction, x: &str, output: &str) -> Result<()> {
    let mut attributes = Vec::new();
    let op_type = match function {
        UnaryFunction::Neg => "Neg",
        UnaryFunction::Exp => "Exp",
        UnaryFunction::Log => "Log",
        UnaryFunction::Sqrt => "Sqrt",
        UnaryFunction::Abs => "Abs",
        UnaryFunction::Reciprocal => "Reciprocal",
        UnaryFunction::Relu => "Relu",
        UnaryFunction::Sigmoid => "Sigmoid",
        UnaryFunction::Tanh => "Tanh",
        UnaryFunction::Sign => "Sign",
        UnaryFunction::Softplus => "Softplus",
        UnaryFunction::LeakyRelu { negative_slope } => {
            attributes.push(float("alpha", negative_slope));
            "LeakyRelu"
        }
        UnaryFunction::Gelu => "Gelu",
        UnaryFunction::GeluTanh => {
            attributes.push(string("approximate", "tanh"));
            "Gelu"
        }
        UnaryFunction::Square => {
            writer.node("Mul", &[x, x], output, vec![]);
            return Ok(());
        }
        UnaryFunction::Silu => {
            let sigmoid = writer.node("Sigmoid", &[x], &format!("{output}.sigmoid"), vec![]);
            writer.node("Mul", &[x, &sigmoid], output, vec![]);
            return Ok(());
        }
        UnaryFunction::Clamp { min, max } => {
            // f32 is what the graph computes in; a bound beyond it is infinite and bounds nothing.
            let low = writer.floats(&format!("{output}.min"), &[], &[min as f32]);
            let high = writer.floats(&format!("{output}.max"), &[], &[max as f32]);
            writer.node("Clip", &[x, &low, &high], output, vec![]);
            return Ok(());
        }
        UnaryFunction::AddScalar(value) => return with_scalar(writer, "Add", x, value, output),
        UnaryFunction::MulScalar(value) => return with_scalar(writer, "Mul", x, value, output),
        UnaryFunction::PowScalar(value) => return with_scalar(writer, "Pow", x, value, output),
    };
    writer.node(op_type, &[x], output, attributes);
    Ok(())
}

fn with_scalar(writer: &mut Writer<'_>, op_type: &str, x: &str, value: f64, output: &str) -> Result<()> {
    // f32 is what the graph computes in.
    let scalar = writer.floats(&format!("{output}.scalar"), &[], &[value as f32]);
    writer.node(op_type, &[x, &scalar], output, vec![]);
    Ok(())
}

fn conv_attributes(conv: &Conv2d) -> Vec<AttributeProto> {
    vec![
        ints("strides", &conv.stride),
        ints("pads", &both_sides(conv.padding)),
        ints("dilations", &conv.dilation),
        int("group", to_i64(conv.groups)),
    ]
}

fn pool_attributes(pool: &MaxPool2d) -> Vec<AttributeProto> {
    vec![
        ints("kernel_shape", &pool.kernel_size),
        ints("strides", &pool.stride),
        ints("pads", &both_sides(pool.padding)),
        ints("dilations", &pool.dilation),
    ]
}

/// Windows of a mean over planes of these extents.
fn avg_pool_attributes(averages: &Averages, extents: [usize; 2]) -> Result<Vec<AttributeProto>> {
    let AvgPool2d { kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override } = match *averages {
        Averages::Fixed(pool) => pool,
        Averages::Adaptive(output) => {
            if (0..2).any(|axis| output[axis] == 0 || !extents[axis].is_multiple_of(output[axis])) {
                return Err(unsupported("adaptive_avg_pool2d", "its windows are not all of one size"));
            }
            AvgPool2d::new([extents[0] / output[0], extents[1] / output[1]])
        }
    };
    if ceil_mode {
        return Err(unsupported("avg_pool2d", "windows beyond the input (ceil_mode) differ between runtimes"));
    }
    if divisor_override.is_some() {
        return Err(unsupported("avg_pool2d", "ONNX has no divisor of its own (divisor_override)"));
    }
    Ok(vec![
        ints("kernel_shape", &kernel_size),
        ints("strides", &stride),
        ints("pads", &both_sides(padding)),
        int("count_include_pad", i64::from(count_include_pad)),
    ])
}
