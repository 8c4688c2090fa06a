// The loss of logits or log-probabilities over classes against class indices, and its gradient.
//
//   logp_c  = x_c − m − log Σ exp(x − m)  for logits (m = max x);  x_c where x holds log-probabilities already
//   loss_n  = −(1 − ε)·w_y·logp_y − (ε/C)·Σ_c w_c·logp_c            y = labels[n], ε = label smoothing
//   weight_n = w_y
//   sum: Σ loss_n;  mean: Σ loss_n / Σ weight_n
//
//   grad_x_c = g·(softmax_c·Σ_k q_k − q_c) for logits, −g·q_c for log-probabilities,
//   q_c = (1 − ε)·w_y·[c = y] + (ε/C)·w_c,  g = grad (none, sum) or grad / Σ weight_n (mean)
//
// x and grad_x are (N, C), labels (N), class_weights (C); grad is (N) or (). A row whose label is ignore_index, or no
// class at all, has loss, weight and gradient 0.
//
//   each      one invocation computes the loss of one row; no reduction
//   whole     one workgroup computes all rows and reduces them: each invocation every WG-th row, then a tree
//   slices    one workgroup reduces one slice of rows to a partial loss and a partial weight
//   merge     one workgroup reduces the partials of all slices
//   backward  one invocation computes one row of grad_x
//
// Needs lib/nan.wgsl, lib/math.wgsl, lib/ahead.wgsl and lib/row_loss.wgsl.

struct Params {
    num_rows: u32,
    num_classes: u32,
    ignore_index: u32,
    slice_rows: u32,
    label_smoothing: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> class_weights: array<f32>;

// each: (N).  whole, merge: ().
@group(0) @binding(4) var<storage, read_write> loss: array<f32>;
// whole, merge: (), the sum of the rows' weights.
@group(0) @binding(5) var<storage, read_write> total_weight: array<f32>;
// slices: (num_slices, 2), partial loss and partial weight.
@group(0) @binding(4) var<storage, read_write> slice_sums: array<vec2<f32>>;
// merge: the same.
@group(0) @binding(1) var<storage, read> partial_sums: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> merged_loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> merged_weight: array<f32>;

// backward; where the loss is no mean, weight_sum is bound to grad and not read.
@group(0) @binding(4) var<storage, read> grad: array<f32>;
@group(0) @binding(5) var<storage, read> weight_sum: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad_x: array<f32>;

override WG: u32 = 64;
// 1 where x holds log-probabilities, 0 for logits.
override LOG_PROBS: u32 = 0;
// 0 none, 1 sum, 2 mean.
override REDUCTION: u32 = 2;

var<workgroup> partial: array<vec2<f32>, WG>;

@compute @workgroup_size(WG)
fn each(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = flat_index(id, groups.x * WG);
    if row < params.num_rows {
        loss[row] = row_loss(row).x;
    }
}

// The sum of one value from each invocation; must be reached by all.
fn tree(lane: u32, value: vec2<f32>) -> vec2<f32> {
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

fn reduced(sums: vec2<f32>) -> f32 {
    if REDUCTION == 2u {
        return sums.x / sums.y;
    }
    return sums.x;
}

@compute @workgroup_size(WG)
fn whole(@builtin(local_invocation_index) lane: u32) {
    var sums = vec2(0.0);
    for (var row = lane; row < params.num_rows; row += WG) {
        sums += row_loss(row);
    }
    sums = tree(lane, sums);
    if lane == 0u {
        loss[0] = reduced(sums);
        total_weight[0] = sums.y;
    }
}

@compute @workgroup_size(WG)
fn slices(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let slice = workgroup_index(group, groups);
    let first = slice * params.slice_rows;
    let last = min(first + params.slice_rows, params.num_rows);
    var sums = vec2(0.0);
    for (var row = first + lane; row < last; row += WG) {
        sums += row_loss(row);
    }
    sums = tree(lane, sums);
    // A grid folded to two dimensions can have a few workgroups too many.
    if lane == 0u && first < params.num_rows {
        slice_sums[slice] = sums;
    }
}

@compute @workgroup_size(WG)
fn merge(@builtin(local_invocation_index) lane: u32) {
    let num_slices = (params.num_rows + params.slice_rows - 1u) / params.slice_rows;
    var sums = vec2(0.0);
    for (var slice = lane; slice < num_slices; slice += WG) {
        sums += partial_sums[slice];
    }
    sums = tree(lane, sums);
    if lane == 0u {
        merged_loss[0] = reduced(sums);
        merged_weight[0] = sums.y;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = flat_index(id, groups.x * WG);
    if row >= params.num_rows {
        return;
    }
    let base = row * params.num_classes;
    let label = labels[row];
    if !is_counted(label) {
        for (var c = 0u; c < params.num_classes; c += 1u) {
            grad_x[base + c] = 0.0;
        }
        return;
    }
    var row_grad = grad[select(0u, row, REDUCTION == 0u)];
    if REDUCTION == 2u {
        row_grad /= weight_sum[0];
    }
    let of_label = (1.0 - params.label_smoothing) * class_weights[label];
    let share = params.label_smoothing / f32(params.num_classes);
    let scale = row_scale(base);
    var of_all = of_label;
    for (var c = 0u; c < params.num_classes; c += 1u) {
        of_all += share * class_weights[c];
    }
    for (var c = 0u; c < params.num_classes; c += 1u) {
        let q = select(0.0, of_label, c == label) + share * class_weights[c];
        if LOG_PROBS == 1u {
            // Selected, not multiplied: the other classes have no part in the loss. There is no smoothing here.
            grad_x[base + c] = select(0.0, -row_grad * q, c == label);
        } else {
            grad_x[base + c] = row_grad * (accurate_exp(x[base + c] - scale.x) / scale.y * of_all - q);
        }
    }
}
