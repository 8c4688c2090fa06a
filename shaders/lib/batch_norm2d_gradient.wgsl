// The sums that the gradient of batch normalization needs, slice by slice: the kernels grad_slices and grad_slices_through.
// Whoever includes this declares grad, activated, grad_through and center, and `keep_sums` for what becomes of the sums.

// The gradient of y at an element.
fn grad_at(at: u32) -> f32 {
    if GRADIENT_OF == 0u {
        return grad[at];
    }
    return activation_gradient(grad[at], activated[at]);
}

// Sums a slice of a channel; must be reached by all.
fn sum_slice(unit: u32, lane: u32) {
    let channel = unit % params.num_channels;
    let first = (unit / params.num_channels) * params.slice_elems;
    let last = min(first + params.slice_elems, num_values());
    let channel_mean = center[channel];
    var own = vec2(0.0);
    for (var index = first + lane; index < last; index += WG) {
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

@compute @workgroup_size(WG)
fn grad_slices_through(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let unit = workgroup_index(group, groups);
    let first = (unit / params.num_channels) * params.slice_elems;
    let last = min(first + params.slice_elems, num_values());
    for (var index = first + lane; index < last; index += WG) {
        let at = offset(unit % params.num_channels, index);
        grad_through[at] = grad_at(at);
    }
    sum_slice(unit, lane);
}
