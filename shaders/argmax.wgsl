// Where the largest value lies along an axis: y[o, i] = first k with x[o, k, i] the maximum; a NaN counts as largest.
//
//   x  (num_outer, extent, num_inner)
//   y  (num_outer, num_inner)
//
//   forward  one invocation computes one element of y; for short rows
//   group    one workgroup computes one element: each invocation takes every WG-th of its row, then a tree; for long rows
//
// Needs lib/nan.wgsl.

struct Params {
    num_outputs: u32,
    extent: u32,
    num_inner: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

override WG: u32 = 64;

// A value and where it is along the axis.
struct Place {
    value: f32,
    at: u32,
}

var<workgroup> places: array<Place, WG>;

// Whether `a` comes before `b`: a NaN before numbers, larger before smaller, else by where they are.
fn leads(a: Place, b: Place) -> bool {
    if is_nan(a.value) || is_nan(b.value) {
        return is_nan(a.value) && (!is_nan(b.value) || a.at < b.at);
    }
    return a.value > b.value || (a.value == b.value && a.at < b.at);
}

fn row_base(output: u32) -> u32 {
    return (output / params.num_inner) * params.extent * params.num_inner + output % params.num_inner;
}

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index >= params.num_outputs {
        return;
    }
    let base = row_base(index);
    var best = x[base];
    var best_at = 0u;
    for (var k = 1u; k < params.extent; k += 1u) {
        let value = x[base + k * params.num_inner];
        if !is_nan(best) && (is_nan(value) || value > best) {
            best = value;
            best_at = k;
        }
    }
    y[index] = best_at;
}

@compute @workgroup_size(WG)
fn group(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // A grid folded to two dimensions can have a few workgroups too many, which do the last row again.
    let index = min(workgroup_index(workgroup, groups), params.num_outputs - 1u);
    let base = row_base(index);
    // Lanes beyond the end of a row take its last element.
    let first = min(lane, params.extent - 1u);
    var best = Place(x[base + first * params.num_inner], first);
    for (var k = lane + WG; k < params.extent; k += WG) {
        let next = Place(x[base + k * params.num_inner], k);
        if leads(next, best) {
            best = next;
        }
    }
    places[lane] = best;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half && leads(places[lane + half], places[lane]) {
            places[lane] = places[lane + half];
        }
    }
    if lane == 0u {
        y[index] = places[0].at;
    }
}
