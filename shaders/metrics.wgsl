// What training reports of one batch, as a row of a table that is read once an epoch:
//
//   table[row] = (loss · N, number of rows whose largest logit is the label's, number of logits that are infinite or
//                 not a number, N)
//
// logits (N, C), labels (N), loss (): the mean over the batch. The first of equal logits counts as the largest; a row with
// a NaN predicts nothing and is never correct. One workgroup does it all: invocations take every WG-th row, then a tree
// adds up. Needs lib/nan.wgsl.

struct Params {
    batch: u32,
    num_classes: u32,
    num_rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> row: u32;
@group(0) @binding(2) var<storage, read> loss: array<f32>;
@group(0) @binding(3) var<storage, read> logits: array<f32>;
@group(0) @binding(4) var<storage, read> labels: array<u32>;
@group(0) @binding(5) var<storage, read_write> table: array<f32>;

override WG: u32 = 64;

// All bits of the exponent set: infinite or not a number. Compilers may assume that neither occurs, so bits are asked.
const EXPONENT_BITS: u32 = 0x7f800000u;
const COLUMNS: u32 = 4u;

var<workgroup> num_correct: array<u32, WG>;
var<workgroup> num_non_finite: array<u32, WG>;

@compute @workgroup_size(WG)
fn update(@builtin(local_invocation_index) lane: u32) {
    var correct = 0u;
    var non_finite = 0u;
    for (var n = lane; n < params.batch; n += WG) {
        var best = logits[n * params.num_classes];
        var best_class = 0u;
        var has_nan = false;
        for (var class_index = 0u; class_index < params.num_classes; class_index += 1u) {
            let logit = logits[n * params.num_classes + class_index];
            non_finite += select(0u, 1u, (bitcast<u32>(logit) & EXPONENT_BITS) == EXPONENT_BITS);
            has_nan = has_nan || is_nan(logit);
            if logit > best {
                best = logit;
                best_class = class_index;
            }
        }
        correct += select(0u, 1u, best_class == labels[n] && !has_nan);
    }
    num_correct[lane] = correct;
    num_non_finite[lane] = non_finite;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            num_correct[lane] += num_correct[lane + half];
            num_non_finite[lane] += num_non_finite[lane + half];
        }
    }
    if lane == 0u && row < params.num_rows {
        table[row * COLUMNS] = loss[0] * f32(params.batch);
        table[row * COLUMNS + 1u] = f32(num_correct[0]);
        table[row * COLUMNS + 2u] = f32(num_non_finite[0]);
        table[row * COLUMNS + 3u] = f32(params.batch);
    }
}
