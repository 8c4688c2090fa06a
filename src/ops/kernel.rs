//! What an op says about the GPU, as plain data: which kernel, which buffers, which grid. Only `exec/gpu` knows wgpu.
//!
//! **Unstable**: public for tools that inspect kernels, such as `lenet plan --wgsl`; it may change in any release. A
//! kernel of your own is a [`CustomOp`](super::CustomOp).

use std::borrow::Cow;

use crate::TensorType;

/// One WGSL module and the layout of its `Params`, for the compiler and for the tests that reflect over every shader.
#[derive(Debug)]
pub struct Shader {
    /// The op, and the file `shaders/<name>.wgsl`.
    pub name: &'static str,
    /// The WGSL text: the op's file and the `shaders/lib` pieces it needs.
    pub source: &'static str,
    /// The fields of the Rust `Params`, in order, as (name, WGSL type).
    pub params: &'static [(&'static str, &'static str)],
    /// Whether it uses subgroup operations, which not every device has.
    pub needs_subgroups: bool,
}

/// An entry point of a shader with its `override` constants settled: what one pipeline is made of.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The op's name.
    pub name: Cow<'static, str>,
    /// The WGSL text of the module; owned where a user wrote it.
    pub source: Cow<'static, str>,
    /// The entry point.
    pub entry_point: Cow<'static, str>,
    /// Values of `override` constants.
    pub constants: Vec<(&'static str, f64)>,
    /// Whether it uses subgroup operations.
    pub needs_subgroups: bool,
}

/// A module as the standard has it. Where subgroups are used that begins with a line which naga, and so wgpu outside of
/// browsers, does not take yet.
fn standard_wgsl(source: &str, needs_subgroups: bool) -> String {
    if needs_subgroups { format!("enable subgroups;\n\n{source}") } else { source.to_owned() }
}

impl Shader {
    /// The module's text as the standard has it, for compilers other than naga.
    pub fn standard_wgsl(&self) -> String {
        standard_wgsl(self.source, self.needs_subgroups)
    }
}

impl Kernel {
    /// An entry point of one of our own shaders.
    pub fn new(shader: &'static Shader, entry_point: &'static str) -> Self {
        Kernel {
            name: shader.name.into(),
            source: shader.source.into(),
            entry_point: entry_point.into(),
            constants: Vec::new(),
            needs_subgroups: shader.needs_subgroups,
        }
    }

    /// An entry point of a module that a user wrote.
    pub fn custom(name: &str, source: Cow<'static, str>, entry_point: Cow<'static, str>) -> Self {
        let source = Cow::Owned(source.into_owned());
        let (name, constants) = (Cow::Owned(name.to_owned()), Vec::new());
        Kernel { name, source, entry_point, constants, needs_subgroups: false }
    }

    /// Whether a user wrote the module, so that nothing is known of it.
    pub fn is_custom(&self) -> bool {
        matches!(self.source, Cow::Owned(_))
    }

    /// The module's text as the standard has it, opening with a comment that says which entry point this is and what
    /// its `override` constants are set to.
    pub fn standard_wgsl(&self) -> String {
        let values: Vec<String> = self.constants.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let constants = if values.is_empty() { "none".to_owned() } else { values.join(", ") };
        let head = format!("// {}; override constants: {constants}\n\n", self.label());
        head + &standard_wgsl(&self.source, self.needs_subgroups)
    }

    /// The label used in pipelines, errors, profiles and benches: `op.entry_point`.
    pub fn label(&self) -> String {
        format!("{}.{}", self.name, self.entry_point)
    }
}

/// What one `@binding` of a kernel refers to. Binding 0 is always `params`; these follow from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// A number that the entry point does not use.
    Unused,
    /// An input of the op, `var<storage, read>`.
    Input(usize),
    /// A scalar input of the op, `var<uniform>`: it may change from step to step without a host round-trip.
    Scalar(usize),
    /// An input that the op updates in place, `var<storage, read_write>`.
    Updated(usize),
    /// An output of the op, `var<storage, read_write>`.
    Output(usize),
    /// A scratch buffer of this op, `var<storage, read>`.
    Scratch(usize),
    /// A scratch buffer of this op, `var<storage, read_write>`.
    ScratchMut(usize),
    /// A whole pack of inputs (see `Operation::packs`), `var<storage, read>`.
    Pack(usize),
    /// A whole pack of inputs that the op updates in place, `var<storage, read_write>`.
    PackUpdated(usize),
}

/// One dispatch of a kernel.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// What runs.
    pub kernel: Kernel,
    /// The bytes of its `Params`.
    pub params: Vec<u8>,
    /// What its bindings are, from `@binding(1)` on.
    pub bindings: Vec<Binding>,
    /// Workgroups in x, y and z.
    pub workgroups: [u32; 3],
    /// The most iterations that all loops of one invocation take together, inner ones multiplied by outer ones; `None`
    /// for a kernel whose loops are short whatever its operands, and for one that a user wrote. llvmpipe silently ends
    /// loops that take more than [`GpuTraits::max_loop_iterations`], so beyond it the op is refused.
    pub loop_iterations: Option<usize>,
}

impl Dispatch {
    /// A dispatch of `entry_point` of `shader`.
    pub fn new<P: bytemuck::NoUninit>(
        shader: &'static Shader,
        entry_point: &'static str,
        params: &P,
        bindings: impl Into<Vec<Binding>>,
        work: Work,
    ) -> Self {
        Dispatch {
            kernel: Kernel::new(shader, entry_point),
            params: bytemuck::bytes_of(params).to_vec(),
            bindings: bindings.into(),
            workgroups: work.grid.0,
            loop_iterations: work.loop_iterations,
        }
    }

    /// The same dispatch with an `override` constant settled.
    pub fn constant(mut self, name: &'static str, value: impl Into<f64>) -> Self {
        self.kernel.constants.push((name, value.into()));
        self
    }
}

/// Workgroups in x, y and z. [`Dispatch::new`] also wants to know how long the loops of the kernel are: see [`Work`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid(pub [u32; 3]);

impl Grid {
    /// One workgroup.
    pub const ONE: Grid = Grid([1, 1, 1]);

    /// With kernels whose loops take at most this many iterations in one invocation, all of them together. The
    /// evaluation of the condition that ends an inner loop counts as well: n iterations with m inner ones each are
    /// n·(2 + m). For every kernel with a loop that grows with a shape.
    pub fn iterations(self, iterations: usize) -> Work {
        Work { grid: self, loop_iterations: Some(iterations) }
    }

    /// With kernels that have no loop, or loops whose lengths are constants or numbers of dimensions. A test searches
    /// the shaders for loops that this is wrong of.
    pub fn short_loops(self) -> Work {
        Work { grid: self, loop_iterations: None }
    }
}

/// How much a dispatch does: its workgroups, and the iterations of the loops of one invocation, which no op can leave
/// out, since a driver that silently ends long loops (llvmpipe) would give a wrong result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    grid: Grid,
    loop_iterations: Option<usize>,
}

/// All dispatches of one op on one device, in order, and the scratch memory between them.
#[derive(Clone, Debug, Default)]
pub struct Dispatches {
    /// The dispatches, in order.
    pub list: Vec<Dispatch>,
    /// Elements (of 4 bytes) of each scratch buffer.
    pub scratch_elems: Vec<usize>,
}

impl From<Dispatch> for Dispatches {
    fn from(dispatch: Dispatch) -> Self {
        Dispatches { list: vec![dispatch], scratch_elems: Vec::new() }
    }
}

impl From<Vec<Dispatch>> for Dispatches {
    fn from(list: Vec<Dispatch>) -> Self {
        Dispatches { list, scratch_elems: Vec::new() }
    }
}

/// What an op may ask of the device when it chooses its kernels. This is the one place where devices differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuTraits {
    /// A software adapter (llvmpipe, SwiftShader): "workgroup memory" is plain memory and barriers only cost, so
    /// register tiles with vec4 loads win there; a real GPU wants shared-memory tiles.
    pub is_software: bool,
    /// Whether eight neighbouring invocations can exchange values by shuffles: subgroups of at least eight, in which
    /// invocation i is lane i modulo the size. Vulkan does not promise the latter; it holds on llvmpipe, where shuffles
    /// are what makes kernels fast, and is not relied on elsewhere.
    pub has_shuffles: bool,
    /// The most iterations that the loops of one invocation may take together.
    pub max_loop_iterations: usize,
}

impl GpuTraits {
    /// A real GPU without optional features.
    pub const GPU: GpuTraits = GpuTraits { is_software: false, has_shuffles: false, max_loop_iterations: usize::MAX };
    /// A software adapter that exchanges values by shuffles: llvmpipe.
    pub const SOFTWARE: GpuTraits =
        GpuTraits { is_software: true, has_shuffles: true, max_loop_iterations: MAX_SOFTWARE_LOOP_ITERATIONS };
}

/// The most iterations in one invocation that a software adapter is trusted with.
///
/// llvmpipe silently ends every loop once the conditions of all of them were evaluated 65,535 times
/// (`LP_MAX_TGSI_LOOP_ITERATIONS` in Mesa); what is left is for loops of constant length, and for the evaluation that
/// ends a loop. No other software adapter gets far beyond in reasonable time.
pub const MAX_SOFTWARE_LOOP_ITERATIONS: usize = 65_000;

/// What an op is told when it describes its dispatches.
pub struct DispatchContext<'a> {
    /// Types of the inputs.
    pub inputs: &'a [TensorType],
    /// Types of the outputs.
    pub outputs: &'a [TensorType],
    /// What kind of device this is.
    pub gpu: GpuTraits,
}

/// The largest number of workgroups in one dimension that every WebGPU device takes.
pub const MAX_WORKGROUPS: u32 = 65_535;

/// A grid of at least `num_invocations` invocations in workgroups of `workgroup_size`, folded to two dimensions where
/// one does not reach. Kernels recover the flat index with `flat_index` of `shaders/lib/index.wgsl`, or
/// `workgroup_index` where a workgroup is the unit, and guard against the ragged end.
pub fn grid(num_invocations: usize, workgroup_size: u32) -> Grid {
    let groups = num_invocations.div_ceil(workgroup_size as usize).max(1);
    if groups <= MAX_WORKGROUPS as usize {
        return Grid([to_u32(groups), 1, 1]);
    }
    let rows = groups.div_ceil(MAX_WORKGROUPS as usize);
    Grid([to_u32(groups.div_ceil(rows)), to_u32(rows), 1])
}

/// A size as WGSL's u32. [`Plan::for_gpu`](crate::Plan::for_gpu) refuses tensors of more elements.
pub fn to_u32(size: usize) -> u32 {
    u32::try_from(size).expect("a plan for a GPU has no tensor of 2^32 elements")
}

/// Work done by an op, from which benches and profiles derive GFLOP/s and GB/s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations; a multiply-add counts as 2.
    pub flops: u64,
    /// Bytes that must be read and written at least once.
    pub bytes: u64,
}

/// Declares a kernel's `Params` together with the list of its fields, which a test compares with the WGSL struct.
macro_rules! params {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($field:ident: $ty:tt),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        $vis struct $name { $($vis $field: params!(@rust $ty)),* }
        impl $name {
            $vis const FIELDS: &'static [(&'static str, &'static str)] = &[$((stringify!($field), stringify!($ty))),*];
        }
    };
    (@rust u32) => { u32 };
    (@rust i32) => { i32 };
    (@rust f32) => { f32 };
    // Eight extents or strides: uniform arrays need elements of 16 bytes.
    (@rust dims) => { [u32; 8] };
    (@rust quad) => { [u32; 4] };
}
pub(crate) use params;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_reach_every_invocation_within_the_limit_of_a_dimension() {
        for n in [0, 1, 63, 64, 65, 65_535 * 64, 65_535 * 64 + 1, 16_776_960, 16_777_217, 500_000_000] {
            let Grid([x, y, z]) = grid(n, 64);
            assert!(x <= MAX_WORKGROUPS && y <= MAX_WORKGROUPS && z == 1);
            assert!(x as usize * y as usize * 64 >= n, "{n} invocations in {x} by {y} groups");
        }
    }
}
