//! The dispatches of a matrix product: which kernel of the shader takes it, and in what pieces.

use super::{Matmul, Sizes};
use crate::ops::kernel::{Binding, Dispatch, Dispatches, GpuTraits, Shader, Work, grid, params, to_u32};

params! {
    struct Params {
        batch: u32,
        m: u32,
        n: u32,
        k: u32,
        a_batch_stride: u32,
        b_batch_stride: u32,
        slice_k: u32,
        num_slices: u32,
        a_row: u32,
        a_column: u32,
        b_row: u32,
        b_column: u32,
        has_bias: u32,
    }
}

macro_rules! shader {
    ($name:literal, $needs_subgroups:literal, $($file:literal),*) => {
        Shader {
            name: $name,
            source: concat!(
                include_str!("../../../../shaders/lib/nan.wgsl"),
                include_str!("../../../../shaders/lib/math.wgsl"),
                include_str!("../../../../shaders/lib/activation.wgsl"),
                include_str!("../../../../shaders/lib/register_tile.wgsl"),
                include_str!("../../../../shaders/lib/matmul.wgsl"),
                $(include_str!(concat!("../../../../shaders/", $file))),*
            ),
            params: Params::FIELDS,
            needs_subgroups: $needs_subgroups,
        }
    };
}

static BY_WORKGROUP: Shader =
    shader!("matmul", false, "lib/shared_rows.wgsl", "lib/share_workgroup.wgsl", "matmul.wgsl");
static BY_SUBGROUP: Shader = shader!("matmul", true, "lib/shared_rows.wgsl", "lib/share_subgroup.wgsl", "matmul.wgsl");
static TILED: Shader = shader!("matmul_tiled", false, "matmul_tiled.wgsl");
pub(crate) static SHADERS: &[&Shader] = &[&BY_WORKGROUP, &BY_SUBGROUP, &TILED];

/// Rows and columns of the result that a workgroup of the register kernels computes.
const REGISTER_TILE: [usize; 2] = [8, 32];
/// Rows and columns of the result that a workgroup of the guarded kernel computes.
const GUARDED_TILE: [usize; 2] = [64, 64];
/// Threads of the plain kernel, each of one element of the result.
const PLAIN_THREADS: u32 = 64;
/// Threads of the kernel that adds slices, each of four elements of the result.
const ADD_THREADS: u32 = 64;
/// Tiles below which taller ones would leave threads of a software adapter idle.
const MIN_TALL_TILES: usize = 8;
/// Elements of the second operand from which on it is packed, and rows of the first.
const MIN_PACKED_ELEMS: usize = 128 * 1024;
const MIN_PACKED_ROWS: usize = 64;
/// Below this many multiplications a product is not worth a tile.
const MIN_TILED: usize = 512;
/// Large tiles from which on a GPU is full of them, and what is left over at the end costs little.
const MIN_LARGE_TILES: usize = 64;
/// Small tiles below which a GPU stands half empty, so that K is worth dividing, if there is as much of it.
const MAX_SLICED_TILES: usize = 64;
const MIN_SLICED_K: usize = 512;
/// The least of K in a slice, and the most slices, which one thread adds up with all of them on their way at once.
const MIN_SLICE_K: usize = 128;
const MAX_SLICES: usize = 8;

/// The kernels, by the shape of the product and the kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    /// One element a thread: the baseline, and enough for the smallest products.
    Plain,
    /// A tile in registers, values exchanged among eight threads: for software adapters.
    Registers,
    /// The same with vec4 loads; see [`Blocking`].
    RegistersVec4(Blocking),
    /// Tiles in workgroup memory, any shape: for real GPUs.
    Guarded,
    /// The same with vec4 loads and without tests in the loop; see [`Staging`].
    Staged(Staging),
}

/// How the vec4 kernel of real GPUs goes about a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Staging {
    /// A quarter of a tile's rows and columns.
    quads: usize,
    /// Parts of K that are summed apart: where the result has few tiles, and K is long.
    num_slices: usize,
    /// Of K in a slice; the last may have less.
    slice_k: usize,
}

impl Staging {
    /// | tiles of 128 × 128 | of 64 × 64 | K | |
    /// | --- | --- | --- | --- |
    /// | 64 and more | | | 128 × 128, 256 threads |
    /// | fewer | 64 and more | | 64 × 64, 64 threads |
    /// | fewer | fewer | below 512 | 64 × 64, 64 threads |
    /// | fewer | fewer | 512 and more | 64 × 64, in up to 8 slices of at least 128 |
    fn of(sizes: &Sizes) -> Staging {
        let tiles = |edge| sizes.batch * sizes.m.div_ceil(edge) * sizes.n.div_ceil(edge);
        let quads = if tiles(128) >= MIN_LARGE_TILES { 32 } else { 16 };
        let is_sliced = tiles(64) < MAX_SLICED_TILES && sizes.k >= MIN_SLICED_K;
        let wanted = if is_sliced { (sizes.k / MIN_SLICE_K).min(MAX_SLICES) } else { 1 };
        let slice_k = sizes.k.div_ceil(wanted).next_multiple_of(8);
        Staging { quads, num_slices: sizes.k.div_ceil(slice_k), slice_k }
    }

    fn threads(self) -> usize {
        self.quads * self.quads / 4
    }
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
            (false, false) if aligned && sizes.k.is_multiple_of(8) => Variant::Staged(Staging::of(sizes)),
            (false, false) => Variant::Guarded,
        }
    }
}

/// The product, and around it what packs its second operand or adds its slices.
pub fn dispatches(matmul: Matmul, sizes: &Sizes, has_bias: bool, gpu: GpuTraits) -> Dispatches {
    let product = Product { matmul, sizes, has_bias, gpu };
    let tiles = |[rows, columns]: [usize; 2]| sizes.batch * sizes.m.div_ceil(rows) * sizes.n.div_ceil(columns);
    match Variant::of(matmul, sizes, gpu) {
        Variant::Plain => {
            let work = grid(sizes.batch * sizes.m * sizes.n, PLAIN_THREADS).iterations(sizes.k);
            product.dispatch("plain", Binding::Input(1), work).into()
        }
        Variant::Registers => {
            let work = grid(tiles(REGISTER_TILE), 1).iterations(sizes.k.div_ceil(2) + REGISTER_TILE[0] / 4);
            product.in_registers_of_any_shape(work).into()
        }
        Variant::RegistersVec4(blocking) => product.in_registers(blocking),
        Variant::Guarded => product.guarded(tiles(GUARDED_TILE)).into(),
        Variant::Staged(staging) => product.staged(staging, tiles([4 * staging.quads; 2])),
    }
}

struct Product<'a> {
    matmul: Matmul,
    sizes: &'a Sizes,
    has_bias: bool,
    gpu: GpuTraits,
}

impl Product<'_> {
    fn params(&self, slice_k: usize, num_slices: usize) -> Params {
        let sizes = self.sizes;
        let strides = |is_transposed: bool, rows: usize, columns: usize| match is_transposed {
            false => [to_u32(columns), 1],
            true => [1, to_u32(rows)],
        };
        let [a_row, a_column] = strides(self.matmul.trans_a, sizes.m, sizes.k);
        let [b_row, b_column] = strides(self.matmul.trans_b, sizes.k, sizes.n);
        Params {
            batch: to_u32(sizes.batch),
            m: to_u32(sizes.m),
            n: to_u32(sizes.n),
            k: to_u32(sizes.k),
            a_batch_stride: to_u32(sizes.a_stride),
            b_batch_stride: to_u32(sizes.b_stride),
            slice_k: to_u32(slice_k),
            num_slices: to_u32(num_slices),
            a_row,
            a_column,
            b_row,
            b_column,
            has_bias: u32::from(self.has_bias),
        }
    }

    fn shader(&self) -> &'static Shader {
        if self.gpu.has_shuffles { &BY_SUBGROUP } else { &BY_WORKGROUP }
    }

    /// Without a bias the first operand is bound instead, and not read.
    fn bias(&self) -> Binding {
        Binding::Input(if self.has_bias { 2 } else { 0 })
    }

    fn constants(&self, dispatch: Dispatch) -> Dispatch {
        dispatch
            .constant("TRANS_A", u32::from(self.matmul.trans_a))
            .constant("TRANS_B", u32::from(self.matmul.trans_b))
            .constant("HAS_BIAS", u32::from(self.has_bias))
            .constant("ACTIVATION", self.matmul.activation.code())
    }

    fn dispatch(&self, entry_point: &'static str, b: Binding, work: Work) -> Dispatch {
        let bindings = [Binding::Input(0), b, self.bias(), Binding::Output(0)];
        self.constants(Dispatch::new(self.shader(), entry_point, &self.params(self.sizes.k, 1), bindings, work))
    }

    /// One kernel for all operands, transposed or not, with a bias or not: what each takes to compile is more than what a
    /// software adapter computes with it in many steps.
    fn in_registers_of_any_shape(&self, work: Work) -> Dispatch {
        let bindings = [Binding::Input(0), Binding::Input(1), self.bias(), Binding::Output(0)];
        Dispatch::new(self.shader(), "registers", &self.params(self.sizes.k, 1), bindings, work)
            .constant("ACTIVATION", self.matmul.activation.code())
    }

    fn in_registers(&self, blocking: Blocking) -> Dispatches {
        let Sizes { batch, m, n, k, b_stride, .. } = *self.sizes;
        let tiles = batch * m.div_ceil(blocking.rows()) * n.div_ceil(REGISTER_TILE[1]);
        let b = if blocking.is_packed { Binding::Scratch(0) } else { Binding::Input(1) };
        let product = self
            // Along K, and over the rows that are stored four at a time.
            .dispatch("registers_vec4", b, grid(tiles, 1).iterations(k.div_ceil(4) + blocking.rows() / 4))
            .constant("TALL", u32::from(blocking.is_tall))
            .constant("PACKED", u32::from(blocking.is_packed));
        if !blocking.is_packed {
            return product.into();
        }
        let num_matrices = if b_stride == 0 { 1 } else { batch };
        let num_vec4 = num_matrices * n.div_ceil(REGISTER_TILE[1]) * k * REGISTER_TILE[1] / 4;
        let bindings = [Binding::Unused, Binding::Input(1), Binding::Unused, Binding::ScratchMut(0)];
        let work = grid(num_vec4, PLAIN_THREADS).short_loops();
        let pack = Dispatch::new(self.shader(), "pack_b", &self.params(k, 1), bindings, work)
            .constant("TRANS_B", u32::from(self.matmul.trans_b));
        Dispatches { list: vec![pack, product], scratch_elems: vec![4 * num_vec4] }
    }

    fn guarded(&self, tiles: usize) -> Dispatch {
        let bindings = [Binding::Input(0), Binding::Input(1), self.bias(), Binding::Output(0)];
        // 16 of K are staged with twice four loads a thread, then walked over.
        let work = grid(tiles, 1).iterations(self.sizes.k.div_ceil(16) * (1 + 4 + 4 + 16));
        self.constants(Dispatch::new(&TILED, "guarded", &self.params(self.sizes.k, 1), bindings, work))
    }

    fn staged(&self, staging: Staging, tiles: usize) -> Dispatches {
        let Staging { quads, num_slices, slice_k } = staging;
        let is_sliced = num_slices > 1;
        let params = self.params(slice_k, num_slices);
        let out = if is_sliced { Binding::ScratchMut(0) } else { Binding::Output(0) };
        let bindings = [Binding::Input(0), Binding::Input(1), self.bias(), out];
        let work = grid(num_slices * tiles, 1).iterations(slice_k / 8);
        let product = self
            .constants(Dispatch::new(&TILED, "staged", &params, bindings, work))
            .constant("QUADS", to_u32(quads))
            .constant("THREADS", to_u32(staging.threads()))
            .constant("SLICED", u32::from(is_sliced));
        if !is_sliced {
            return product.into();
        }
        let num_elems = self.sizes.batch * self.sizes.m * self.sizes.n;
        // Without a bias the slices are bound in its place.
        let bias = if self.has_bias { Binding::Input(2) } else { Binding::Scratch(0) };
        let bindings = [Binding::Scratch(0), Binding::Unused, bias, Binding::Output(0)];
        let work = grid(num_elems / 4, ADD_THREADS).short_loops();
        let add = self.constants(Dispatch::new(&TILED, "add_slices", &params, bindings, work));
        Dispatches { list: vec![product, add], scratch_elems: vec![num_slices * num_elems] }
    }
}
