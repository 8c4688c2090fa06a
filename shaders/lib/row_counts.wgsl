// What training counts in a row of logits. Needs nan.wgsl and the shader's own params.num_classes, x (N, C) and
// labels (N).

// All bits of the exponent set: infinite or not a number. Compilers may assume that neither occurs, so bits are tested.
const EXPONENT_BITS: u32 = 0x7f800000u;

// Columns of the table of metrics: loss · N, correct rows, non-finite logits, N.
const COLUMNS: u32 = 4u;

// 1 if the row's largest logit is its label's, else 0, and the number of logits that are infinite or not a number. The
// first of equal logits counts as the largest; a row with a NaN predicts nothing and is never correct.
fn row_counts(row: u32) -> vec2<u32> {
    let base = row * params.num_classes;
    var largest = x[base];
    var predicted = 0u;
    var non_finite = 0u;
    var has_nan = false;
    for (var c = 0u; c < params.num_classes; c += 1u) {
        let logit = x[base + c];
        non_finite += select(0u, 1u, (bitcast<u32>(logit) & EXPONENT_BITS) == EXPONENT_BITS);
        has_nan = has_nan || is_nan(logit);
        if logit > largest {
            largest = logit;
            predicted = c;
        }
    }
    return vec2(select(0u, 1u, predicted == labels[row] && !has_nan), non_finite);
}
