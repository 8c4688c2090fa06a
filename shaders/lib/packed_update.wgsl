// The walk of an elementwise optimizer over all parameters at once. The optimizer's own file (shaders/optim/) declares
// `struct Params`, whose first field is num_vec4, the numbers of a step from binding 6 on, and the rule
//
//   fn update(before: Element) -> Element
//
// grad, param and the states are packs: all tensors side by side at the same offsets, padded to whole vec4s. A state
// that the optimizer's settings do not need is neither read nor written. One invocation updates one vec4.
//
// Needs lib/index.wgsl; rules may use lib/nan4.wgsl.

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> param: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> state_0: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> state_1: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> state_2: array<vec4<f32>>;

override WG: u32 = 64;
// 1 where the optimizer keeps the state.
override HAS_STATE_0: u32 = 0;
override HAS_STATE_1: u32 = 0;
override HAS_STATE_2: u32 = 0;

// Four neighbours in each role. The gradient is only read.
struct Element {
    param: vec4<f32>,
    grad: vec4<f32>,
    state_0: vec4<f32>,
    state_1: vec4<f32>,
    state_2: vec4<f32>,
}

// The gradient with weight decay added to it (an L2 penalty). Skipped if it is 0, because 0 times infinity is NaN.
fn decayed(element: Element, weight_decay: f32) -> vec4<f32> {
    return select(element.grad + weight_decay * element.param, element.grad, weight_decay == 0.0);
}

// The parameters and states of a vec4, under their gradient.
fn load(index: u32, gradient: vec4<f32>) -> Element {
    var element = Element();
    element.param = param[index];
    element.grad = gradient;
    if HAS_STATE_0 == 1u {
        element.state_0 = state_0[index];
    }
    if HAS_STATE_1 == 1u {
        element.state_1 = state_1[index];
    }
    if HAS_STATE_2 == 1u {
        element.state_2 = state_2[index];
    }
    return element;
}

fn store(index: u32, after: Element) {
    param[index] = after.param;
    if HAS_STATE_0 == 1u {
        state_0[index] = after.state_0;
    }
    if HAS_STATE_1 == 1u {
        state_1[index] = after.state_1;
    }
    if HAS_STATE_2 == 1u {
        state_2[index] = after.state_2;
    }
}

@compute @workgroup_size(WG)
fn step(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < params.num_vec4 {
        store(index, update(load(index, grad[index])));
    }
}

// ---- gradients as sums over slices, which are added up here, slice by slice

// The tensors of partial gradients, a pack.
@group(0) @binding(12) var<storage, read> partials: array<vec4<f32>>;
// For each block of BLOCK vec4s of param: the first vec4 of its gradient, in grad or in partials; the number of slices, 0
// for a gradient in grad; vec4s from one slice to the next; vec4s that the block has.
@group(0) @binding(13) var<storage, read> sources: array<vec4<u32>>;

const BLOCK: u32 = 16u;
const SLICES_AHEAD: u32 = 32u;

struct EightSlices {
    s_0: vec4<f32>,
    s_1: vec4<f32>,
    s_2: vec4<f32>,
    s_3: vec4<f32>,
    s_4: vec4<f32>,
    s_5: vec4<f32>,
    s_6: vec4<f32>,
    s_7: vec4<f32>,
}

// The vec4 at `first` in the first slice, of the slice `slice` and seven more; past the last one that one's.
fn eight_slices(first: u32, slice: u32, last: u32, stride: u32) -> EightSlices {
    return EightSlices(
        partials[first + min(slice, last) * stride], partials[first + min(slice + 1u, last) * stride],
        partials[first + min(slice + 2u, last) * stride], partials[first + min(slice + 3u, last) * stride],
        partials[first + min(slice + 4u, last) * stride], partials[first + min(slice + 5u, last) * stride],
        partials[first + min(slice + 6u, last) * stride], partials[first + min(slice + 7u, last) * stride],
    );
}

// Adds the first `count` of eight, in order.
fn add_slices(sum: vec4<f32>, eight: EightSlices, count: u32) -> vec4<f32> {
    var result = sum;
    result = select(result, result + eight.s_0, count > 0u);
    result = select(result, result + eight.s_1, count > 1u);
    result = select(result, result + eight.s_2, count > 2u);
    result = select(result, result + eight.s_3, count > 3u);
    result = select(result, result + eight.s_4, count > 4u);
    result = select(result, result + eight.s_5, count > 5u);
    result = select(result, result + eight.s_6, count > 6u);
    return select(result, result + eight.s_7, count > 7u);
}

// The sum over the slices of the vec4 at `first` in the first one. SLICES_AHEAD loads are on their way before the first is
// added: what this takes is the waiting.
fn sum_of_slices(first: u32, slices: u32, stride: u32) -> vec4<f32> {
    let last = slices - 1u;
    var sum = vec4<f32>();
    for (var slice = 0u; slice < slices; slice += SLICES_AHEAD) {
        let s_0 = eight_slices(first, slice, last, stride);
        let s_1 = eight_slices(first, slice + 8u, last, stride);
        let s_2 = eight_slices(first, slice + 16u, last, stride);
        let s_3 = eight_slices(first, slice + 24u, last, stride);
        let left = slices - slice;
        sum = add_slices(sum, s_0, left);
        sum = add_slices(sum, s_1, max(left, 8u) - 8u);
        sum = add_slices(sum, s_2, max(left, 16u) - 16u);
        sum = add_slices(sum, s_3, max(left, 24u) - 24u);
    }
    return sum;
}

@compute @workgroup_size(WG)
fn step_from_partials(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index >= params.num_vec4 {
        return;
    }
    // On their way together with where the gradient is.
    var element = load(index, vec4<f32>());
    let source = sources[index / BLOCK];
    let place = index % BLOCK;
    // Between the members of a pack is nothing.
    if place >= source.w {
        return;
    }
    if source.y == 0u {
        element.grad = grad[source.x + place];
    } else {
        element.grad = sum_of_slices(source.x + place, source.y, source.z);
    }
    store(index, update(element));
}
