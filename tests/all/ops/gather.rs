//! Batches against indexing by hand, and what is refused.

use wgrad::ops::{BatchSource, GatherBatch};
use wgrad::{DType, Device, Graph, Plan, Program, Result, StepTable, Tensor, TensorType};

use crate::cases;
use crate::harness::{check, gpu};

#[test]
fn gather() {
    check(cases::gather::cases());
}

/// A graph over two shards of 2 and 3 images of 2×1×3, with the order given.
fn two_shards(permutation_len: usize) -> Result<Graph> {
    let mut graph = Graph::new("batch");
    let first = graph.input("first", TensorType::u8([2, 2, 1, 3]))?;
    let second = graph.input("second", TensorType::u8([3, 2, 1, 3]))?;
    let labels = graph.input("labels", TensorType::u32([5]))?;
    let permutation = graph.input("permutation", TensorType::u32([permutation_len]))?;
    let start = graph.scalar("start", DType::U32)?;
    let source = BatchSource { images: &[first, second], labels, permutation, start, batch_size: 2 };
    let normalize = GatherBatch { mean: vec![0.5, 0.25], std: vec![0.5, 2.0] };
    let (images, labels) = graph.gather_batch(normalize, source)?;
    graph.output("images", images)?;
    graph.output("labels", labels)?;
    Ok(graph)
}

#[test]
fn batches_are_rows_of_the_data_set_in_the_permutations_order() -> Result<()> {
    let bytes: Vec<u8> = (0..30u8).map(|i| i.wrapping_mul(37)).collect();
    let permutation = [4u32, 1, 0, 2, 3];
    for device in [&Device::CpuF64, &Device::Cpu, gpu()] {
        let mut program = Program::compile(device, vec![Plan::new(&two_shards(5)?)?], 0)?;
        program.write("first", &Tensor::u8([2, 2, 1, 3], bytes[..12].to_vec())?)?;
        program.write("second", &Tensor::u8([3, 2, 1, 3], bytes[12..].to_vec())?)?;
        program.write("labels", &Tensor::u32([5], vec![10, 11, 12, 13, 14])?)?;
        program.write("permutation", &Tensor::u32([5], permutation.to_vec())?)?;
        for start in 0..4 {
            program.run("batch", &StepTable::new(1).constant("start", start as f64))?;
            let picked = &permutation[start..start + 2];
            let labels: Vec<f64> = picked.iter().map(|&image| f64::from(image) + 10.0).collect();
            assert_eq!(program.output("batch", "labels")?.to_f64_vec(), labels);
            let want = picked.iter().flat_map(|&image| &bytes[image as usize * 6..][..6]).enumerate().map(|(i, &b)| {
                let unit = f64::from(b) / 255.0;
                if i % 6 < 3 { (unit - 0.5) / 0.5 } else { (unit - 0.25) / 2.0 }
            });
            let got = program.output("batch", "images")?.to_f64_vec();
            assert_eq!(got.len(), 12);
            for (got, want) in got.into_iter().zip(want) {
                assert!((got - want).abs() < 1e-6, "{device}: {got} for {want}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_batch_larger_than_the_permutation_is_refused() {
    let error = two_shards(1).expect_err("one position for a batch of two");
    assert!(error.to_string().contains("at least the batch size 2"), "{error}");
}

#[test]
fn a_start_that_is_not_a_scalar_is_refused() -> Result<()> {
    let mut graph = Graph::new("batch");
    let images = graph.input("images", TensorType::u8([2, 1, 1, 1]))?;
    let labels = graph.input("labels", TensorType::u32([2]))?;
    let start = graph.input("start", TensorType::u32(wgrad::Shape::scalar()))?;
    let source = BatchSource { images: &[images], labels, permutation: labels, start, batch_size: 2 };
    let error = graph.gather_batch(GatherBatch::unit(1), source).expect_err("an input is no scalar");
    assert!(error.to_string().contains("Graph::scalar"), "{error}");
    Ok(())
}
