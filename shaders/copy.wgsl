// A strided read: y[i] = x[offset + Σ position_k(i) · stride_k], which is permuting, slicing with steps and repeating
// along axes. One invocation copies one element of y.

struct Params {
    shape: array<vec4<u32>, 2>,

    strides: array<vec4<u32>, 2>,
    rank: u32,
    num_elems: u32,
    offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

override WG: u32 = 64;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index >= params.num_elems {
        return;
    }
    var rest = index;
    var offset = params.offset;
    for (var i = params.rank; i > 0u; i -= 1u) {
        let axis = i - 1u;
        let extent = params.shape[axis / 4u][axis % 4u];
        offset += (rest % extent) * params.strides[axis / 4u][axis % 4u];
        rest /= extent;
    }
    y[index] = x[offset];
}
