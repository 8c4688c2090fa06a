// The sum over a workgroup, by a tree. Needs the operation's WG, a power of two.

var<workgroup> lanes: array<f32, WG>;

// The sum over all invocations of the workgroup, in lanes[0].
fn add_lanes(lane: u32, value: f32) {
    lanes[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            lanes[lane] += lanes[lane + half];
        }
    }
}
