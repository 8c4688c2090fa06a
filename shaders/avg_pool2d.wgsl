// The mean of each window of an image: y[o] = (Σ x over the window) / divisor.
//
//   x, grad_x  (N, C, H, W)
//   y, grad_y  (N, C, H', W')
//
// Along an axis, window o covers the cells from o·stride − padding on, or, if ADAPTIVE, those from ⌊o·H/H'⌋ up to
// ⌈(o+1)·H/H'⌉. The divisor is `divisor` unless that is 0; else the window's cells within the padded input; without
// `count_padding`, those within the input.
//
//   forward   one invocation computes one element of y
//   backward  one invocation computes one element of grad_x: Σ grad_y / divisor over the windows that cover it
//
// Needs lib/index.wgsl and lib/pool2d.wgsl.

// The cells of a window within the input, and how many there are with padding.
struct Window {
    start: u32,
    end: u32,
    num_padded: u32,
}

@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@group(0) @binding(1) var<storage, read> grad_y: array<f32>;
@group(0) @binding(2) var<storage, read_write> grad_x: array<f32>;

override ADAPTIVE: u32 = 0;

fn ceil_div(a: u32, b: u32) -> u32 {
    return (a + b - 1u) / b;
}

fn window(index: u32, input: u32, output: u32, kernel_size: u32, stride: u32, padding: u32) -> Window {
    if ADAPTIVE == 1u {
        let start = index * input / output;
        let end = ceil_div((index + 1u) * input, output);
        return Window(start, end, end - start);
    }
    // In padded coordinates, so that nothing is negative.
    let start = index * stride;
    let end = min(start + kernel_size, input + 2u * padding);
    let first = max(start, padding) - padding;
    let last = min(max(end, padding) - padding, input);
    return Window(first, last, end - start);
}

// The windows that cover a cell: the first and the one after the last.
fn covering(cell: u32, input: u32, output: u32, kernel_size: u32, stride: u32, padding: u32) -> vec2<u32> {
    if ADAPTIVE == 1u {
        return vec2<u32>(cell * output / input, ceil_div((cell + 1u) * output, input));
    }
    let padded = cell + padding;
    let before = max(padded + 1u, kernel_size) - kernel_size;
    return vec2<u32>(ceil_div(before, stride), min(padded / stride + 1u, output));
}

fn window_y(index: u32) -> Window {
    return window(index, params.input_height, params.output_height, params.kernel_height, params.stride_y,
        params.padding_y);
}

fn window_x(index: u32) -> Window {
    return window(index, params.input_width, params.output_width, params.kernel_width, params.stride_x,
        params.padding_x);
}

fn divisor_of(vertical: Window, horizontal: Window) -> f32 {
    if params.divisor != 0u {
        return f32(params.divisor);
    }
    if params.count_padding == 1u {
        return f32(vertical.num_padded * horizontal.num_padded);
    }
    return f32((vertical.end - vertical.start) * (horizontal.end - horizontal.start));
}

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index >= params.num_elems {
        return;
    }
    let vertical = window_y((index / params.output_width) % params.output_height);
    let horizontal = window_x(index % params.output_width);
    let plane = index / (params.output_width * params.output_height);
    let base = plane * params.input_height * params.input_width;
    var sum = 0.0;
    for (var row = vertical.start; row < vertical.end; row += 1u) {
        for (var column = horizontal.start; column < horizontal.end; column += 1u) {
            sum += x[base + row * params.input_width + column];
        }
    }
    y[index] = sum / divisor_of(vertical, horizontal);
}

@compute @workgroup_size(WG)
fn backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index >= params.num_elems {
        return;
    }
    let rows = covering((index / params.input_width) % params.input_height, params.input_height,
        params.output_height, params.kernel_height, params.stride_y, params.padding_y);
    let columns = covering(index % params.input_width, params.input_width, params.output_width, params.kernel_width,
        params.stride_x, params.padding_x);
    let plane = index / (params.input_width * params.input_height);
    let base = plane * params.output_height * params.output_width;
    var sum = 0.0;
    for (var row = rows.x; row < rows.y; row += 1u) {
        let vertical = window_y(row);
        for (var column = columns.x; column < columns.y; column += 1u) {
            sum += grad_y[base + row * params.output_width + column] / divisor_of(vertical, window_x(column));
        }
    }
    grad_x[index] = sum;
}
