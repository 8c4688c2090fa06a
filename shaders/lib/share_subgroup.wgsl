// Eight neighbouring threads exchange a vec4 each, through subgroup operations. Needs subgroups of at least eight
// invocations and workgroup sizes that are multiples of eight. Same interface as share_workgroup.wgsl.
//
// A software adapter pays for every lane of a load but almost nothing for a shuffle, so one coalesced load of
// 8 x 4 values that all eight threads then read from registers replaces 32 loads.

const SHARE_LANES: u32 = 8u;

var<private> share_value: vec4<f32>;

// Offers `value` to the seven neighbours. Must be called in uniform control flow.
fn share(value: vec4<f32>, local_index: u32) {
    share_value = value;
}

// The value offered by neighbour `lane` (below SHARE_LANES) in the last call of `share`.
fn shared_from(lane: u32) -> vec4<f32> {
    return subgroupShuffle(share_value, lane);
}
