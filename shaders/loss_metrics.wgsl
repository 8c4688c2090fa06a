// The loss of a batch and what training reports of it, as a row of a table, in one dispatch: cross_entropy.whole and
// metrics.update of the same logits, by the same sums in the same order.
//
//   table[row] = (loss · N, rows whose largest logit is the label's, logits that are infinite or not a number, N)
//
// logits (N, C), labels (N), class_weights (C). A thread takes every WG-th row, then a tree adds up.
//
// Needs lib/nan.wgsl and lib/math.wgsl.

struct Params {
    num_rows: u32,
    num_classes: u32,
    ignore_index: u32,
    table_rows: u32,
    label_smoothing: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> row: u32;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> class_weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> table: array<f32>;

override WG: u32 = 64;
override IS_MEAN: u32 = 1u;

const EXPONENT_BITS: u32 = 0x7f800000u;
const COLUMNS: u32 = 4u;

// What the rows of a thread add up to.
struct Sums {
    loss: f32,
    weight: f32,
    correct: u32,
    non_finite: u32,
}

var<workgroup> losses: array<vec2<f32>, WG>;
var<workgroup> counts: array<vec2<u32>, WG>;

fn add_row(sums: ptr<function, Sums>, n: u32) {
    let base = n * params.num_classes;
    let label = labels[n];
    var largest = -infinity();
    var best = logits[base];
    var best_class = 0u;
    var has_nan = false;
    for (var c = 0u; c < params.num_classes; c += 1u) {
        let logit = logits[base + c];
        largest = larger(largest, logit);
        (*sums).non_finite += select(0u, 1u, (bitcast<u32>(logit) & EXPONENT_BITS) == EXPONENT_BITS);
        has_nan = has_nan || is_nan(logit);
        if logit > best {
            best = logit;
            best_class = c;
        }
    }
    (*sums).correct += select(0u, 1u, best_class == label && !has_nan);
    if label >= params.num_classes || label == params.ignore_index {
        return;
    }
    var sum = 0.0;
    for (var c = 0u; c < params.num_classes; c += 1u) {
        sum += accurate_exp(logits[base + c] - largest);
    }
    let log_sum = accurate_log(sum);
    let weight = class_weights[label];
    (*sums).weight += weight;
    let nll = -weight * (logits[base + label] - largest - log_sum);
    // Without smoothing the sum is left out: a class of probability 0 must not make the loss infinite.
    if params.label_smoothing == 0.0 {
        (*sums).loss += nll;
        return;
    }
    var smooth_nll = 0.0;
    for (var c = 0u; c < params.num_classes; c += 1u) {
        smooth_nll -= class_weights[c] * (logits[base + c] - largest - log_sum);
    }
    let share = params.label_smoothing / f32(params.num_classes);
    (*sums).loss += (1.0 - params.label_smoothing) * nll + share * smooth_nll;
}

@compute @workgroup_size(WG)
fn update(@builtin(local_invocation_index) lane: u32) {
    var sums = Sums();
    for (var n = lane; n < params.num_rows; n += WG) {
        add_row(&sums, n);
    }
    losses[lane] = vec2<f32>(sums.loss, sums.weight);
    counts[lane] = vec2<u32>(sums.correct, sums.non_finite);
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            losses[lane] += losses[lane + half];
            counts[lane] += counts[lane + half];
        }
    }
    if lane == 0u && row < params.table_rows {
        var loss = losses[0].x;
        if IS_MEAN == 1u {
            loss /= losses[0].y;
        }
        table[row * COLUMNS] = loss * f32(params.num_rows);
        table[row * COLUMNS + 1u] = f32(counts[0].x);
        table[row * COLUMNS + 2u] = f32(counts[0].y);
        table[row * COLUMNS + 3u] = f32(params.num_rows);
    }
}
