// The largest value of each window of an image, and where it is.
//
//   x, grad_x           (N, C, H, W)
//   y, grad_y, indices  (N, C, H', W'); an index is flat in the plane of H·W cells
//
//   forward   one invocation computes one element of y: of equal values the first in row-major order wins, and a NaN
//             wins over everything; padding is never looked at
//   backward  one invocation computes one element of grad_x: the sum of grad_y over the windows that chose its cell,
//             found by looking at all that cover it, in a fixed order and without atomics

struct Params {
    num_elems: u32,
    input_height: u32,
    input_width: u32,
    output_height: u32,
    output_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_y: u32,
    stride_x: u32,
    padding_y: u32,
    padding_x: u32,
    dilation_y: u32,
    dilation_x: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> indices: array<u32>;

@group(0) @binding(1) var<storage, read> grad_y: array<f32>;
@group(0) @binding(2) var<storage, read> chosen: array<u32>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<f32>;

override WG: u32 = 64;

// A float is a NaN if its bits without the sign are above those of infinity. Comparing it with itself would not do:
// WGSL lets compilers assume that there are none.
const MAGNITUDE_BITS: u32 = 0x7fffffff;
const INFINITY_BITS: u32 = 0x7f800000;

fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & MAGNITUDE_BITS) > INFINITY_BITS;
}

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index >= params.num_elems {
        return;
    }
    let column = index % params.output_width;
    let row = (index / params.output_width) % params.output_height;
    let plane = index / (params.output_width * params.output_height);
    let base = plane * params.input_height * params.input_width;
    var is_first = true;
    var best = 0.0;
    var best_at = 0u;
    for (var ky = 0u; ky < params.kernel_height; ky += 1u) {
        // In padded coordinates, so that nothing is negative.
        let padded_y = row * params.stride_y + ky * params.dilation_y;
        if padded_y < params.padding_y || padded_y >= params.input_height + params.padding_y {
            continue;
        }
        let row_start = (padded_y - params.padding_y) * params.input_width;
        for (var kx = 0u; kx < params.kernel_width; kx += 1u) {
            let padded_x = column * params.stride_x + kx * params.dilation_x;
            if padded_x < params.padding_x || padded_x >= params.input_width + params.padding_x {
                continue;
            }
            let at = row_start + padded_x - params.padding_x;
            let value = x[base + at];
            if is_first || value > best || is_nan(value) {
                is_first = false;
                best = value;
                best_at = at;
            }
        }
    }
    y[index] = best;
    indices[index] = best_at;
}

@compute @workgroup_size(WG)
fn backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index >= params.num_elems {
        return;
    }
    let input_column = index % params.input_width;
    let input_row = (index / params.input_width) % params.input_height;
    let own = index % (params.input_width * params.input_height);
    let plane = index / (params.input_width * params.input_height);
    let base = plane * params.output_height * params.output_width;
    let padded_y = input_row + params.padding_y;
    let padded_x = input_column + params.padding_x;
    var sum = 0.0;
    for (var ky = 0u; ky < params.kernel_height; ky += 1u) {
        let start_y = padded_y - ky * params.dilation_y;
        let row = start_y / params.stride_y;
        if padded_y < ky * params.dilation_y || start_y % params.stride_y != 0u || row >= params.output_height {
            continue;
        }
        for (var kx = 0u; kx < params.kernel_width; kx += 1u) {
            let start_x = padded_x - kx * params.dilation_x;
            let column = start_x / params.stride_x;
            if padded_x < kx * params.dilation_x || start_x % params.stride_x != 0u || column >= params.output_width {
                continue;
            }
            let at = base + row * params.output_width + column;
            if chosen[at] == own {
                sum += grad_y[at];
            }
        }
    }
    grad_x[index] = sum;
}
