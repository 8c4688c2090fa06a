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

// The weights of the class `c` and seven after it; beyond the last class the last one's.
fn eight_class_weights(c: u32) -> Eight {
    return Eight(
        vec4<f32>(weight_of(c), weight_of(c + 1u), weight_of(c + 2u), weight_of(c + 3u)),
        vec4<f32>(weight_of(c + 4u), weight_of(c + 5u), weight_of(c + 6u), weight_of(c + 7u)),
    );
}

fn weight_of(c: u32) -> f32 {
    return class_weights[min(c, params.num_classes - 1u)];
}

// The sum over classes of q, given what the label and each class have in it.
fn sum_of_targets(of_label: f32, share: f32) -> f32 {
    var sum = of_label;
    var c = 0u;
    for (; AHEAD == 1u && c < params.num_classes; c += 8u) {
        let weights = eight_class_weights(c);
        let left = params.num_classes - c;
        sum = add_shares(sum, share, weights.low, left);
        sum = add_shares(sum, share, weights.high, max(left, 4u) - 4u);
    }
    for (; c < params.num_classes; c += 1u) {
        sum += share * class_weights[c];
    }
    return sum;
}

// Adds those of the first `count` of four classes, in order.
fn add_shares(sum: f32, share: f32, weights: vec4<f32>, count: u32) -> f32 {
    var result = sum;
    result = select(result, result + share * weights.x, count > 0u);
    result = select(result, result + share * weights.y, count > 1u);
    result = select(result, result + share * weights.z, count > 2u);
    return select(result, result + share * weights.w, count > 3u);
}

// What the gradients of a row have in common.
struct RowTerms {
    row_grad: f32,
    of_label: f32,
    share: f32,
    of_all: f32,
    scale: vec2<f32>,
    label: u32,
}

fn class_gradient(terms: RowTerms, c: u32, logit: f32, weight: f32) -> f32 {
    let q = select(0.0, terms.of_label, c == terms.label) + terms.share * weight;
    if LOG_PROBS == 1u {
        // Selected, not multiplied: the other classes have no part in the loss. There is no smoothing here.
        return select(0.0, -terms.row_grad * q, c == terms.label);
    }
    return terms.row_grad * (accurate_exp(logit - terms.scale.x) / terms.scale.y * terms.of_all - q);
}

// Those of four classes, as many as there are.
fn store_four(base: u32, c: u32, terms: RowTerms, logits: vec4<f32>, weights: vec4<f32>) {
    if c < params.num_classes { grad_x[base + c] = class_gradient(terms, c, logits.x, weights.x); }
    if c + 1u < params.num_classes { grad_x[base + c + 1u] = class_gradient(terms, c + 1u, logits.y, weights.y); }
    if c + 2u < params.num_classes { grad_x[base + c + 2u] = class_gradient(terms, c + 2u, logits.z, weights.z); }
    if c + 3u < params.num_classes { grad_x[base + c + 3u] = class_gradient(terms, c + 3u, logits.w, weights.w); }
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
    let terms = RowTerms(row_grad, of_label, share, sum_of_targets(of_label, share), scale, label);
    var c = 0u;
    for (; AHEAD == 1u && c < params.num_classes; c += 8u) {
        let logits = eight_logits(base, c);
        let weights = eight_class_weights(c);
        store_four(base, c, terms, logits.low, weights.low);
        store_four(base, c + 4u, terms, logits.high, weights.high);
    }
    for (; c < params.num_classes; c += 1u) {
        grad_x[base + c] = class_gradient(terms, c, x[base + c], class_weights[c]);
    }
}
