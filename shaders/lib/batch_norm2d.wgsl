// What the kernels of batch normalisation share. Values of a channel are numbered image by image.

struct Params {
    num_images: u32,
    num_channels: u32,
    plane: u32,
    slice_elems: u32,
    num_slices: u32,
    // 1 in training, where `spread` holds 1/√(var + eps); 0 in evaluation, where it holds var.
    training: u32,
    eps: f32,
    momentum: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

@group(0) @binding(1) var<storage, read> x: array<f32>;

override WG: u32 = 64;

var<workgroup> partial: array<vec2<f32>, WG>;

fn num_values() -> u32 {
    return params.num_images * params.plane;
}

// The offset in x of the value at `index` among those of a channel.
fn offset(channel: u32, index: u32) -> u32 {
    return ((index / params.plane) * params.num_channels + channel) * params.plane + index % params.plane;
}

// The sum of one value from each invocation; must be reached by all.
fn tree(lane: u32, value: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            partial[lane] += partial[lane + half];
        }
    }
    workgroupBarrier();
    return partial[0];
}
