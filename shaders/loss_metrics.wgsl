// The loss of a batch and what training reports of it, as a row of a table, in one dispatch: cross_entropy.whole and
// metrics.update of the same logits, by the same sums in the same order.
//
//   table[row] = (loss · N, rows whose largest logit is the label's, logits that are infinite or not a number, N)
//
// x (N, C) are the logits, labels (N), class_weights (C). THREADS rows are computed at a time. What they give is added up as by WG
// threads of which each had every WG-th row, then by a tree.
//
// Needs lib/nan.wgsl, lib/math.wgsl, lib/ahead.wgsl, lib/row_loss.wgsl and lib/row_counts.wgsl.

struct Params {
    num_rows: u32,
    num_classes: u32,
    ignore_index: u32,
    table_rows: u32,
    label_smoothing: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> row: u32;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> class_weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> table: array<f32>;

override WG: u32 = 64;
override THREADS: u32 = WG; // a multiple of it
override IS_MEAN: u32 = 1u;

const LOG_PROBS: u32 = 0u;

var<workgroup> losses: array<vec2<f32>, THREADS>; // loss and weight
var<workgroup> counts: array<vec2<u32>, THREADS>; // correct rows and non-finite logits

@compute @workgroup_size(THREADS)
fn update(@builtin(local_invocation_index) lane: u32) {
    var loss_sums = vec2<f32>();
    var count_sums = vec2<u32>();
    for (var first = 0u; first < params.num_rows; first += THREADS) {
        let n = first + lane;
        var own_loss = vec2<f32>();
        var own_counts = vec2<u32>();
        if n < params.num_rows {
            own_loss = row_loss(n);
            own_counts = row_counts(n);
        }
        if THREADS == WG {
            loss_sums += own_loss;
            count_sums += own_counts;
        } else {
            losses[lane] = own_loss;
            counts[lane] = own_counts;
            workgroupBarrier();
            for (var other = lane; lane < WG && other < THREADS; other += WG) {
                loss_sums += losses[other];
                count_sums += counts[other];
            }
            workgroupBarrier();
        }
    }
    losses[lane] = loss_sums;
    counts[lane] = count_sums;
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
