// What training reports of one batch, as a row of a table that is read once an epoch:
//
//   table[row] = (loss · N, rows whose largest logit is the label's, logits that are infinite or not a number, N)
//
// x (N, C) are the logits, labels (N), loss () the mean over the batch. One workgroup does it all: a thread takes every
// WG-th row, then a tree adds up. Needs lib/nan.wgsl, lib/ahead.wgsl and lib/row_counts.wgsl.

struct Params {
    batch: u32,
    num_classes: u32,
    num_rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> row: u32;
@group(0) @binding(2) var<storage, read> loss: array<f32>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read> labels: array<u32>;
@group(0) @binding(5) var<storage, read_write> table: array<f32>;

override WG: u32 = 64;

var<workgroup> counts: array<vec2<u32>, WG>; // correct rows and non-finite logits

@compute @workgroup_size(WG)
fn update(@builtin(local_invocation_index) lane: u32) {
    var sums = vec2<u32>();
    for (var n = lane; n < params.batch; n += WG) {
        sums += row_counts(n);
    }
    counts[lane] = sums;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            counts[lane] += counts[lane + half];
        }
    }
    if lane == 0u && row < params.num_rows {
        table[row * COLUMNS] = loss[0] * f32(params.batch);
        table[row * COLUMNS + 1u] = f32(counts[0].x);
        table[row * COLUMNS + 2u] = f32(counts[0].y);
        table[row * COLUMNS + 3u] = f32(params.batch);
    }
}
