//! Each op as ONNX operators.

use super::proto::{AttributeProto, AttributeType};
use super::{Writer, to_i64, unsupported};
use crate::graph::Value;
use crate::ops::nn::softmax::SoftmaxFunction;
use crate::ops::tensor::elementwise::{BinaryFunction, UnaryFunction};
use crate::ops::{Activation, Conv2d, Matmul, MaxPool2d, Op, Operation};
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
        Op::Reshape(_) => write_reshape(writer, node, names[0], &output)?,
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

fn no_counterpart(op: &Op) -> Error {
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

/// A reshape: the one extent that grows with the number of images is left to the runtime.
fn write_reshape(writer: &mut Writer<'_>, node: usize, input: &str, output: &str) -> Result<()> {
    let of_one = writer.one.nodes[node].types[0].shape.dims();
    let of_two = writer.two.nodes[node].types[0].shape.dims();
    let growing = of_one.iter().zip(of_two).filter(|(one, two)| one != two).count();
    if of_one.len() != of_two.len() || growing > 1 {
        return Err(unsupported("reshape", "more than one extent of the result depends on the number of images"));
    }
    let shape: Vec<i64> =
        of_one.iter().zip(of_two).map(|(&one, &two)| if one == two { to_i64(one) } else { -1 }).collect();
    let shape = writer.integers(&format!("{output}.shape"), &shape);
    writer.node("Reshape", &[input, &shape], output, vec![]);
    Ok(())
}

/// An operator, and behind it the activation that was fused into the op.
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

/// ONNX has the beginnings of all axes first, then their ends.
fn both_sides([vertical, horizontal]: [usize; 2]) -> [usize; 4] {
    [vertical, horizontal, vertical, horizontal]
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().copied().map(to_i64).collect();
    AttributeProto { ints, ..attribute(name, AttributeType::Ints) }
}

fn float(name: &str, value: f64) -> AttributeProto {
    // f32 is what the graph computes in.
    AttributeProto { f: Some(value as f32), ..attribute(name, AttributeType::Float) }
}

fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..attribute(name, AttributeType::String) }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind.into(), ..AttributeProto::default() }
}
