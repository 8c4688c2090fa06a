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

static BY_WORKGROUP: Shader = shader!(
    "matmul",
    false,
    "lib/matmul_scalars.wgsl",
    "lib/matmul_quads.wgsl",
    "lib/shared_rows.wgsl",
    "lib/share_workgroup.wgsl",
    "matmul.wgsl"
);
static BY_SUBGROUP: Shader = shader!(
    "matmul",
    true,
    "lib/matmul_scalars.wgsl",
    "lib/matmul_quads.wgsl",
    "lib/shared_rows.wgsl",
    "lib/share_subgroup.wgsl",
    "matmul.wgsl"
);
static GUARDED: Shader = shader!("matmul_guarded", false, "lib/matmul_scalars.wgsl", "matmul_guarded.wgsl");
static TILED: Shader = shader!("matmul_tiled", false, "lib/matmul_quads.wgsl", "matmul_tiled.wgsl");
static LARGE: Shader = shader!("matmul_large", false, "lib/matmul_quads.wgsl", "matmul_large.wgsl");
pub(crate) static SHADERS: &[&Shader] = &[&BY_WORKGROUP, &BY_SUBGROUP, &TILED, &LARGE, &GUARDED];

/// Rows and columns of the result that a workgroup of the register kernels computes.
const REGISTER_TILE: [usize; 2] = [8, 32];
/// Rows, and columns, of the result that a workgroup of the guarded kernel computes.
const GUARDED_EDGE: usize = 64;
/// Rows, and columns, of the result that a workgroup of the kernel of large products computes, and of an operand that one
/// turns around.
const LARGE_EDGE: usize = 128;
const TURN_EDGE: usize = 32;
/// Of K, what the vec4 kernels of real GPUs stage at a time, and the guarded one.
const STAGED_K: usize = 8;
const GUARDED_K: usize = 16;
/// Threads of the plain kernel, each of one element of the result.
const PLAIN_THREADS: u32 = 64;
/// Threads of the kernel that adds slices, each of one element of the result, and those of them that are on
/// their way at once.
const ADD_THREADS: u32 = 64;
const ADDED: usize = 8;
/// Tiles below which taller ones would leave threads of a software adapter idle.
const MIN_TALL_TILES: usize = 8;
/// Elements of the second operand from which on it is packed, and rows of the first.
const MIN_PACKED_ELEMS: usize = 128 * 1024;
const MIN_PACKED_ROWS: usize = 64;
/// Below this many multiplications a product is not worth a tile.
const MIN_TILED: usize = 512;
/// Large tiles from which on a GPU is full of them. WebGPU does not tell how many workgroups it has room for; this, and what
/// follows, is for the largest GPUs, of some 132 multiprocessors. Smaller ones lose little by smaller tiles and more slices.
const MIN_LARGE_TILES: usize = 128;
/// Columns of the result from which on it costs little to turn the first operand around, and rows to turn the second.
const MIN_TURNED: usize = 1024;
/// Small tiles that fill such a GPU, four on a multiprocessor; where there is not half as many, K is divided to have them.
const FULL_TILES: usize = 512;
/// The K from which on that pays for the second dispatch, the least of it in a slice, and the most slices.
const MIN_SLICED_K: usize = 256;
const MIN_SLICE_K: usize = 32;
const MAX_SLICES: usize = 32;

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
    Guarded(Slices),
    /// The same with vec4 loads and without tests in the loop; see [`Staging`].
    Staged(Staging),
    /// The same for operands that are stored with neighbours in k far apart, or are turned around to be so.
    Large,
}

/// Parts of K that are summed apart, where the result has too few tiles to fill a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slices {
    num: usize,
    /// Of K in a slice; the last may have less.
    k: usize,
}

impl Slices {
    /// All of it at once.
    fn one(k: usize) -> Slices {
        Slices { num: 1, k }
    }

    /// As many as fill a GPU with workgroups, each long enough to be worth the sum.
    fn of(k: usize, tiles: usize) -> Slices {
        if k < MIN_SLICED_K || tiles >= FULL_TILES / 2 {
            return Slices::one(k);
        }
        let wanted = (FULL_TILES / tiles).min(k / MIN_SLICE_K).min(MAX_SLICES);
        let slice_k = k.div_ceil(wanted).next_multiple_of(GUARDED_K);
        Slices { num: k.div_ceil(slice_k), k: slice_k }
    }
}

/// How the vec4 kernel of real GPUs goes about a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Staging {
    /// A quarter of a tile's rows and columns.
    quads: usize,
    slices: Slices,
}

impl Staging {
    /// Tiles of 128 × 128 where there are many; else of 64 × 64, in slices where these are few too.
    fn of(sizes: &Sizes) -> Staging {
        let (large, small) = (tiles(sizes, [128; 2]), tiles(sizes, [64; 2]));
        match large >= MIN_LARGE_TILES {
            true => Staging { quads: 32, slices: Slices::one(sizes.k) },
            false => Staging { quads: 16, slices: Slices::of(sizes.k, small) },
        }
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
            (false, false) if aligned && is_large(matmul, sizes) => Variant::Large,
            (false, false) if aligned && sizes.k.is_multiple_of(STAGED_K) => Variant::Staged(Staging::of(sizes)),
            (false, false) => Variant::Guarded(Slices::of(sizes.k, tiles(sizes, [GUARDED_EDGE; 2]))),
        }
    }
}

/// Whether the product is one for [`Variant::Large`], given that rows of what is stored are whole vec4s.
fn is_large(matmul: Matmul, sizes: &Sizes) -> bool {
    sizes.m.is_multiple_of(4)
        && sizes.k.is_multiple_of(STAGED_K)
        && tiles(sizes, [LARGE_EDGE; 2]) >= MIN_LARGE_TILES
        && (matmul.trans_a || sizes.n >= MIN_TURNED)
        && (!matmul.trans_b || sizes.m >= MIN_TURNED)
}

/// Tiles of so many rows and columns that the result has.
fn tiles(sizes: &Sizes, [rows, columns]: [usize; 2]) -> usize {
    sizes.batch * sizes.m.div_ceil(rows) * sizes.n.div_ceil(columns)
}

/// The product, and around it what packs its second operand or adds its slices.
pub fn dispatches(matmul: Matmul, sizes: &Sizes, has_bias: bool, gpu: GpuTraits) -> Dispatches {
    let product = Product { matmul, sizes, has_bias, gpu };
    match Variant::of(matmul, sizes, gpu) {
        Variant::Plain => {
            let work = grid(sizes.batch * sizes.m * sizes.n, PLAIN_THREADS).iterations(sizes.k);
            product.dispatch("plain", Binding::Input(1), work).into()
        }
        Variant::Registers => {
            let work = grid(tiles(sizes, REGISTER_TILE), 1).iterations(sizes.k.div_ceil(2) + REGISTER_TILE[0] / 4);
            product.in_registers_of_any_shape(work).into()
        }
        Variant::RegistersVec4(blocking) => product.in_registers(blocking),
        Variant::Guarded(slices) => product.guarded(slices),
        Variant::Staged(staging) => product.staged(staging),
        Variant::Large => product.large(),
    }
}

struct Product<'a> {
    matmul: Matmul,
    sizes: &'a Sizes,
    has_bias: bool,
    gpu: GpuTraits,
}

impl Product<'_> {
    fn params(&self, slices: Slices) -> Params {
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
            slice_k: to_u32(slices.k),
            num_slices: to_u32(slices.num),
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

    fn transposes(&self, dispatch: Dispatch) -> Dispatch {
        dispatch.constant("TRANS_A", u32::from(self.matmul.trans_a)).constant("TRANS_B", u32::from(self.matmul.trans_b))
    }

    fn epilogue(&self, dispatch: Dispatch) -> Dispatch {
        dispatch.constant("HAS_BIAS", u32::from(self.has_bias)).constant("ACTIVATION", self.matmul.activation.code())
    }

    fn dispatch(&self, entry_point: &'static str, b: Binding, work: Work) -> Dispatch {
        let bindings = [Binding::Input(0), b, self.bias(), Binding::Output(0)];
        let params = self.params(Slices::one(self.sizes.k));
        self.epilogue(self.transposes(Dispatch::new(self.shader(), entry_point, &params, bindings, work)))
    }

    /// One kernel for all operands, transposed or not, with a bias or not: what each takes to compile is more than what a
    /// software adapter computes with it in many steps.
    fn in_registers_of_any_shape(&self, work: Work) -> Dispatch {
        let bindings = [Binding::Input(0), Binding::Input(1), self.bias(), Binding::Output(0)];
        Dispatch::new(self.shader(), "registers", &self.params(Slices::one(self.sizes.k)), bindings, work)
            .constant("ACTIVATION", self.matmul.activation.code())
    }

    fn in_registers(&self, blocking: Blocking) -> Dispatches {
        let Sizes { batch, n, k, b_stride, .. } = *self.sizes;
        let tiles = tiles(self.sizes, [blocking.rows(), REGISTER_TILE[1]]);
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
        let pack = Dispatch::new(self.shader(), "pack_b", &self.params(Slices::one(k)), bindings, work)
            .constant("TRANS_B", u32::from(self.matmul.trans_b));
        Dispatches { list: vec![pack, product], scratch_elems: vec![4 * num_vec4] }
    }

    fn guarded(&self, slices: Slices) -> Dispatches {
        // A stage takes a turn of its own, and one for each of K.
        let iterations = slices.k.div_ceil(GUARDED_K) * (2 + GUARDED_K);
        let work = grid(slices.num * tiles(self.sizes, [GUARDED_EDGE; 2]), 1).iterations(iterations);
        self.in_slices(slices, |params, bindings| Dispatch::new(&GUARDED, "guarded", params, bindings, work))
    }

    fn staged(&self, staging: Staging) -> Dispatches {
        let Staging { quads, slices } = staging;
        let work = grid(slices.num * tiles(self.sizes, [4 * quads; 2]), 1).iterations(slices.k / STAGED_K);
        self.in_slices(slices, |params, bindings| {
            Dispatch::new(&TILED, "staged", params, bindings, work)
                .constant("QUADS", to_u32(quads))
                .constant("THREADS", to_u32(staging.threads()))
        })
    }

    fn large(&self) -> Dispatches {
        let Sizes { m, n, k, a_stride, b_stride, .. } = *self.sizes;
        let mut dispatches = Dispatches::default();
        let a = if self.matmul.trans_a { Binding::Input(0) } else { self.turn(0, m, a_stride, &mut dispatches) };
        let b = if self.matmul.trans_b { self.turn(1, n, b_stride, &mut dispatches) } else { Binding::Input(1) };
        let work = grid(tiles(self.sizes, [LARGE_EDGE; 2]), 1).iterations(k / STAGED_K);
        let bindings = [a, b, self.bias(), Binding::Output(0)];
        let product = Dispatch::new(&LARGE, "large", &self.params(Slices::one(k)), bindings, work);
        dispatches.list.push(self.epilogue(product));
        dispatches
    }

    /// Turns an input, matrices of `rows` by K, around in scratch memory, in which it then is.
    fn turn(&self, input: usize, rows: usize, stride: usize, dispatches: &mut Dispatches) -> Binding {
        let k = self.sizes.k;
        let batch = if stride == 0 { 1 } else { self.sizes.batch };
        let scratch = dispatches.scratch_elems.len();
        let params = Params { batch: to_u32(batch), m: to_u32(rows), ..self.params(Slices::one(k)) };
        let bindings = [Binding::Input(input), Binding::Unused, Binding::Unused, Binding::ScratchMut(scratch)];
        let work = grid(batch * rows.div_ceil(TURN_EDGE) * k.div_ceil(TURN_EDGE), 1).short_loops();
        dispatches.list.push(Dispatch::new(&LARGE, "turn", &params, bindings, work));
        dispatches.scratch_elems.push(batch * rows * k);
        Binding::Scratch(scratch)
    }

    /// The product by a kernel of real GPUs; where that sums slices of K, which have neither bias nor activation, their sum.
    fn in_slices(&self, slices: Slices, make: impl FnOnce(&Params, [Binding; 4]) -> Dispatch) -> Dispatches {
        let params = self.params(slices);
        let is_sliced = slices.num > 1;
        let out = if is_sliced { Binding::ScratchMut(0) } else { Binding::Output(0) };
        let product = self.transposes(make(&params, [Binding::Input(0), Binding::Input(1), self.bias(), out]));
        if !is_sliced {
            return self.epilogue(product).into();
        }
        let num_elems = self.sizes.batch * self.sizes.m * self.sizes.n;
        // Without a bias the slices are bound in its place.
        let bias = if self.has_bias { Binding::Input(2) } else { Binding::Scratch(0) };
        let bindings = [Binding::Scratch(0), Binding::Unused, bias, Binding::Output(0)];
        let work = grid(num_elems, ADD_THREADS).iterations(slices.num.div_ceil(ADDED));
        let add = self.epilogue(Dispatch::new(&GUARDED, "add_slices", &params, bindings, work));
        Dispatches { list: vec![product, add], scratch_elems: vec![slices.num * num_elems] }
    }
}
