//! How a rank adds up its slice of a vector: in the tree of [`optim::tree`](crate::optim::tree), as the device adds that
//! summed the nodes.

use std::ops::Range;

use super::{Message, Region};
use crate::optim::tree::Climb;

/// Elements that are added up at a time: those of a few vectors stay in a core's first-level cache.
const CHUNK: usize = 1024;

/// How numbers are added: as on the device that adds up sums within a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addition {
    /// f32.
    F32,
    /// f32 on a device that takes subnormal numbers for zeros, as WebGPU allows.
    F32Flushed,
    /// f64.
    F64,
}

impl Addition {
    pub fn elem_bytes(self) -> usize {
        match self {
            Addition::F32 | Addition::F32Flushed => size_of::<f32>(),
            Addition::F64 => size_of::<f64>(),
        }
    }

    /// A sum in f32.
    pub fn add_f32(self, left: f32, right: f32) -> f32 {
        let flush = |x: f32| if self == Addition::F32Flushed && x.is_subnormal() { 0.0_f32.copysign(x) } else { x };
        flush(flush(left) + flush(right))
    }

    /// Adds up what lies in `memory`, in the order of `addends`.
    pub(super) fn add_up(self, addends: &[Addend], memory: &[Region], total: &mut [u8]) {
        match self {
            Addition::F32 => sum_in_tree::<f32>(addends, memory, total, |left, right| left + right),
            Addition::F64 => sum_in_tree::<f64>(addends, memory, total, |left, right| left + right),
            Addition::F32Flushed => sum_in_tree::<f32>(addends, memory, total, |left, right| self.add_f32(left, right)),
        }
    }
}

/// Whose sum of which node lies where, of a slice: in memory of the bucket's first transfer.
pub(super) struct Addend {
    pub rank: usize,
    pub climb: Climb,
    pub region: usize,
    pub bytes: Range<usize>,
}

impl Addend {
    /// Where it comes from.
    pub fn message(&self) -> Message {
        Message { rank: self.rank, region: self.region, bytes: self.bytes.clone() }
    }
}

/// Adds up what lies in `memory`: each addend climbs the tree from its node, as in `optim::tree`.
fn sum_in_tree<F: bytemuck::Pod>(addends: &[Addend], memory: &[Region], total: &mut [u8], add: impl Fn(F, F) -> F) {
    let total: &mut [F] = bytemuck::cast_slice_mut(total);
    let num_levels = addends.iter().flat_map(|addend| addend.climb.keep).max().map_or(0, |most| most + 1);
    let mut kept = vec![F::zeroed(); num_levels * CHUNK];
    for (chunk, total) in total.chunks_mut(CHUNK).enumerate() {
        for Addend { climb, region, bytes, .. } in addends {
            let of_node: &[F] = bytemuck::cast_slice(&memory[*region][bytes.clone()]);
            let of_node = &of_node[chunk * CHUNK..][..total.len()];
            let kept_at = |level: usize| level * CHUNK..level * CHUNK + total.len();
            // What arrives is the total after the last addend.
            let Some((&first, rest)) = climb.merges.split_first() else {
                match climb.keep {
                    Some(level) => kept[kept_at(level)].copy_from_slice(of_node),
                    None => total.copy_from_slice(of_node),
                }
                continue;
            };
            let pairs = kept[kept_at(first)].iter().zip(of_node);
            total.iter_mut().zip(pairs).for_each(|(sum, (&kept, &new))| *sum = add(kept, new));
            for &level in rest {
                let kept = &kept[level * CHUNK..][..total.len()];
                total.iter_mut().zip(kept).for_each(|(sum, &kept)| *sum = add(kept, *sum));
            }
            if let Some(level) = climb.keep {
                kept[level * CHUNK..][..total.len()].copy_from_slice(total);
            }
        }
    }
}
