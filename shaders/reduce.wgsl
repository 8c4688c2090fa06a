// Sums and maxima over any axes: y[o] = scale · reduce over r of x[base(o) + offset(r)].
//
// Kept and reduced axes of x are two walks, each with its own extents and strides. The order of combination depends
// on the shapes alone.
//
//   whole  one invocation reduces one output; for many outputs or short reductions
//   slice  one workgroup reduces one slice of one output: each invocation every WG-th element, then a tree;
//          partials are (num_slices, num_outputs), reduced by a second dispatch
//
// Needs lib/nan.wgsl.

struct Params {
    kept_shape: array<vec4<u32>, 2>,
    kept_strides: array<vec4<u32>, 2>,
    reduced_shape: array<vec4<u32>, 2>,
    reduced_strides: array<vec4<u32>, 2>,
    kept_rank: u32,
    reduced_rank: u32,
    num_outputs: u32,
    num_reduced: u32,
    slice_elems: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

override WG: u32 = 64;
// 0 sums, 1 takes the maximum.
override FUNCTION: u32 = 0;
// Whether `whole` has eight loads on their way at a time. A software adapter gains nothing, and takes three times as long to
// compile it.
override AHEAD: u32 = 1;

var<workgroup> partial: array<f32, WG>;

fn start() -> f32 {
    return select(0.0, -infinity(), FUNCTION == 1u);
}

fn combine(a: f32, b: f32) -> f32 {
    if FUNCTION == 1u {
        return larger(a, b);
    }
    return a + b;
}

fn kept_offset(output: u32) -> u32 {
    var rest = output;
    var offset = 0u;
    for (var i = params.kept_rank; i > 0u; i -= 1u) {
        let axis = i - 1u;
        let extent = params.kept_shape[axis / 4u][axis % 4u];
        offset += (rest % extent) * params.kept_strides[axis / 4u][axis % 4u];
        rest /= extent;
    }
    return offset;
}

fn reduced_offset(index: u32) -> u32 {
    var rest = index;
    var offset = 0u;
    for (var i = params.reduced_rank; i > 0u; i -= 1u) {
        let axis = i - 1u;
        let extent = params.reduced_shape[axis / 4u][axis % 4u];
        offset += (rest % extent) * params.reduced_strides[axis / 4u][axis % 4u];
        rest /= extent;
    }
    return offset;
}

// Of four elements from `index` on. Dividing by extents takes longer than the loads: along one axis there is nothing to divide.
fn four_offsets(index: u32) -> vec4<u32> {
    if params.reduced_rank == 1u {
        return (index + vec4<u32>(0u, 1u, 2u, 3u)) * params.reduced_strides[0].x;
    }
    return vec4<u32>(
        reduced_offset(index), reduced_offset(index + 1u), reduced_offset(index + 2u), reduced_offset(index + 3u));
}

@compute @workgroup_size(WG)
fn whole(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let output = flat_index(id, groups.x * WG);
    if output >= params.num_outputs {
        return;
    }
    let base = kept_offset(output);
    var result = start();
    var index = 0u;
    // Eight on their way at a time, combined in order.
    for (; AHEAD == 1u && index + 8u <= params.num_reduced; index += 8u) {
        let near = base + four_offsets(index);
        let far = base + four_offsets(index + 4u);
        let x_0 = x[near.x];
        let x_1 = x[near.y];
        let x_2 = x[near.z];
        let x_3 = x[near.w];
        let x_4 = x[far.x];
        let x_5 = x[far.y];
        let x_6 = x[far.z];
        let x_7 = x[far.w];
        result = combine(combine(combine(combine(result, x_0), x_1), x_2), x_3);
        result = combine(combine(combine(combine(result, x_4), x_5), x_6), x_7);
    }
    for (; index < params.num_reduced; index += 1u) {
        result = combine(result, x[base + reduced_offset(index)]);
    }
    y[output] = result * params.scale;
}

@compute @workgroup_size(WG)
fn slice(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let unit = workgroup_index(group, groups);
    let output = unit % params.num_outputs;
    let first = (unit / params.num_outputs) * params.slice_elems;
    let last = min(first + params.slice_elems, params.num_reduced);
    let base = kept_offset(output);
    var result = start();
    for (var index = first + lane; index < last; index += WG) {
        result = combine(result, x[base + reduced_offset(index)]);
    }
    partial[lane] = result;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            partial[lane] = combine(partial[lane], partial[lane + half]);
        }
    }
    // A grid folded to two dimensions can have a few workgroups too many.
    if lane == 0u && first < params.num_reduced {
        y[unit] = partial[0] * params.scale;
    }
}
