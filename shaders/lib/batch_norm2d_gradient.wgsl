// The sums that the gradient of batch normalization needs, slice by slice: the kernels grad_slices and grad_slices_through.
// Whoever includes this declares grad, activated, grad_through and center, and `keep_sums` for what becomes of the sums.

// The gradient of y at an element.
fn grad_at(at: u32) -> f32 {
    if GRADIENT_OF == 0u {
        return grad[at];
    }
    return activation_gradient(grad[at], activated[at]);
}

fn eight_grads(channel: u32, index: u32) -> Eight {
    return Eight(
        vec4<f32>(
            grad_at(offset(channel, index)), grad_at(offset(channel, index + WG)),
            grad_at(offset(channel, index + 2u * WG)), grad_at(offset(channel, index + 3u * WG))),
        vec4<f32>(
            grad_at(offset(channel, index + 4u * WG)), grad_at(offset(channel, index + 5u * WG)),
            grad_at(offset(channel, index + 6u * WG)), grad_at(offset(channel, index + 7u * WG))),
    );
}

// Adds the sums of four gradients and of their products with distances, in order.
fn add_sums(sums: vec2<f32>, grads: vec4<f32>, distances: vec4<f32>) -> vec2<f32> {
    var result = sums;
    result += grads.x * vec2(1.0, distances.x);
    result += grads.y * vec2(1.0, distances.y);
    result += grads.z * vec2(1.0, distances.z);
    result += grads.w * vec2(1.0, distances.w);
    return result;
}

// Sums a slice of a channel; must be reached by all.
fn sum_slice(unit: u32, lane: u32) {
    let channel = unit % params.num_channels;
    let first = (unit / params.num_channels) * params.slice_elems;
    let last = min(first + params.slice_elems, num_values());
    let channel_mean = center[channel];
    var own = vec2(0.0);
    var index = first + lane;
    for (; has_eight(index, last); index += 8u * WG) {
        let grads = eight_grads(channel, index);
        let values = eight_values(channel, index);
        own = add_sums(own, grads.low, values.low - channel_mean);
        own = add_sums(own, grads.high, values.high - channel_mean);
    }
    for (; index < last; index += WG) {
        let at = offset(channel, index);
        own += grad_at(at) * vec2(1.0, x[at] - channel_mean);
    }
    keep_sums(unit, lane == 0u, tree(lane, own));
}

@compute @workgroup_size(WG)
fn grad_slices(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    sum_slice(workgroup_index(group, groups), lane);
}

fn store_through(channel: u32, index: u32, grads: vec4<f32>) {
    grad_through[offset(channel, index)] = grads.x;
    grad_through[offset(channel, index + WG)] = grads.y;
    grad_through[offset(channel, index + 2u * WG)] = grads.z;
    grad_through[offset(channel, index + 3u * WG)] = grads.w;
}

@compute @workgroup_size(WG)
fn grad_slices_through(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let unit = workgroup_index(group, groups);
    let channel = unit % params.num_channels;
    let first = (unit / params.num_channels) * params.slice_elems;
    let last = min(first + params.slice_elems, num_values());
    let channel_mean = center[channel];
    var own = vec2(0.0);
    var index = first + lane;
    // As in sum_slice, which must not name grad_through: it would be bound for nothing.
    for (; has_eight(index, last); index += 8u * WG) {
        let grads = eight_grads(channel, index);
        let values = eight_values(channel, index);
        own = add_sums(own, grads.low, values.low - channel_mean);
        own = add_sums(own, grads.high, values.high - channel_mean);
        store_through(channel, index, grads.low);
        store_through(channel, index + 4u * WG, grads.high);
    }
    for (; index < last; index += WG) {
        let at = offset(channel, index);
        let through = grad_at(at);
        own += through * vec2(1.0, x[at] - channel_mean);
        grad_through[at] = through;
    }
    keep_sums(unit, lane == 0u, tree(lane, own));
}
