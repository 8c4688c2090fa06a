// The largest value of each window of an image, and where it is.
//
//   x, grad_x           (N, C, H, W)
//   y, grad_y, indices  (N, C, H', W'); an index is flat in the plane of H·W cells
//
//   forward   one invocation computes one element of y: of equal values the first in row-major order wins, and a NaN
//             wins over everything; padding is never read
//   backward  one invocation computes one element of grad_x: the sum of grad_y over the windows that chose its cell,
//             found by checking all that cover it, in a fixed order and without atomics
//   forward_2x2, backward_2x2
//             the same for 2x2 windows side by side in rows of whole vec4s: one invocation takes two windows and moves
//             their eight cells as two vec4s. They need W a multiple of 4 and H even.
//
// Needs lib/index.wgsl, lib/pool2d.wgsl, lib/nan.wgsl and lib/largest.wgsl.

@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> indices: array<u32>;

@group(0) @binding(1) var<storage, read> grad_y: array<f32>;
@group(0) @binding(2) var<storage, read> chosen: array<u32>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<f32>;

// Wider views of the same, for the 2x2 kernels.
@group(0) @binding(1) var<storage, read> x_vec4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y_vec2: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> indices_vec2: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> grad_y_vec2: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> chosen_vec2: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> grad_x_vec4: array<vec4<f32>>;

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
            if is_first || is_nan(value) || (value > best && !is_nan(best)) {
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

// The upper left cell of a pair of windows: its index in its plane, and that of its vec4 in the whole input.
struct PairPosition {
    cell: u32,
    vec4_index: u32,
    vec4s_per_row: u32,
}

fn pair_position(pair: u32) -> PairPosition {
    let vec4s_per_row = params.input_width / 4u;
    let row = (pair / vec4s_per_row) * 2u;
    let cell = (row % params.input_height) * params.input_width + (pair % vec4s_per_row) * 4u;
    return PairPosition(cell, row * vec4s_per_row + pair % vec4s_per_row, vec4s_per_row);
}

@compute @workgroup_size(WG)
fn forward_2x2(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let pair = flat_index(id, groups.x * WG);
    if pair >= params.num_elems {
        return;
    }
    let at = pair_position(pair);
    let upper = x_vec4[at.vec4_index];
    let lower = x_vec4[at.vec4_index + at.vec4s_per_row];
    let left = vec4(upper.xy, lower.xy);
    let right = vec4(upper.zw, lower.zw);
    let places = vec2(largest(left), largest(right));
    y_vec2[pair] = vec2(pick(left, places.x), pick(right, places.y));
    indices_vec2[pair] = at.cell + vec2(0u, 2u) + places % 2u + (places / 2u) * params.input_width;
}

@compute @workgroup_size(WG)
fn backward_2x2(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let pair = flat_index(id, groups.x * WG);
    if pair >= params.num_elems {
        return;
    }
    let at = pair_position(pair);
    let grad = grad_y_vec2[pair].xxyy;
    let winner = chosen_vec2[pair].xxyy;
    let upper = at.cell + vec4(0u, 1u, 2u, 3u);
    grad_x_vec4[at.vec4_index] = select(vec4(0.0), grad, winner == upper);
    grad_x_vec4[at.vec4_index + at.vec4s_per_row] = select(vec4(0.0), grad, winner == upper + params.input_width);
}
