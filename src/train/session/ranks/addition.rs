//! How a device adds. Ranks take sums on through the tree on the host, and that has to give the bits that the device's own
//! kernels give in a process by itself. Addition is rounded alike everywhere, but a GPU may take subnormal numbers for
//! zeros.

use crate::dist::Addition;
use crate::exec::{Device, Program};
use crate::graph::Graph;
use crate::ops::update::accumulate::{Accumulate, SumStep};
use crate::tensor::{Tensor, TensorType};
use crate::{Error, Result};

/// Sums that tell the ways of adding apart: subnormal operands, a subnormal sum, rounding to even, signs of zero.
const SUMS: [(f32, f32); 8] = [
    (1e-40, 2e-40),
    (1e-40, -0.0),
    (-1e-40, -0.0),
    (1.2e-38, -1.1765e-38),
    (1.0, 5.960_464_5e-8),
    (16_777_216.0, 1.0),
    (0.1, 0.2),
    (1.5, -1.5),
];

/// How `device` adds.
///
/// # Errors
/// [`Error::Unsupported`] where it does in neither of the ways known here; [`Error::DeviceLost`].
pub(super) fn of(device: &Device) -> Result<Addition> {
    match device {
        Device::Cpu => return Ok(Addition::F32),
        Device::CpuF64 => return Ok(Addition::F64),
        Device::Gpu(_) | Device::Beside(_) => {}
    }
    let sums = sums_of(device)?;
    let is = |addition: &Addition| {
        SUMS.iter().zip(&sums).all(|(&(kept, new), sum)| addition.add_f32(kept, new).to_bits() == sum.to_bits())
    };
    [Addition::F32, Addition::F32Flushed].into_iter().find(is).ok_or_else(|| Error::Unsupported {
        op: "training by several ranks".to_owned(),
        device: device.info().name,
        reason: format!("it adds {SUMS:?} to {sums:?}, and not as a CPU does; train in one process, or on CPUs"),
    })
}

/// What the kernel that merges sums makes of [`SUMS`].
fn sums_of(device: &Device) -> Result<Vec<f32>> {
    let mut graph = Graph::new("merge");
    let ty = TensorType::f32([SUMS.len()]);
    let operands = [graph.input("kept", ty.clone())?, graph.input("new", ty)?];
    graph.push(Accumulate { num_params: 1, step: SumStep::Merge, runs: vec![1] }, &operands)?;
    let mut program = Program::from_graphs(device, [&graph], 0)?;
    program.write("kept", &Tensor::f32([SUMS.len()], SUMS.map(|(kept, _)| kept).to_vec())?)?;
    program.write("new", &Tensor::f32([SUMS.len()], SUMS.map(|(_, new)| new).to_vec())?)?;
    program.run_once("merge")?;
    Ok(program.read("new")?.to_f32_vec())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;

    #[test]
    fn the_sums_tell_the_ways_of_adding_apart() {
        let bits = |addition: Addition| SUMS.map(|(kept, new)| addition.add_f32(kept, new).to_bits());
        assert_ne!(bits(Addition::F32), bits(Addition::F32Flushed));
        assert_eq!(
            sums_of(&Device::Cpu).unwrap().iter().map(|sum| sum.to_bits()).collect::<Vec<_>>(),
            bits(Addition::F32)
        );
        let wanted = std::env::var("WGRAD_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
        let gpu = Device::select(&wanted).expect("tests need an adapter; run tests/run.sh");
        assert!(matches!(of(&gpu).unwrap(), Addition::F32 | Addition::F32Flushed));
    }
}
