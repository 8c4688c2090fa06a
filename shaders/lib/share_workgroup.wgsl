// Eight neighbouring threads exchange a vec4 each, through workgroup memory, for adapters without subgroups or with
// subgroups smaller than eight. All groups of eight in a workgroup offer the same values, so the first eight threads
// store for everyone. Same interface as share_subgroup.wgsl.

const SHARE_LANES: u32 = 8u;

var<workgroup> share_values: array<vec4<f32>, SHARE_LANES>;

// Offers `value` to the seven neighbours. Must be called in uniform control flow.
fn share(value: vec4<f32>, local_index: u32) {
    // The first barrier keeps a fast thread from overwriting values that a slow one still reads.
    workgroupBarrier();
    if local_index < SHARE_LANES {
        share_values[local_index] = value;
    }
    workgroupBarrier();
}

// The value offered by neighbour `lane` (below SHARE_LANES) in the last call of `share`.
fn shared_from(lane: u32) -> vec4<f32> {
    return share_values[lane];
}
