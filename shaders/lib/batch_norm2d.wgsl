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

// Whether walks over a slice have eight loads on their way at a time: a software adapter gains nothing, and takes longer to
// compile them.
override AHEAD: u32 = 0u;

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

struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn x_at(channel: u32, index: u32) -> f32 {
    return x[offset(channel, index)];
}

// The values at `index` and seven times WG after the one before.
fn eight_values(channel: u32, index: u32) -> Eight {
    return Eight(
        vec4<f32>(
            x_at(channel, index), x_at(channel, index + WG), x_at(channel, index + 2u * WG), x_at(channel, index + 3u * WG)),
        vec4<f32>(
            x_at(channel, index + 4u * WG), x_at(channel, index + 5u * WG), x_at(channel, index + 6u * WG),
            x_at(channel, index + 7u * WG)),
    );
}

// Whether eight more values from `index` on are before `last`.
fn has_eight(index: u32, last: u32) -> bool {
    return AHEAD == 1u && index + 7u * WG < last;
}

fn add_in_order(sum: f32, values: vec4<f32>) -> f32 {
    return sum + values.x + values.y + values.z + values.w;
}

// Mean, squared distances and number of the values in a slice of a channel; must be reached by all. A grid folded to two
// dimensions can have a few workgroups too many; they have no values.
fn slice_moments_of(channel: u32, slice: u32, lane: u32) -> vec3<f32> {
    let first = slice * params.slice_elems;
    let last = min(first + params.slice_elems, num_values());
    var sum = 0.0;
    var index = first + lane;
    for (; has_eight(index, last); index += 8u * WG) {
        let values = eight_values(channel, index);
        sum = add_in_order(add_in_order(sum, values.low), values.high);
    }
    for (; index < last; index += WG) {
        sum += x_at(channel, index);
    }
    let count = f32(max(last, first) - first);
    let slice_mean = tree(lane, vec2(sum, 0.0)).x / max(count, 1.0);
    var squares = 0.0;
    index = first + lane;
    for (; has_eight(index, last); index += 8u * WG) {
        let values = eight_values(channel, index);
        let low = values.low - slice_mean;
        let high = values.high - slice_mean;
        squares = add_in_order(add_in_order(squares, low * low), high * high);
    }
    for (; index < last; index += WG) {
        let distance = x_at(channel, index) - slice_mean;
        squares += distance * distance;
    }
    return vec3<f32>(slice_mean, tree(lane, vec2(squares, 0.0)).x, count);
}
