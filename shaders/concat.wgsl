// One operand's part of a concatenation: y[o · y_row + start + i] = x[o · x_row + i].
//
//   x  (num_outer, x_row)
//   y  (num_outer, y_row); other dispatches write the rest of each row
//
// One invocation copies one element of x.

struct Params {
    num_elems: u32,
    x_row: u32,
    y_row: u32,
    start: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

override WG: u32 = 64;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index >= params.num_elems {
        return;
    }
    y[(index / params.x_row) * params.y_row + params.start + index % params.x_row] = x[index];
}
