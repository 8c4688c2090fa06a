//! Found: a conv2d, with an activation or not, whose result only a max_pool2d of 2×2 windows side by side reads. Becomes:
//! conv2d_pool. The largest of a window is chosen by the same rule. Each sum has the same terms in the same order, so that
//! results are equal bit for bit, but for a CPU's convolutions that Winograd's tiles serve with pooling and not without, or
//! the other way round.

use super::Uses;
use super::replace::{Replacement, replace_most};
use crate::graph::{Graph, NodeKind};
use crate::ops::Op;
use crate::ops::kernel::GpuTraits;
use crate::ops::nn::fused::{ConvPool, FusedKernel};

/// The graph with the rewrite applied for this kind of GPU or, without one, for a CPU.
pub(super) fn fuse(graph: &Graph, gpu: Option<GpuTraits>) -> Graph {
    let uses = Uses::of(graph);
    let mut found = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let NodeKind::Op(Op::MaxPool2d(pool)) = &node.kind else { continue };
        let conv_value = node.inputs[0];
        let conv_node = graph.node(conv_value);
        let NodeKind::Op(Op::Conv2d(conv)) = &conv_node.kind else { continue };
        let operands = [0, 1].map(|operand| graph.shape(conv_node.inputs[operand]));
        let Some(kernel) = ConvPool::new(*conv, pool, operands, gpu) else { continue };
        if uses.is_single(conv_value) {
            found.push(Replacement {
                kernel: FusedKernel::ConvPool(kernel),
                inputs: conv_node.inputs.clone(),
                outputs: vec![graph.value(index, 0), graph.value(index, 1)],
                nodes: vec![conv_value.node as usize, index],
            });
        }
    }
    replace_most(graph, found)
}

#[cfg(test)]
mod tests {
    use crate::graph::{Graph, Init};
    use crate::ops::cpu::isa;
    use crate::ops::{Conv2d, MaxPool2d};
    use crate::tensor::{Tensor, TensorType};
    use crate::{Device, Plan, Program, Result};

    const IMAGES: [usize; 4] = [5, 12, 12, 30];

    /// A convolution and its pooling, with the maxima and where they are.
    fn network(conv: Conv2d, has_relu: bool) -> Result<Graph> {
        let mut graph = Graph::new("network");
        let x = graph.input("x", TensorType::f32(IMAGES))?;
        let weight = graph.parameter("weight", [32, 12, 5, 3], Init::Uniform { bound: 0.5 })?;
        let bias = graph.parameter("bias", [32], Init::Uniform { bound: 0.5 })?;
        let mut y = graph.conv2d(x, weight, Some(bias), conv)?;
        if has_relu {
            y = graph.relu(y)?;
        }
        let (maxima, indices) = graph.max_pool2d_with_indices(y, MaxPool2d::new([2, 2]))?;
        graph.output("maxima", maxima)?;
        graph.output("indices", indices)?;
        Ok(graph)
    }

    fn run(plan: &Plan, x: &Tensor) -> Result<[Tensor; 2]> {
        let mut program = Program::compile(&Device::Cpu, vec![plan.clone()], 7)?;
        program.write("x", x)?;
        program.run_once("network")?;
        Ok([program.output("network", "maxima")?, program.output("network", "indices")?])
    }

    fn is_fused(plan: &Plan) -> bool {
        plan.steps.iter().any(|step| step.label().ends_with("conv2d_pool"))
    }

    #[test]
    fn maxima_are_those_of_the_two_ops_bit_for_bit() -> Result<()> {
        let x = Init::Uniform { bound: 1.0 }.tensor("x", &TensorType::f32(IMAGES), 3)?.expect("drawn");
        // A window with several NaN has the place of the last one.
        let mut values = x.to_f32_vec();
        (values[40], values[41], values[500]) = (f32::NAN, f32::NAN, f32::INFINITY);
        let with_nan = Tensor::f32(x.shape(), values)?;
        for padding in [[0, 0], [2, 1], [1, 2]] {
            for has_relu in [false, true] {
                let graph = network(Conv2d { padding, ..Conv2d::default() }, has_relu)?;
                let (plain, fused) = (Plan::unfused(&graph)?, Plan::new(&graph)?);
                // What computes least is another kernel where vectors are shorter.
                assert!(is_fused(&fused) || isa::lanes() < 16, "{fused}");
                for x in [&x, &with_nan] {
                    let ([maxima, indices], [want_maxima, want_indices]) = (run(&fused, x)?, run(&plain, x)?);
                    // All NaN as one, whatever their sign and payload.
                    let bits = |t: &Tensor| -> Vec<u32> {
                        t.to_f32_vec().iter().map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() }).collect()
                    };
                    assert_eq!(bits(&maxima), bits(&want_maxima), "{padding:?} {has_relu}");
                    assert_eq!(indices, want_indices, "{padding:?} {has_relu}");
                }
                assert!(run(&fused, &with_nan)?[0].to_f32_vec().iter().any(|x| x.is_nan()));
            }
        }
        Ok(())
    }

    /// The layers of LeNet-5, which other kernels serve than the one above: the first has few output channels, the
    /// second takes Winograd's tiles.
    #[test]
    fn few_channels_and_small_planes_are_fused_as_well() -> Result<()> {
        for [in_channels, out_channels, extent] in [[1, 6, 28], [6, 16, 12]] {
            let mut graph = Graph::new("network");
            let shape = [3, in_channels, extent, extent];
            let x = graph.input("x", TensorType::f32(shape))?;
            let weight = graph.parameter("weight", [out_channels, in_channels, 5, 5], Init::Uniform { bound: 0.5 })?;
            let y = graph.conv2d(x, weight, None, Conv2d::default())?;
            let y = graph.relu(y)?;
            let (maxima, indices) = graph.max_pool2d_with_indices(y, MaxPool2d::new([2, 2]))?;
            graph.output("maxima", maxima)?;
            graph.output("indices", indices)?;
            let (plain, fused) = (Plan::unfused(&graph)?, Plan::new(&graph)?);
            assert!(is_fused(&fused) || isa::lanes() < 16, "{fused}");
            let x = Init::Uniform { bound: 1.0 }.tensor("x", &TensorType::f32(shape), 3)?.expect("drawn");
            let ([maxima, indices], [want_maxima, want_indices]) = (run(&fused, &x)?, run(&plain, &x)?);
            // Sums of 25 or 150 products of at most a half in another order; no two cells are as close as they are off.
            for (got, want) in maxima.to_f32_vec().iter().zip(want_maxima.to_f32_vec()) {
                assert!((got - want).abs() < 1e-5, "{in_channels} channels: {got} for {want}");
            }
            assert_eq!(indices, want_indices, "{in_channels} channels");
        }
        Ok(())
    }

    #[test]
    fn a_stride_keeps_the_two_apart() -> Result<()> {
        assert!(!is_fused(&Plan::new(&network(Conv2d { stride: [2, 2], ..Conv2d::default() }, true)?)?));
        Ok(())
    }
}
