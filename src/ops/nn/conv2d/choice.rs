//! Which kernel a real GPU takes for a convolution or its gradient by the input, where it is not one of `gpu.rs`.

use super::Geometry;
use super::added::Added;
use super::depthwise::Depthwise;
use super::gemm::Gemm;
use super::staged::{Direction, Staged};
use super::strided::Strided;
use super::tiles::Tiles;
use crate::ops::kernel::{Dispatches, GpuTraits};
use crate::ops::nn::activation::Activation;

/// The kernel for a shape.
pub enum Choice {
    Depthwise(Depthwise),
    Gemm(Gemm),
    Strided(Strided),
    Staged(Staged),
}

impl Choice {
    pub fn of(geometry: &Geometry, direction: Direction, gpu: GpuTraits) -> Option<Choice> {
        let strided = || match direction {
            Direction::Transposed => Strided::of(geometry, gpu).map(Choice::Strided),
            Direction::Forward { .. } => None,
        };
        Depthwise::of(geometry, direction, gpu)
            .map(Choice::Depthwise)
            .or_else(|| Gemm::of(geometry, direction, gpu).map(Choice::Gemm))
            .or_else(strided)
            .or_else(|| Staged::of(geometry, direction, gpu).map(Choice::Staged))
    }

    /// Operand 2 of a gradient is what is added to it.
    pub fn dispatches(&self, geometry: &Geometry, added: Option<Added>) -> Dispatches {
        match self {
            Choice::Depthwise(kernel) => kernel.dispatches(geometry, added),
            Choice::Gemm(kernel) => kernel.dispatches(geometry, added),
            Choice::Strided(kernel) => kernel.dispatches(geometry, added),
            Choice::Staged(kernel) => kernel.dispatches(geometry, added),
        }
    }
}

/// A convolution that stores the moments of its tiles.
pub enum Tiled {
    Gemm(Gemm),
    Staged(Staged),
}

impl Tiled {
    /// The kernel that is chosen, if it can.
    pub fn of(geometry: &Geometry, has_bias: bool, gpu: GpuTraits) -> Option<Tiled> {
        match Choice::of(geometry, Direction::Forward { has_bias }, gpu)? {
            Choice::Gemm(gemm) => Some(Tiled::Gemm(gemm)),
            Choice::Staged(staged) => staged.with_moments().map(Tiled::Staged),
            Choice::Depthwise(_) | Choice::Strided(_) => None,
        }
    }

    pub fn tiles(&self) -> Tiles {
        match self {
            Tiled::Gemm(gemm) => gemm.tiles(),
            Tiled::Staged(staged) => staged.tiles(),
        }
    }

    pub fn dispatches(&self, geometry: &Geometry) -> Dispatches {
        match self {
            Tiled::Gemm(gemm) => gemm.dispatches_with_moments(geometry),
            Tiled::Staged(staged) => staged.dispatches_with_moments(geometry),
        }
    }
}

/// A gradient by the input that sums over its tiles for the gradient of a batch normalization.
pub enum Summing {
    Gemm(Gemm),
    Strided(Strided),
    Staged(Staged),
}

impl Summing {
    /// The kernel that is chosen, if it can.
    pub fn of(geometry: &Geometry, gpu: GpuTraits) -> Option<Summing> {
        match Choice::of(geometry, Direction::Transposed, gpu)? {
            Choice::Gemm(gemm) => Some(Summing::Gemm(gemm)),
            Choice::Strided(strided) => strided.with_sums(geometry).map(Summing::Strided),
            Choice::Staged(staged) => staged.with_moments().map(Summing::Staged),
            Choice::Depthwise(_) => None,
        }
    }

    pub fn tiles(&self, geometry: &Geometry) -> Tiles {
        match self {
            Summing::Gemm(gemm) => gemm.tiles(),
            Summing::Strided(strided) => strided.tiles(geometry),
            Summing::Staged(staged) => staged.tiles(),
        }
    }

    pub fn dispatches(&self, geometry: &Geometry, added: Option<Added>, activation: Activation) -> Dispatches {
        match self {
            Summing::Gemm(gemm) => gemm.dispatches_with_sums(geometry, added, activation),
            Summing::Strided(strided) => strided.dispatches_with_sums(geometry, added, activation),
            Summing::Staged(staged) => staged.dispatches_with_sums(geometry, added, activation),
        }
    }
}
