//! Attributes of ONNX operators.

use super::proto::{AttributeProto, AttributeType};
use super::to_i64;

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

pub(super) fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().copied().map(to_i64).collect();
    AttributeProto { ints, ..attribute(name, AttributeType::Ints) }
}

pub(super) fn float(name: &str, value: f64) -> AttributeProto {
    // f32 is what the graph computes in.
    AttributeProto { f: Some(value as f32), ..attribute(name, AttributeType::Float) }
}

pub(super) fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..attribute(name, AttributeType::String) }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind.into(), ..AttributeProto::default() }
}

/// ONNX has the beginnings of all axes first, then their ends.
pub(super) fn both_sides([vertical, horizontal]: [usize; 2]) -> [usize; 4] {
    [vertical, horizontal, vertical, horizontal]
}
