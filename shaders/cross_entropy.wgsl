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
//   whole     one workgroup computes all rows, THREADS at a time, and adds them up as by WG invocations of which each had every
//             WG-th row, then by a tree
//   slices    one workgroup reduces one slice of rows in this way to a partial loss and a partial weight
//   merge     one workgroup reduces the partials of all slices
//   backward  one invocation computes one row of grad_x
//   backward_row  one workgroup computes one row of grad_x, of at most 8 WG classes; sums are those of `backward`, in its order
//
// Needs lib/nan.wgsl, lib/math.wgsl, lib/in_order.wgsl, lib/ahead.wgsl and lib/row_loss.wgsl.

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
override THREADS: u32 = WG; // a multiple of it
// 1 where x holds log-probabilities, 0 for logits.
override LOG_PROBS: u32 = 0;
// 0 none, 1 sum, 2 mean.
override REDUCTION: u32 = 2;

// Classes of a row of backward_row, in whole fours.
override ROW: u32 = 4;

var<workgroup> partial: array<vec2<f32>, THREADS>;
var<workgroup> exponentials: array<f32, ROW>;
var<workgroup> row_weights: array<f32, ROW>;

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

// Those of the rows from `first` to before `last` that the invocation adds up; must be reached by all.
fn sums_of_rows(first: u32, last: u32, lane: u32) -> vec2<f32> {
    var sums = vec2(0.0);
    for (var start = first; start < last; start += THREADS) {
        var own = vec2(0.0);
        if start + lane < last {
            own = row_loss(start + lane);
        }
        if THREADS == WG {
            sums += own;
        } else {
            partial[lane] = own;
            workgroupBarrier();
            for (var other = lane; lane < WG && other < THREADS; other += WG) {
                sums += partial[other];
            }
            workgroupBarrier();
        }
    }
    return sums;
}

@compute @workgroup_size(THREADS)
fn whole(@builtin(local_invocation_index) lane: u32) {
    let sums = tree(lane, sums_of_rows(0u, params.num_rows, lane));
    if lane == 0u {
        loss[0] = reduced(sums);
        total_weight[0] = sums.y;
    }
}

@compute @workgroup_size(THREADS)
fn slices(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let slice = workgroup_index(group, groups);
    let first = slice * params.slice_rows;
    let last = min(first + params.slice_rows, params.num_rows);
    let sums = tree(lane, sums_of_rows(first, last, lane));
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

// The sum over classes of q, given what the label and each class have in it.
fn sum_of_targets(of_label: f32, share: f32) -> f32 {
    var sum = of_label;
    var c = 0u;
    for (; AHEAD == 1u && c < params.num_classes; c += 8u) {
        let weights = eight_class_weights(c);
        let left = params.num_classes - c;
        sum = add_four(sum, share * weights.low, left);
        sum = add_four(sum, share * weights.high, max(left, 4u) - 4u);
    }
    for (; c < params.num_classes; c += 1u) {
        sum += share * class_weights[c];
    }
    return sum;
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

// That of a class, of whose logit above the largest this is the exponential.
fn gradient_of(terms: RowTerms, c: u32, exponential: f32, weight: f32) -> f32 {
    let q = select(0.0, terms.of_label, c == terms.label) + terms.share * weight;
    if LOG_PROBS == 1u {
        // Selected, not multiplied: the other classes have no part in the loss. There is no smoothing here.
        return select(0.0, -terms.row_grad * q, c == terms.label);
    }
    return terms.row_grad * (exponential / terms.scale.y * terms.of_all - q);
}

fn class_gradient(terms: RowTerms, c: u32, logit: f32, weight: f32) -> f32 {
    return gradient_of(terms, c, accurate_exp(logit - terms.scale.x), weight);
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

// Where an invocation's logits are, and whether there are so many: WG apart.
fn own_logit(base: u32, c: u32) -> f32 {
    return select(-infinity(), x[base + min(c, params.num_classes - 1u)], c < params.num_classes);
}

fn own_logits(base: u32, c: u32) -> vec4<f32> {
    return vec4<f32>(
        own_logit(base, c), own_logit(base, c + WG), own_logit(base, c + 2u * WG), own_logit(base, c + 3u * WG));
}

fn own_weights(c: u32) -> vec4<f32> {
    return vec4<f32>(weight_of(c), weight_of(c + WG), weight_of(c + 2u * WG), weight_of(c + 3u * WG));
}

fn keep_class(c: u32, exponential: f32, weight: f32) {
    if c < ROW {
        let is_class = c < params.num_classes;
        exponentials[c] = select(0.0, exponential, is_class);
        row_weights[c] = select(0.0, weight, is_class);
    }
}

fn keep_classes(c: u32, values: vec4<f32>, weights: vec4<f32>) {
    keep_class(c, values.x, weights.x);
    keep_class(c + WG, values.y, weights.y);
    keep_class(c + 2u * WG, values.z, weights.z);
    keep_class(c + 3u * WG, values.w, weights.w);
}

// The largest of one value from each invocation; must be reached by all.
fn tree_max(lane: u32, value: f32) -> f32 {
    partial[lane].x = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            partial[lane].x = larger(partial[lane].x, partial[lane + half].x);
        }
    }
    workgroupBarrier();
    return partial[0].x;
}

fn larger_lanes(x: vec4<f32>) -> f32 {
    return larger(larger(x.x, x.y), larger(x.z, x.w));
}

@compute @workgroup_size(WG)
fn backward_row(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // A grid folded to two dimensions can have a few workgroups too many; they compute the last row again.
    let row = min(workgroup_index(group, groups), params.num_rows - 1u);
    let base = row * params.num_classes;
    // All that is loaded, at once.
    let label = labels[row];
    var row_grad = grad[select(0u, row, REDUCTION == 0u)];
    if REDUCTION == 2u {
        row_grad /= weight_sum[0];
    }
    let low = own_logits(base, lane);
    let low_weights = own_weights(lane);
    var high = vec4<f32>(-infinity());
    var high_weights = vec4<f32>();
    if ROW > 4u * WG {
        high = own_logits(base, lane + 4u * WG);
        high_weights = own_weights(lane + 4u * WG);
    }
    var scale = vec2<f32>(0.0, 1.0);
    if LOG_PROBS == 0u {
        scale.x = tree_max(lane, larger(larger_lanes(low), larger_lanes(high)));
    }
    keep_classes(lane, accurate_exp4(low - scale.x), low_weights);
    if ROW > 4u * WG {
        keep_classes(lane + 4u * WG, accurate_exp4(high - scale.x), high_weights);
    }
    workgroupBarrier();
    let known = min(label, params.num_classes - 1u);
    let of_label = (1.0 - params.label_smoothing) * row_weights[known];
    let share = params.label_smoothing / f32(params.num_classes);
    if lane == 0u {
        // The sums of the exponentials and of q, in order.
        var sums = vec2<f32>(0.0, of_label);
        for (var c = 0u; c < ROW; c += 4u) {
            sums += vec2<f32>(exponentials[c], share * row_weights[c]);
            sums += vec2<f32>(exponentials[c + 1u], share * row_weights[c + 1u]);
            sums += vec2<f32>(exponentials[c + 2u], share * row_weights[c + 2u]);
            sums += vec2<f32>(exponentials[c + 3u], share * row_weights[c + 3u]);
        }
        partial[0] = sums;
    }
    workgroupBarrier();
    let sums = partial[0];
    if LOG_PROBS == 0u {
        scale.y = sums.x;
    }
    let terms = RowTerms(row_grad, of_label, share, sums.y, scale, label);
    let has_gradient = is_counted(label);
    for (var c = lane; c < params.num_classes; c += WG) {
        let value = gradient_of(terms, c, exponentials[c], row_weights[c]);
        grad_x[base + c] = select(0.0, value, has_gradient);
    }
}
