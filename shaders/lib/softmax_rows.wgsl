// Softmax of short rows, one for each invocation, and its gradient, as `rows` of softmax.wgsl has them: sums are in the same
// order. An invocation has 16 elements on their way at a time, and keeps a row of no more. A software adapter gains nothing, and
// takes longer to compile it.
//
// Needs softmax.wgsl and lib/in_order.wgsl.

const AT_ONCE: u32 = 16u;

// Where four elements of a row are, from the `i`-th on; beyond the last the last one.
fn places(base: u32, i: u32) -> vec4<u32> {
    let last = vec4<u32>(params.axis_len - 1u);
    return base + min(i + vec4<u32>(0u, 1u, 2u, 3u), last) * params.inner;
}

fn four_of_x(base: u32, i: u32) -> vec4<f32> {
    let at = places(base, i);
    return vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]);
}

fn four_grads(base: u32, i: u32) -> vec4<f32> {
    let at = places(base, i);
    return vec4<f32>(grad_output[at.x], grad_output[at.y], grad_output[at.z], grad_output[at.w]);
}

fn four_outputs(base: u32, i: u32) -> vec4<f32> {
    let at = places(base, i);
    return vec4<f32>(output[at.x], output[at.y], output[at.z], output[at.w]);
}

// Elements of a row, from the `i`-th on. Fours that begin beyond the last are not loaded.
fn some_of_x(base: u32, i: u32) -> Held {
    let left = params.axis_len - i;
    var some = Held();
    some.q_0 = four_of_x(base, i);
    if left > 4u { some.q_1 = four_of_x(base, i + 4u); }
    if left > 8u { some.q_2 = four_of_x(base, i + 8u); }
    if left > 12u { some.q_3 = four_of_x(base, i + 12u); }
    return some;
}

fn some_grads(base: u32, i: u32) -> Held {
    let left = params.axis_len - i;
    var some = Held();
    some.q_0 = four_grads(base, i);
    if left > 4u { some.q_1 = four_grads(base, i + 4u); }
    if left > 8u { some.q_2 = four_grads(base, i + 8u); }
    if left > 12u { some.q_3 = four_grads(base, i + 12u); }
    return some;
}

fn some_outputs(base: u32, i: u32) -> Held {
    let left = params.axis_len - i;
    var some = Held();
    some.q_0 = four_outputs(base, i);
    if left > 4u { some.q_1 = four_outputs(base, i + 4u); }
    if left > 8u { some.q_2 = four_outputs(base, i + 8u); }
    if left > 12u { some.q_3 = four_outputs(base, i + 12u); }
    return some;
}

fn four_values(shifted: vec4<f32>, sum: f32) -> vec4<f32> {
    if LOG == 1u {
        return shifted - accurate_log(sum);
    }
    return accurate_exp4(shifted) / sum;
}

fn store_values(base: u32, i: u32, values: vec4<f32>) {
    let at = places(base, i);
    y[at.x] = values.x;
    if i + 1u < params.axis_len { y[at.y] = values.y; }
    if i + 2u < params.axis_len { y[at.z] = values.z; }
    if i + 3u < params.axis_len { y[at.w] = values.w; }
}

@compute @workgroup_size(WG)
fn rows_ahead(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = flat_index(id, groups.x * WG);
    if row >= params.num_rows {
        return;
    }
    let base = row_base(row);
    let len = params.axis_len;
    var some = some_of_x(base, 0u);
    var largest = -infinity();
    for (var i = 0u; i < len; i += AT_ONCE) {
        if len > AT_ONCE { some = some_of_x(base, i); }
        largest = larger_of_four(largest, some.q_0);
        if len - i > 4u { largest = larger_of_four(largest, some.q_1); }
        if len - i > 8u { largest = larger_of_four(largest, some.q_2); }
        if len - i > 12u { largest = larger_of_four(largest, some.q_3); }
    }
    var sum = 0.0;
    for (var i = 0u; i < len; i += AT_ONCE) {
        if len > AT_ONCE { some = some_of_x(base, i); }
        sum = add_four(sum, accurate_exp4(some.q_0 - largest), len - i);
        if len - i > 4u { sum = add_four(sum, accurate_exp4(some.q_1 - largest), len - i - 4u); }
        if len - i > 8u { sum = add_four(sum, accurate_exp4(some.q_2 - largest), len - i - 8u); }
        if len - i > 12u { sum = add_four(sum, accurate_exp4(some.q_3 - largest), len - i - 12u); }
    }
    for (var i = 0u; i < len; i += AT_ONCE) {
        if len > AT_ONCE { some = some_of_x(base, i); }
        store_values(base, i, four_values(some.q_0 - largest, sum));
        if len - i > 4u { store_values(base, i + 4u, four_values(some.q_1 - largest, sum)); }
        if len - i > 8u { store_values(base, i + 8u, four_values(some.q_2 - largest, sum)); }
        if len - i > 12u { store_values(base, i + 12u, four_values(some.q_3 - largest, sum)); }
    }
}

fn store_grads(base: u32, i: u32, values: vec4<f32>) {
    let at = places(base, i);
    grad_input[at.x] = values.x;
    if i + 1u < params.axis_len { grad_input[at.y] = values.y; }
    if i + 2u < params.axis_len { grad_input[at.z] = values.z; }
    if i + 3u < params.axis_len { grad_input[at.w] = values.w; }
}

@compute @workgroup_size(WG)
fn rows_ahead_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = flat_index(id, groups.x * WG);
    if row >= params.num_rows {
        return;
    }
    let base = row_base(row);
    let len = params.axis_len;
    var grads = some_grads(base, 0u);
    var out = some_outputs(base, 0u);
    var sum = 0.0;
    for (var i = 0u; i < len; i += AT_ONCE) {
        if len > AT_ONCE {
            grads = some_grads(base, i);
            out = some_outputs(base, i);
        }
        sum = add_four(sum, grad_terms(grads.q_0, out.q_0), len - i);
        if len - i > 4u { sum = add_four(sum, grad_terms(grads.q_1, out.q_1), len - i - 4u); }
        if len - i > 8u { sum = add_four(sum, grad_terms(grads.q_2, out.q_2), len - i - 8u); }
        if len - i > 12u { sum = add_four(sum, grad_terms(grads.q_3, out.q_3), len - i - 12u); }
    }
    for (var i = 0u; i < len; i += AT_ONCE) {
        if len > AT_ONCE {
            grads = some_grads(base, i);
            out = some_outputs(base, i);
        }
        store_grads(base, i, grad_values(grads.q_0, out.q_0, sum));
        if len - i > 4u { store_grads(base, i + 4u, grad_values(grads.q_1, out.q_1, sum)); }
        if len - i > 8u { store_grads(base, i + 8u, grad_values(grads.q_2, out.q_2, sum)); }
        if len - i > 12u { store_grads(base, i + 12u, grad_values(grads.q_3, out.q_3, sum)); }
    }
}
