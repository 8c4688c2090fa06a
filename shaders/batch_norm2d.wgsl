// Batch normalisation over the channels of images, with its gradient (Ioffe and Szegedy, "Batch normalization", 2015).
//
//   y = (x − mean)·invstd·weight + bias,  invstd = 1/√(var + eps)
//
// In training mean and var are those of the batch (var divides by the number of values n = N·H·W), and
//   running_mean = (1 − f)·running_mean + f·mean,  running_var = (1 − f)·running_var + f·var·n/(n − 1)
// with f = momentum, or 1/(number of batches) for the cumulative average; in evaluation they are the running
// statistics. Variance is a sum of squared distances from the mean of a slice; slices are merged by Chan, Golub and
// LeVeque's rule, in order. E[x²] − E[x]² never occurs.
//
//   grad_bias = Σ grad,  grad_weight = invstd·Σ grad·(x − mean)
//   grad_x = weight·invstd·(grad − grad_bias/n − (x − mean)·invstd·grad_weight/n)   in training
//   grad_x = weight·invstd·grad                                                     in evaluation
//
// x, y and their gradients are (N, C, plane) with plane = H·W; all else is (C).
//
//   slices       one workgroup takes mean and squared distances of one slice of one channel
//   merge        one invocation merges the slices of one channel and updates its running statistics
//   merge_cumulative  the same, with the factor from the number of batches
//   count        one invocation counts the batch
//   normalize    one invocation computes one element of y
//   normalize_activate  the same, then adds `residual` where HAS_RESIDUAL = 1, and applies the activation
//   grad_slices  one workgroup sums grad and grad·(x − mean) over one slice of one channel
//   grad_slices_through  the same, and stores the gradient before the activation for others
//   grad_merge   one invocation adds up the slices of one channel, and prepares its coefficients for
//   grad_input   one invocation computes one element of grad_x
//
// With GRADIENT_OF, grad_slices and grad_input take the gradient through an activation first, by its output `activated`.
//
// Needs lib/index.wgsl, lib/batch_norm2d.wgsl, lib/batch_norm2d_gradient.wgsl, lib/nan.wgsl, lib/math.wgsl, lib/activation.wgsl and lib/activation_gradient.wgsl.

// Of each slice of each channel, (num_slices, C): mean and squared distances, or the two sums of the gradient.
@group(0) @binding(1) var<storage, read> partials: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> num_batches_tracked: array<f32>;

@group(0) @binding(2) var<storage, read_write> slice_moments: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
// The mean of the batch, or the running mean.
@group(0) @binding(2) var<storage, read> center: array<f32>;
// Of each channel: weight·invstd, grad_bias/n, invstd·grad_weight/n, mean.
@group(0) @binding(2) var<storage, read> coefficients: array<vec4<f32>>;

@group(0) @binding(3) var<storage, read_write> invstd: array<f32>;
@group(0) @binding(3) var<storage, read> spread: array<f32>;
@group(0) @binding(3) var<storage, read> grad: array<f32>;

@group(0) @binding(4) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> slice_sums: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> grad_x: array<f32>;

@group(0) @binding(5) var<storage, read_write> running_var: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad_weight: array<f32>;
@group(0) @binding(5) var<storage, read> activated: array<f32>; // not read when GRADIENT_OF = 0

// Copies of mean and invstd that normalize reads.
@group(0) @binding(6) var<storage, read_write> mean_copy: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad_bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad_through: array<f32>;

@group(0) @binding(7) var<storage, read_write> invstd_copy: array<f32>;
@group(0) @binding(7) var<storage, read> residual: array<f32>; // not read when HAS_RESIDUAL = 0
@group(0) @binding(7) var<storage, read_write> merged_coefficients: array<vec4<f32>>;

@group(0) @binding(8) var<uniform> num_batches: f32;

override HAS_RESIDUAL: u32 = 0u;

@compute @workgroup_size(WG)
fn slices(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let unit = workgroup_index(group, groups);
    let of_slice = slice_moments_of(unit % params.num_channels, unit / params.num_channels, lane);
    if lane == 0u && of_slice.z > 0.0 {
        slice_moments[unit] = of_slice.xy;
    }
}

// A channel's partial result of a slice; past the last slice it is that one's, which is not used.
fn partial_of(slice: u32, channel: u32) -> vec2<f32> {
    return partials[min(slice, params.num_slices - 1u) * params.num_channels + channel];
}

// The moments of the slices before `slice`, and of it.
fn merged(moments: vec2<f32>, next: vec2<f32>, slice: u32) -> vec2<f32> {
    if slice >= params.num_slices {
        return moments;
    }
    let before = f32(slice * params.slice_elems);
    let after = f32(min((slice + 1u) * params.slice_elems, num_values()));
    let added = after - before;
    let delta = next.x - moments.x;
    return moments + vec2(delta * (added / after), next.y + delta * delta * (before * (added / after)));
}

// A channel's mean and squared distances, from those of its slices, eight of which are on their way at a time.
fn moments_of(channel: u32) -> vec2<f32> {
    var moments = vec2(0.0);
    for (var slice = 0u; slice < params.num_slices; slice += 8u) {
        let p_0 = partial_of(slice, channel);
        let p_1 = partial_of(slice + 1u, channel);
        let p_2 = partial_of(slice + 2u, channel);
        let p_3 = partial_of(slice + 3u, channel);
        let p_4 = partial_of(slice + 4u, channel);
        let p_5 = partial_of(slice + 5u, channel);
        let p_6 = partial_of(slice + 6u, channel);
        let p_7 = partial_of(slice + 7u, channel);
        if slice == 0u {
            moments = p_0;
        } else {
            moments = merged(moments, p_0, slice);
        }
        moments = merged(moments, p_1, slice + 1u);
        moments = merged(moments, p_2, slice + 2u);
        moments = merged(moments, p_3, slice + 3u);
        moments = merged(moments, p_4, slice + 4u);
        moments = merged(moments, p_5, slice + 5u);
        moments = merged(moments, p_6, slice + 6u);
        moments = merged(moments, p_7, slice + 7u);
    }
    return moments;
}

fn merge_channel(channel: u32, factor: f32) {
    let moments = moments_of(channel);
    let n = f32(num_values());
    let channel_invstd = inverseSqrt(moments.y / n + params.eps);
    mean[channel] = moments.x;
    invstd[channel] = channel_invstd;
    mean_copy[channel] = moments.x;
    invstd_copy[channel] = channel_invstd;
    running_mean[channel] = (1.0 - factor) * running_mean[channel] + factor * moments.x;
    running_var[channel] = (1.0 - factor) * running_var[channel] + factor * (moments.y / (n - 1.0));
}

@compute @workgroup_size(WG)
fn merge(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let channel = flat_index(id, groups.x * WG);
    if channel < params.num_channels {
        merge_channel(channel, params.momentum);
    }
}

@compute @workgroup_size(WG)
fn merge_cumulative(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let channel = flat_index(id, groups.x * WG);
    if channel < params.num_channels {
        merge_channel(channel, 1.0 / (num_batches + 1.0));
    }
}

@compute @workgroup_size(1)
fn count() {
    num_batches_tracked[0] += 1.0;
}

fn channel_invstd(channel: u32) -> f32 {
    let value = spread[channel];
    if params.training == 1u {
        return value;
    }
    return inverseSqrt(value + params.eps);
}

fn normalized(index: u32) -> f32 {
    let channel = (index / params.plane) % params.num_channels;
    let scale = channel_invstd(channel) * weight[channel];
    return (x[index] - center[channel]) * scale + bias[channel];
}

@compute @workgroup_size(WG)
fn normalize(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < num_values() * params.num_channels {
        y[index] = normalized(index);
    }
}

@compute @workgroup_size(WG)
fn normalize_activate(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < num_values() * params.num_channels {
        var value = normalized(index);
        if HAS_RESIDUAL == 1u {
            value += residual[index];
        }
        y[index] = activate(value);
    }
}

// Keeps the sums of a slice; called by all, with `is_first` in the first invocation.
fn keep_sums(unit: u32, is_first: bool, sums: vec2<f32>) {
    if is_first && (unit / params.num_channels) * params.slice_elems < num_values() {
        slice_sums[unit] = sums;
    }
}

@compute @workgroup_size(WG)
fn grad_merge(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let channel = flat_index(id, groups.x * WG);
    if channel >= params.num_channels {
        return;
    }
    var sums = vec2(0.0);
    for (var slice = 0u; slice < params.num_slices; slice += 8u) {
        let p_0 = partial_of(slice, channel);
        let p_1 = partial_of(slice + 1u, channel);
        let p_2 = partial_of(slice + 2u, channel);
        let p_3 = partial_of(slice + 3u, channel);
        let p_4 = partial_of(slice + 4u, channel);
        let p_5 = partial_of(slice + 5u, channel);
        let p_6 = partial_of(slice + 6u, channel);
        let p_7 = partial_of(slice + 7u, channel);
        sums += p_0;
        sums = select(sums, sums + p_1, slice + 1u < params.num_slices);
        sums = select(sums, sums + p_2, slice + 2u < params.num_slices);
        sums = select(sums, sums + p_3, slice + 3u < params.num_slices);
        sums = select(sums, sums + p_4, slice + 4u < params.num_slices);
        sums = select(sums, sums + p_5, slice + 5u < params.num_slices);
        sums = select(sums, sums + p_6, slice + 6u < params.num_slices);
        sums = select(sums, sums + p_7, slice + 7u < params.num_slices);
    }
    let scale = channel_invstd(channel);
    grad_bias[channel] = sums.x;
    grad_weight[channel] = scale * sums.y;
    // In evaluation the statistics do not depend on x.
    let share = select(0.0, 1.0 / f32(num_values()), params.training == 1u);
    merged_coefficients[channel] =
        vec4(weight[channel] * scale, share * sums.x, share * scale * scale * sums.y, center[channel]);
}

@compute @workgroup_size(WG)
fn grad_input(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index < num_values() * params.num_channels {
        let c = coefficients[(index / params.plane) % params.num_channels];
        grad_x[index] = c.x * (grad_at(index) - c.y - (x[index] - c.w) * c.z);
    }
}
