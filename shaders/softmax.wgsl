// Softmax and its logarithm along one axis, with their gradients.
//
//   forward   y = exp(x − m) / s            or  y = (x − m) − log(s),   m = max x, s = Σ exp(x − m)
//   backward  grad_x = y · (grad − Σ grad·y)  or  grad_x = grad − exp(y) · Σ grad
//
// All tensors are (outer, axis, inner); a row is one (outer, inner), its elements `inner` apart. The maximum is
// subtracted before exponentiating, so nothing overflows and s is at least 1.
//
//   rows, rows_backward      one invocation computes one row; for short rows on software adapters
//   rows_ahead, rows_ahead_backward
//                            the same on GPUs (lib/softmax_rows.wgsl)
//   rows_vec4, rows_vec4_backward
//                            the same four elements at a time, for long rows on software adapters, where a barrier costs
//                            more than what it shares: needs inner = 1 and axis_len a multiple of 4
//   held, held_backward      one workgroup computes one row of at most 16 WG elements, which its invocations keep in registers:
//                            on GPUs, where inner = 1 and axis_len is a multiple of 4
//   groups, groups_backward  one workgroup computes one row: each invocation every WG-th element, then a tree; for
//                            all other long rows
//
// Needs lib/index.wgsl, lib/nan.wgsl and lib/math.wgsl.

struct Params {
    num_rows: u32,
    axis_len: u32,
    inner: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read> grad_output: array<f32>;
@group(0) @binding(2) var<storage, read> output: array<f32>;
@group(0) @binding(3) var<storage, read_write> grad_input: array<f32>;

// Wider views of the same, for the vec4 kernels.
@group(0) @binding(1) var<storage, read> x_vec4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y_vec4: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> grad_output_vec4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> output_vec4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_input_vec4: array<vec4<f32>>;

override WG: u32 = 64;
// 0 softmax, 1 log_softmax.
override LOG: u32 = 0;

var<workgroup> partial: array<f32, WG>;

fn row_base(row: u32) -> u32 {
    return (row / params.inner) * params.axis_len * params.inner + row % params.inner;
}

// One element of the output from x − m and s.
fn value(shifted: f32, sum: f32) -> f32 {
    if LOG == 1u {
        return shifted - accurate_log(sum);
    }
    return accurate_exp(shifted) / sum;
}

// What is summed along the row for the gradient.
fn grad_term(grad: f32, out: f32) -> f32 {
    return select(grad * out, grad, LOG == 1u);
}

fn grad_value(grad: f32, out: f32, sum: f32) -> f32 {
    if LOG == 1u {
        return grad - accurate_exp(out) * sum;
    }
    return out * (grad - sum);
}

// The same of four elements.
fn grad_terms(grad: vec4<f32>, out: vec4<f32>) -> vec4<f32> {
    return select(grad * out, grad, LOG == 1u);
}

fn grad_values(grad: vec4<f32>, out: vec4<f32>, sum: f32) -> vec4<f32> {
    if LOG == 1u {
        return grad - accurate_exp4(out) * sum;
    }
    return out * (grad - sum);
}

@compute @workgroup_size(WG)
fn rows(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = flat_index(id, groups.x * WG);
    if row >= params.num_rows {
        return;
    }
    let base = row_base(row);
    let end = base + params.axis_len * params.inner;
    var largest = -infinity();
    for (var at = base; at < end; at += params.inner) {
        largest = larger(largest, x[at]);
    }
    var sum = 0.0;
    for (var at = base; at < end; at += params.inner) {
        sum += accurate_exp(x[at] - largest);
    }
    for (var at = base; at < end; at += params.inner) {
        y[at] = value(x[at] - largest, sum);
    }
}

@compute @workgroup_size(WG)
fn rows_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = flat_index(id, groups.x * WG);
    if row >= params.num_rows {
        return;
    }
    let base = row_base(row);
    let end = base + params.axis_len * params.inner;
    var sum = 0.0;
    for (var at = base; at < end; at += params.inner) {
        sum += grad_term(grad_output[at], output[at]);
    }
    for (var at = base; at < end; at += params.inner) {
        grad_input[at] = grad_value(grad_output[at], output[at], sum);
    }
}

fn larger4(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return select(select(b, a, (a > b) | is_nan4(a)), b, is_nan4(b));
}

fn sum_of(x: vec4<f32>) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

@compute @workgroup_size(WG)
fn rows_vec4(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = flat_index(id, groups.x * WG);
    if row >= params.num_rows {
        return;
    }
    let base = row * (params.axis_len / 4u);
    let end = base + params.axis_len / 4u;
    var largest_4 = vec4<f32>(-infinity());
    for (var at = base; at < end; at += 1u) {
        largest_4 = larger4(largest_4, x_vec4[at]);
    }
    let largest = larger(larger(largest_4.x, largest_4.y), larger(largest_4.z, largest_4.w));
    var sum_4 = vec4<f32>();
    for (var at = base; at < end; at += 1u) {
        let exponential = accurate_exp4(x_vec4[at] - largest);
        sum_4 += exponential;
        if LOG == 0u { y_vec4[at] = exponential; }
    }
    let sum = sum_of(sum_4);
    let log_sum = accurate_log(sum);
    for (var at = base; at < end; at += 1u) {
        if LOG == 1u {
            y_vec4[at] = (x_vec4[at] - largest) - log_sum;
        } else {
            y_vec4[at] = y_vec4[at] / sum;
        }
    }
}

@compute @workgroup_size(WG)
fn rows_vec4_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = flat_index(id, groups.x * WG);
    if row >= params.num_rows {
        return;
    }
    let base = row * (params.axis_len / 4u);
    let end = base + params.axis_len / 4u;
    var sum_4 = vec4<f32>();
    for (var at = base; at < end; at += 1u) {
        let grad = grad_output_vec4[at];
        if LOG == 1u { sum_4 += grad; } else { sum_4 += grad * output_vec4[at]; }
    }
    let sum = sum_of(sum_4);
    for (var at = base; at < end; at += 1u) {
        grad_input_vec4[at] = grad_values(grad_output_vec4[at], output_vec4[at], sum);
    }
}

// The maximum of one value from each invocation; must be reached by all.
fn tree_max(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            partial[lane] = larger(partial[lane], partial[lane + half]);
        }
    }
    workgroupBarrier();
    return partial[0];
}

// The sum of one value from each invocation; must be reached by all.
fn tree_sum(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            partial[lane] += partial[lane + half];
        }
    }
    workgroupBarrier();
    return partial[0];
}

@compute @workgroup_size(WG)
fn groups(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) num_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = workgroup_index(group, num_groups);
    let base = row_base(row);
    // A grid folded to two dimensions can have a few workgroups too many; they have no elements.
    let len = select(0u, params.axis_len, row < params.num_rows);
    var largest = -infinity();
    for (var i = lane; i < len; i += WG) {
        largest = larger(largest, x[base + i * params.inner]);
    }
    largest = tree_max(lane, largest);
    var sum = 0.0;
    for (var i = lane; i < len; i += WG) {
        sum += accurate_exp(x[base + i * params.inner] - largest);
    }
    sum = tree_sum(lane, sum);
    for (var i = lane; i < len; i += WG) {
        let at = base + i * params.inner;
        y[at] = value(x[at] - largest, sum);
    }
}

@compute @workgroup_size(WG)
fn groups_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) num_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = workgroup_index(group, num_groups);
    let base = row_base(row);
    let len = select(0u, params.axis_len, row < params.num_rows);
    var sum = 0.0;
    for (var i = lane; i < len; i += WG) {
        let at = base + i * params.inner;
        sum += grad_term(grad_output[at], output[at]);
    }
    sum = tree_sum(lane, sum);
    for (var i = lane; i < len; i += WG) {
        let at = base + i * params.inner;
        grad_input[at] = grad_value(grad_output[at], output[at], sum);
    }
}

// Up to four vec4s of a row that an invocation has: those at `lane`, and each WG further on.
struct Held {
    q_0: vec4<f32>,
    q_1: vec4<f32>,
    q_2: vec4<f32>,
    q_3: vec4<f32>,
}

// Where the vec4s of a row begin, and how many of them are stored.
struct HeldRow {
    first: u32,
    stored: u32,
}

// A grid folded to two dimensions can have a few workgroups too many; they compute the last row and store nothing.
fn held_row(row: u32) -> HeldRow {
    let quads = params.axis_len / 4u;
    return HeldRow(min(row, params.num_rows - 1u) * quads, select(0u, quads, row < params.num_rows));
}

@compute @workgroup_size(WG)
fn held(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) num_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = held_row(workgroup_index(group, num_groups));
    let base = row.first;
    let x = Held(x_or_least(base, lane), x_or_least(base, lane + WG), x_or_least(base, lane + 2u * WG), x_or_least(base, lane + 3u * WG));
    let largest_4 = larger4(larger4(x.q_0, x.q_1), larger4(x.q_2, x.q_3));
    let largest = tree_max(lane, larger(larger(largest_4.x, largest_4.y), larger(largest_4.z, largest_4.w)));
    let e = Held(
        accurate_exp4(x.q_0 - largest), accurate_exp4(x.q_1 - largest),
        accurate_exp4(x.q_2 - largest), accurate_exp4(x.q_3 - largest));
    let sum = tree_sum(lane, sum_of((e.q_0 + e.q_1) + (e.q_2 + e.q_3)));
    let log_sum = accurate_log(sum);
    store_value(base, lane, row.stored, x.q_0 - largest, e.q_0, sum, log_sum);
    store_value(base, lane + WG, row.stored, x.q_1 - largest, e.q_1, sum, log_sum);
    store_value(base, lane + 2u * WG, row.stored, x.q_2 - largest, e.q_2, sum, log_sum);
    store_value(base, lane + 3u * WG, row.stored, x.q_3 - largest, e.q_3, sum, log_sum);
}

// What lies beyond the end of a row is less than all that is in it, and its exponential 0.
fn x_or_least(base: u32, quad: u32) -> vec4<f32> {
    let quads = params.axis_len / 4u;
    return select(vec4<f32>(-infinity()), x_vec4[base + min(quad, quads - 1u)], quad < quads);
}

fn store_value(base: u32, quad: u32, stored: u32, shifted: vec4<f32>, exponential: vec4<f32>, sum: f32, log_sum: f32) {
    if quad < stored {
        y_vec4[base + quad] = select(exponential / sum, shifted - log_sum, LOG == 1u);
    }
}

@compute @workgroup_size(WG)
fn held_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) num_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = held_row(workgroup_index(group, num_groups));
    let base = row.first;
    let grad = Held(
        grad_or_0(base, lane), grad_or_0(base, lane + WG), grad_or_0(base, lane + 2u * WG), grad_or_0(base, lane + 3u * WG));
    let y = Held(
        output_or_0(base, lane), output_or_0(base, lane + WG),
        output_or_0(base, lane + 2u * WG), output_or_0(base, lane + 3u * WG));
    let terms = (grad_terms(grad.q_0, y.q_0) + grad_terms(grad.q_1, y.q_1))
        + (grad_terms(grad.q_2, y.q_2) + grad_terms(grad.q_3, y.q_3));
    let sum = tree_sum(lane, sum_of(terms));
    store_grad(base, lane, row.stored, grad.q_0, y.q_0, sum);
    store_grad(base, lane + WG, row.stored, grad.q_1, y.q_1, sum);
    store_grad(base, lane + 2u * WG, row.stored, grad.q_2, y.q_2, sum);
    store_grad(base, lane + 3u * WG, row.stored, grad.q_3, y.q_3, sum);
}

fn grad_or_0(base: u32, quad: u32) -> vec4<f32> {
    let quads = params.axis_len / 4u;
    return select(vec4<f32>(), grad_output_vec4[base + min(quad, quads - 1u)], quad < quads);
}

fn output_or_0(base: u32, quad: u32) -> vec4<f32> {
    let quads = params.axis_len / 4u;
    return select(vec4<f32>(), output_vec4[base + min(quad, quads - 1u)], quad < quads);
}

fn store_grad(base: u32, quad: u32, stored: u32, grad: vec4<f32>, y: vec4<f32>, sum: f32) {
    if quad < stored {
        grad_input_vec4[base + quad] = grad_values(grad, y, sum);
    }
}
