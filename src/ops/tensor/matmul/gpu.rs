//! The dispatches of a matrix product: which kernel of the shader takes it, and in what pieces.

use super::{Matmul, Sizes};
use crate::ops::kernel::{Binding, Dispatch, Dispatches, GpuTraits, Shader, grid, params, to_u32};

params! {
    struct Params {
        batch: u32,
        m: u32,
        n: u32,
        k: u32,
        a_batch_stride: u32,
        b_batch_stride: u32,
        pad_0: u32,
        pad_1: u32,
    }
}

macro_rules! shader {
    ($share:literal, $needs_subgroups:literal) => {
        Shader {
            name: "matmul",
            source: concat!(
                include_str!("../../../../shaders/lib/nan.wgsl"),
                include_str!("../../../../shaders/lib/math.wgsl"),
                include_str!("../../../../shaders/lib/activation.wgsl"),
                include_str!("../../../../shaders/lib/register_tile.wgsl"),
                include_str!("../../../../shaders/lib/shared_rows.wgsl"),
                include_str!($share),
                include_str!("../../../../shaders/matmul.wgsl"),
            ),
            params: Params::FIELDS,
            needs_subgroups: $needs_subgroups,
        }
    };
}

static BY_WORKGROUP: Shader = shader!("../../../../shaders/lib/share_workgroup.wgsl", false);
static BY_SUBGROUP: Shader = shader!("../../../../shaders/lib/share_subgroup.wgsl", true);
pub(crate) static SHADERS: &[&Shader] = &[&BY_WORKGROUP, &BY_SUBGROUP];

/// Rows and columns of the result that a workgroup of the register kernels computes.
const REGISTER_TILE: [usize; 2] = [8, 32];
/// Rows and columns of the result that a workgroup of the tiled kernel computes.
const SHARED_TILE: [usize; 2] = [64, 64];
/// Threads of the plain kernel, each of one element of the result.
const PLAIN_THREADS: u32 = 64;
/// Tiles below which taller ones would leave threads of a software adapter idle.
const MIN_TALL_TILES: usize = 8;
/// Elements of the second operand from which on it is packed, and rows of the first.
const MIN_PACKED_ELEMS: usize = 128 * 1024;
const MIN_PACKED_ROWS: usize = 64;
/// Below this many multiplications a product is not worth a tile.
const MIN_TILED: usize = 512;

/// The entry points of the shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    /// One element a thread: the baseline, and enough for the smallest products.
    Plain,
    /// A tile in registers, values exchanged among eight threads: for software adapters.
    Registers,
    /// The same with vec4 loads; see [`Blocking`].
    RegistersVec4(Blocking),
    /// A tile in workgroup memory: for real GPUs.
    Tiled,
}

/// How the vec4 kernel of software adapters goes about a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blocking {
    /// Sixteen rows a thread instead of eight: fewer loads for as many products.
    is_tall: bool,
    /// The second operand is packed first: where it is larger than a core's cache, and read often enough.
    is_packed: bool,
}

impl Blocking {
    fn of(sizes: &Sizes) -> Blocking {
        let columns = sizes.n.div_ceil(REGISTER_TILE[1]);
        let is_tall = sizes.batch * sizes.m.div_ceil(2 * REGISTER_TILE[0]) * columns >= MIN_TALL_TILES && sizes.m > 8;
        let is_packed = sizes.k * sizes.n >= MIN_PACKED_ELEMS && sizes.m >= MIN_PACKED_ROWS;
        Blocking { is_tall, is_packed }
    }

    fn rows(self) -> usize {
        REGISTER_TILE[0] * (1 + usize::from(self.is_tall))
    }
}

impl Variant {
    fn of(matmul: Matmul, sizes: &Sizes, gpu: GpuTraits) -> Variant {
        let aligned = [sizes.k, sizes.n, sizes.a_stride, sizes.b_stride].iter().all(|size| size % 4 == 0)
            && (!matmul.trans_a || sizes.m.is_multiple_of(4));
        match (sizes.m * sizes.n * sizes.k < MIN_TILED, gpu.is_software) {
            (true, _) => Variant::Plain,
            (false, true) if aligned => Variant::RegistersVec4(Blocking::of(sizes)),
            (false, true) => Variant::Registers,
            (false, false) => Variant::Tiled,
        }
    }
}

/// The product, and before it the packing of its second operand where that pays.
pub fn dispatches(matmul: Matmul, sizes: &Sizes, has_bias: bool, gpu: GpuTraits) -> Dispatches {
    let variant = Variant::of(matmul, sizes, gpu);
    let params = Params {
        batch: to_u32(sizes.batch),
        m: to_u32(sizes.m),
        n: to_u32(sizes.n),
        k: to_u32(sizes.k),
        a_batch_stride: to_u32(sizes.a_stride),
        b_batch_stride: to_u32(sizes.b_stride),
        pad_0: 0,
        pad_1: 0,
    };
    let tiles = |[rows, columns]: [usize; 2]| grid(sizes.batch * sizes.m.div_ceil(rows) * sizes.n.div_ceil(columns), 1);
    // The tiled kernel stages 16 of K with twice four loads a thread, then walks over them.
    let (entry_point, groups, iterations) = match variant {
        Variant::Plain => ("plain", grid(sizes.batch * sizes.m * sizes.n, PLAIN_THREADS), sizes.k),
        Variant::Registers => ("registers", tiles(REGISTER_TILE), sizes.k.div_ceil(4)),
        Variant::RegistersVec4(blocking) => {
            ("registers_vec4", tiles([blocking.rows(), REGISTER_TILE[1]]), sizes.k.div_ceil(4))
        }
        Variant::Tiled => ("tiled", tiles(SHARED_TILE), sizes.k.div_ceil(16) * (1 + 4 + 4 + 16)),
    };
    let shader = if gpu.has_shuffles { &BY_SUBGROUP } else { &BY_WORKGROUP };
    // Without a bias the first operand is bound instead, and not read.
    let bias = Binding::Input(if has_bias { 2 } else { 0 });
    let blocking = match variant {
        Variant::RegistersVec4(blocking) => blocking,
        _ => Blocking { is_tall: false, is_packed: false },
    };
    let b = if blocking.is_packed { Binding::Scratch(0) } else { Binding::Input(1) };
    let bindings = [Binding::Input(0), b, bias, Binding::Output(0)];
    let product = Dispatch::new(shader, entry_point, &params, bindings, groups.iterations(iterations))
        .constant("TRANS_A", u32::from(matmul.trans_a))
        .constant("TRANS_B", u32::from(matmul.trans_b))
        .constant("HAS_BIAS", u32::from(has_bias))
        .constant("TALL", u32::from(blocking.is_tall))
        .constant("PACKED", u32::from(blocking.is_packed))
        .constant("ACTIVATION", matmul.activation.code());
    if !blocking.is_packed {
        return product.into();
    }
    let num_matrices = if sizes.b_stride == 0 { 1 } else { sizes.batch };
    let num_vec4 = num_matrices * sizes.n.div_ceil(REGISTER_TILE[1]) * sizes.k * REGISTER_TILE[1] / 4;
    let bindings = [Binding::Unused, Binding::Input(1), Binding::Unused, Binding::ScratchMut(0)];
    let work = grid(num_vec4, PLAIN_THREADS).short_loops();
    let pack = Dispatch::new(shader, "pack_b", &params, bindings, work).constant("TRANS_B", u32::from(matmul.trans_b));
    Dispatches { list: vec![pack, product], scratch_elems: vec![4 * num_vec4] }
}
