//! Ops that move elements or combine them along axes, as ONNX operators. The number of images is free in the file, so
//! what depends on it must be left to the runtime.

use super::attributes::{int, ints};
use super::ops::no_counterpart;
use super::{Writer, to_i64, unsupported};
use crate::Result;
use crate::graph::NodeKind;
use crate::ops::tensor::copy::Copy;
use crate::ops::tensor::pad::Pad;
use crate::ops::tensor::reduce::{Reduce, ReduceFunction};
use crate::ops::{Op, SliceRange};

/// A reshape: the one extent that grows with the number of images is left to the runtime.
pub(super) fn reshape(writer: &mut Writer<'_>, node: usize) -> Result<()> {
    let [input, output] = writer.ends(node);
    let of_one = writer.one.nodes[node].types[0].shape.dims();
    let of_two = writer.two.nodes[node].types[0].shape.dims();
    let growing = of_one.iter().zip(of_two).filter(|(one, two)| one != two).count();
    if of_one.len() != of_two.len() || growing > 1 {
        return Err(unsupported("reshape", "more than one extent of the result depends on the number of images"));
    }
    let shape: Vec<i64> =
        of_one.iter().zip(of_two).map(|(&one, &two)| if one == two { to_i64(one) } else { -1 }).collect();
    let shape = writer.integers(&format!("{output}.shape"), &shape);
    writer.node("Reshape", &[&input, &shape], &output, vec![]);
    Ok(())
}

/// A permutation or a slice.
pub(super) fn copy(writer: &mut Writer<'_>, node: usize, copy: &Copy) -> Result<()> {
    let [input, output] = writer.ends(node);
    match copy {
        Copy::Identity => drop(writer.node("Identity", &[&input], &output, vec![])),
        Copy::Permute(axes) => drop(writer.node("Transpose", &[&input], &output, vec![ints("perm", axes)])),
        Copy::Slice(ranges) => return slice(writer, node, ranges),
        Copy::Broadcast(_) => return Err(no_counterpart(&Op::Copy(copy.clone()))),
    }
    Ok(())
}

/// A slice along the axes that are not taken whole.
fn slice(writer: &mut Writer<'_>, node: usize, ranges: &[SliceRange]) -> Result<()> {
    let [input, output] = writer.ends(node);
    let NodeKind::Op(Op::Copy(Copy::Slice(of_two))) = &writer.two.nodes[node].kind else {
        return Err(unsupported("slice", "it is another op for another number of images"));
    };
    let extents = |graph: &crate::Graph| graph.shape(graph.nodes[node].inputs[0]).dims().to_vec();
    let (one, two) = (extents(writer.one), extents(writer.two));
    let is_whole = |range: &SliceRange, extent: usize| range.start == 0 && range.stop == extent && range.step == 1;
    let cut: Vec<usize> = (0..ranges.len())
        .filter(|&axis| !(is_whole(&ranges[axis], one[axis]) && is_whole(&of_two[axis], two[axis])))
        .collect();
    // A cut of the images themselves means something else for every number of them.
    if cut.iter().any(|&axis| ranges[axis] != of_two[axis] || one[axis] != two[axis]) {
        return Err(unsupported("slice", "a range depends on the number of images"));
    }
    let mut integers = |part: &str, of: &dyn Fn(usize) -> usize| {
        let values: Vec<i64> = cut.iter().map(|&axis| to_i64(of(axis))).collect();
        writer.integers(&format!("{output}.{part}"), &values)
    };
    let starts = integers("starts", &|axis| ranges[axis].start);
    let ends = integers("ends", &|axis| ranges[axis].stop);
    let axes = integers("axes", &|axis| axis);
    let steps = integers("steps", &|axis| ranges[axis].step);
    writer.node("Slice", &[&input, &starts, &ends, &axes, &steps], &output, vec![]);
    Ok(())
}

/// Zeros around.
pub(super) fn pad(writer: &mut Writer<'_>, node: usize, pad: &Pad) -> Result<()> {
    let [input, output] = writer.ends(node);
    let NodeKind::Op(Op::Pad(of_two)) = &writer.two.nodes[node].kind else {
        return Err(unsupported("pad", "it is another op for another number of images"));
    };
    let sides = |pad: &Pad| -> Vec<i64> {
        let before = pad.ranges.iter().map(|range| range.start);
        let after = pad.ranges.iter().zip(pad.shape.dims()).map(|(range, extent)| extent - range.stop);
        before.chain(after).map(to_i64).collect()
    };
    if pad.ranges.iter().any(|range| range.step != 1) || sides(pad) != sides(of_two) {
        return Err(unsupported("pad", "zeros between elements, or as many as there are images"));
    }
    let pads = writer.integers(&format!("{output}.pads"), &sides(pad));
    writer.node("Pad", &[&input, &pads], &output, vec![]);
    Ok(())
}

/// A sum, mean or maximum along axes; the mean of whole planes is an operator of its own.
pub(super) fn reduce(writer: &mut Writer<'_>, node: usize, reduce: &Reduce) {
    let [input, output] = writer.ends(node);
    let rank = writer.one.shape(writer.one.nodes[node].inputs[0]).rank();
    let is_planes = reduce.axes == [2, 3] && reduce.keep_dims && rank == 4;
    let op_type = match reduce.function {
        ReduceFunction::Mean if is_planes => {
            writer.node("GlobalAveragePool", &[&input], &output, vec![]);
            return;
        }
        ReduceFunction::Sum => "ReduceSum",
        ReduceFunction::Mean => "ReduceMean",
        ReduceFunction::Max => "ReduceMax",
    };
    let axes: Vec<i64> = reduce.axes.iter().copied().map(to_i64).collect();
    let axes = writer.integers(&format!("{output}.axes"), &axes);
    writer.node(op_type, &[&input, &axes], &output, vec![int("keepdims", i64::from(reduce.keep_dims))]);
}
