// Batch normalisation and its gradient on GPUs, where waiting for another dispatch costs more than merging the slices of a
// channel once in every workgroup. What is computed, and the slices of x: batch_norm2d.wgsl.
//
//   slices               one workgroup takes the moments of one slice of one channel. After a convolution that stores those of
//                        its tiles (lib/tile_moments.wgsl) these are the slices
//   normalize            one workgroup merges the slices of a channel and computes BLOCK values of y: adds `residual` where
//                        HAS_RESIDUAL = 1, and applies the activation. The first workgroup of a channel stores its statistics
//   follow, follow_cumulative  one workgroup merges the slices of a channel and updates its running statistics
//   grad_slices          one workgroup sums grad and grad·(x − mean) over one slice of one channel
//   grad_slices_through  the same, and stores the gradient before the activation for others
//   grad_input           one workgroup adds up the slices of a channel and computes BLOCK values of grad_x. The first one of
//                        a channel stores the gradients of its weight and bias
//   grad_input_of_tiles  the same from what a convolution's gradient summed over its tiles (lib/tile_gradients.wgsl)
//
// With GRADIENT_OF the gradient goes through an activation first, by its output `activated`.
//
// Needs lib/index.wgsl, lib/batch_norm2d.wgsl, lib/batch_norm2d_gradient.wgsl, lib/nan.wgsl, lib/math.wgsl, lib/activation.wgsl and
// lib/activation_gradient.wgsl.

// Of each slice of each channel, (C, num_slices): mean, squared distances and number of its values, 0.
@group(0) @binding(2) var<storage, read_write> moments_of_slices: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> slice_moments: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> mean: array<f32>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read> residual: array<f32>; // not read when HAS_RESIDUAL = 0
@group(0) @binding(8) var<storage, read_write> invstd: array<f32>;

@group(0) @binding(2) var<storage, read> center: array<f32>; // the mean of the batch, or the running mean
@group(0) @binding(3) var<storage, read> grad: array<f32>;
// Of each slice of each channel the two sums, and in a last row of each channel mean, invstd and weight: (num_slices + 1, C).
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> activated: array<f32>; // not read when GRADIENT_OF = 0
@group(0) @binding(6) var<storage, read_write> grad_through: array<f32>;
@group(0) @binding(7) var<storage, read> spread: array<f32>;
@group(0) @binding(8) var<storage, read> scale: array<f32>; // the weight

@group(0) @binding(4) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> running_var: array<f32>;
@group(0) @binding(8) var<uniform> num_batches: f32;

@group(0) @binding(2) var<storage, read> finished_sums: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> tile_sums: array<vec4<f32>>; // (C, num_slices); the last number is the mean
@group(0) @binding(5) var<storage, read> spread_of_channels: array<f32>;
@group(0) @binding(4) var<storage, read_write> grad_x: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad_bias: array<f32>;
@group(0) @binding(7) var<storage, read_write> grad_weight: array<f32>;

override HAS_RESIDUAL: u32 = 0u;

// Values of a channel in a workgroup: eight for each invocation.
override BLOCK: u32 = 8u * WG;

// Mean, squared distances and number of some values of a channel.
var<workgroup> moments: array<vec3<f32>, WG>;

// Those of two sets of values together, by Chan, Golub and LeVeque's rule.
fn together(a: vec3<f32>, b: vec3<f32>) -> vec3<f32> {
    if b.z == 0.0 {
        return a;
    }
    let count = a.z + b.z;
    let delta = b.x - a.x;
    let share = b.z / count;
    return vec3(a.x + delta * share, a.y + b.y + delta * delta * (a.z * share), count);
}

// Mean and squared distances of a channel; must be reached by all.
fn channel_moments(lane: u32, channel: u32) -> vec2<f32> {
    var own = vec3(0.0);
    for (var slice = lane; slice < params.num_slices; slice += WG) {
        let next = slice_moments[channel * params.num_slices + slice].xyz;
        if slice == lane {
            own = next;
        } else {
            own = together(own, next);
        }
    }
    moments[lane] = own;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            moments[lane] = together(moments[lane], moments[lane + half]);
        }
    }
    workgroupBarrier();
    return moments[0].xy;
}

@compute @workgroup_size(WG)
fn slices(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let unit = workgroup_index(group, groups);
    let channel = unit % params.num_channels;
    let slice = unit / params.num_channels;
    let of_slice = slice_moments_of(channel, slice, lane);
    if lane == 0u && of_slice.z > 0.0 {
        moments_of_slices[channel * params.num_slices + slice] = vec4<f32>(of_slice, 0.0);
    }
}

// Lets a channel's running statistics follow those of the batch by the share `factor`; reached by all.
fn follow_channel(unit: u32, lane: u32, factor: f32) {
    let channel = min(unit, params.num_channels - 1u);
    let of_channel = channel_moments(lane, channel);
    if lane == 0u && unit < params.num_channels {
        let variance = of_channel.y / (f32(num_values()) - 1.0);
        running_mean[channel] = (1.0 - factor) * running_mean[channel] + factor * of_channel.x;
        running_var[channel] = (1.0 - factor) * running_var[channel] + factor * variance;
    }
}

@compute @workgroup_size(WG)
fn follow(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    follow_channel(workgroup_index(group, groups), lane, params.momentum);
}

@compute @workgroup_size(WG)
fn follow_cumulative(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    follow_channel(workgroup_index(group, groups), lane, 1.0 / (num_batches + 1.0));
}

// The values of a channel that a workgroup computes. Grids folded to two dimensions can have a few workgroups too many; they
// have none.
struct Block {
    channel: u32,
    first: u32,
    last: u32,
}

fn block_of(unit: u32) -> Block {
    let first = unit / params.num_channels * BLOCK;
    return Block(unit % params.num_channels, first, min(first + BLOCK, num_values()));
}

// Where the eight values of an invocation are in x. Past the end of the block they are the last one's, and are not stored.
struct Offsets {
    low: vec4<u32>,
    high: vec4<u32>,
}

fn offset_within(block: Block, index: u32) -> u32 {
    return offset(block.channel, min(index, num_values() - 1u));
}

fn four_offsets(block: Block, index: u32) -> vec4<u32> {
    return vec4<u32>(
        offset_within(block, index), offset_within(block, index + WG),
        offset_within(block, index + 2u * WG), offset_within(block, index + 3u * WG),
    );
}

fn offsets_of(block: Block, lane: u32) -> Offsets {
    return Offsets(four_offsets(block, block.first + lane), four_offsets(block, block.first + 4u * WG + lane));
}

fn four_of_x(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]);
}

fn eight_of_x(at: Offsets) -> Eight {
    return Eight(four_of_x(at.low), four_of_x(at.high));
}

fn four_residuals(at: vec4<u32>) -> vec4<f32> {
    if HAS_RESIDUAL == 0u {
        return vec4<f32>();
    }
    return vec4<f32>(residual[at.x], residual[at.y], residual[at.z], residual[at.w]);
}

fn normalized(values: vec4<f32>, residuals: vec4<f32>, channel_mean: f32, factor: f32, shift: f32) -> vec4<f32> {
    var result = (values - channel_mean) * factor + shift;
    if HAS_RESIDUAL == 1u {
        result += residuals;
    }
    return activate4(result);
}

fn store_four(block: Block, index: u32, at: vec4<u32>, values: vec4<f32>) {
    if index < block.last { y[at.x] = values.x; }
    if index + WG < block.last { y[at.y] = values.y; }
    if index + 2u * WG < block.last { y[at.z] = values.z; }
    if index + 3u * WG < block.last { y[at.w] = values.w; }
}

@compute @workgroup_size(WG)
fn normalize(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = block_of(workgroup_index(group, groups));
    // On their way while the slices are merged.
    let at = offsets_of(block, lane);
    let values = eight_of_x(at);
    let low_residuals = four_residuals(at.low);
    let high_residuals = four_residuals(at.high);
    let channel_weight = weight[block.channel];
    let shift = bias[block.channel];
    let of_channel = channel_moments(lane, block.channel);
    let channel_invstd = inverseSqrt(of_channel.y / f32(num_values()) + params.eps);
    let factor = channel_invstd * channel_weight;
    if block.first == 0u && lane == 0u {
        mean[block.channel] = of_channel.x;
        invstd[block.channel] = channel_invstd;
    }
    let first = block.first + lane;
    store_four(block, first, at.low, normalized(values.low, low_residuals, of_channel.x, factor, shift));
    store_four(block, first + 4u * WG, at.high, normalized(values.high, high_residuals, of_channel.x, factor, shift));
}

// Keeps the sums of a slice, and with a channel's first one what else its gradient needs; called by all, with `is_first` in
// the first invocation.
fn keep_sums(unit: u32, is_first: bool, of_slice: vec2<f32>) {
    let channel = unit % params.num_channels;
    let slice = unit / params.num_channels;
    if is_first && slice * params.slice_elems < num_values() {
        sums[unit] = vec4(of_slice, 0.0, 0.0);
    }
    if is_first && slice == 0u {
        var channel_invstd = spread[channel];
        if params.training == 0u {
            channel_invstd = inverseSqrt(channel_invstd + params.eps);
        }
        sums[params.num_slices * params.num_channels + channel] = vec4(center[channel], channel_invstd, scale[channel], 0.0);
    }
}

fn four_grads(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(grad_at(at.x), grad_at(at.y), grad_at(at.z), grad_at(at.w));
}

fn store_four_grads(block: Block, index: u32, at: vec4<u32>, values: vec4<f32>) {
    if index < block.last { grad_x[at.x] = values.x; }
    if index + WG < block.last { grad_x[at.y] = values.y; }
    if index + 2u * WG < block.last { grad_x[at.z] = values.z; }
    if index + 3u * WG < block.last { grad_x[at.w] = values.w; }
}

// What the workgroup's part of grad_x follows from: the statistics of the channel, its weight, and sums over the batch.
struct OfChannel {
    center: f32,
    invstd: f32,
    weight: f32,
    sums: vec2<f32>,
}

// Eight values of grad_x, from those of the gradient and of x, and by a channel's first invocation the gradients of its weight
// and bias.
fn store_grads(block: Block, lane: u32, at: Offsets, grads: Eight, values: Eight, channel: OfChannel) {
    if block.first == 0u && lane == 0u {
        grad_bias[block.channel] = channel.sums.x;
        grad_weight[block.channel] = channel.invstd * channel.sums.y;
    }
    // In evaluation the statistics do not depend on x.
    let share = select(0.0, 1.0 / f32(num_values()), params.training == 1u);
    let by_mean = share * channel.sums.x;
    let by_spread = share * channel.invstd * channel.invstd * channel.sums.y;
    let scale_by = channel.weight * channel.invstd;
    let first = block.first + lane;
    store_four_grads(block, first, at.low, scale_by * (grads.low - by_mean - (values.low - channel.center) * by_spread));
    store_four_grads(block, first + 4u * WG, at.high, scale_by * (grads.high - by_mean - (values.high - channel.center) * by_spread));
}

@compute @workgroup_size(WG)
fn grad_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = block_of(workgroup_index(group, groups));
    // On their way while the slices are added up.
    let at = offsets_of(block, lane);
    let values = eight_of_x(at);
    let grads = Eight(four_grads(at.low), four_grads(at.high));
    let of_channel = finished_sums[params.num_slices * params.num_channels + block.channel];
    var own = vec2(0.0);
    for (var slice = lane; slice < params.num_slices; slice += WG) {
        own += finished_sums[slice * params.num_channels + block.channel].xy;
    }
    store_grads(
        block, lane, at, grads, values, OfChannel(of_channel.x, of_channel.y, of_channel.z, tree(lane, own)));
}

fn four_plain_grads(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(grad[at.x], grad[at.y], grad[at.z], grad[at.w]);
}

@compute @workgroup_size(WG)
fn grad_input_of_tiles(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = block_of(workgroup_index(group, groups));
    let at = offsets_of(block, lane);
    let values = eight_of_x(at);
    let grads = Eight(four_plain_grads(at.low), four_plain_grads(at.high));
    var channel_invstd = spread_of_channels[block.channel];
    if params.training == 0u {
        channel_invstd = inverseSqrt(channel_invstd + params.eps);
    }
    let first = block.channel * params.num_slices;
    let center_of_channel = tile_sums[first].w;
    var own = vec2(0.0);
    for (var slice = lane; slice < params.num_slices; slice += WG) {
        own += tile_sums[first + slice].xy;
    }
    let channel = OfChannel(center_of_channel, channel_invstd, scale[block.channel], tree(lane, own));
    store_grads(block, lane, at, grads, values, channel);
}
