// What training counts in a row of logits. Needs nan.wgsl, ahead.wgsl and the shader's own params.num_classes, x (N, C) and
// labels (N).

// All bits of the exponent set: infinite or not a number. Compilers may assume that neither occurs, so bits are tested.
const EXPONENT_BITS: u32 = 0x7f800000u;

// Columns of the table of metrics: loss · N, correct rows, non-finite logits, N.
const COLUMNS: u32 = 4u;

struct Counts {
    largest: f32,
    predicted: u32,
    non_finite: u32,
    has_nan: bool,
}

fn counted(before: Counts, logit: f32, c: u32) -> Counts {
    var after = before;
    after.non_finite += select(0u, 1u, (bitcast<u32>(logit) & EXPONENT_BITS) == EXPONENT_BITS);
    after.has_nan = before.has_nan | is_nan(logit);
    if logit > before.largest {
        after.largest = logit;
        after.predicted = c;
    }
    return after;
}

// The first of four logits that are of classes.
fn counted_four(before: Counts, logits: vec4<f32>, c: u32) -> Counts {
    var after = before;
    if c < params.num_classes { after = counted(after, logits.x, c); }
    if c + 1u < params.num_classes { after = counted(after, logits.y, c + 1u); }
    if c + 2u < params.num_classes { after = counted(after, logits.z, c + 2u); }
    if c + 3u < params.num_classes { after = counted(after, logits.w, c + 3u); }
    return after;
}

fn counted_eight(before: Counts, logits: Eight, c: u32) -> Counts {
    return counted_four(counted_four(before, logits.low, c), logits.high, c + 4u);
}

// 1 if the row's largest logit is its label's, else 0, and the number of logits that are infinite or not a number. The
// first of equal logits counts as the largest; a row with a NaN predicts nothing and is never correct.
fn row_counts(row: u32) -> vec2<u32> {
    let base = row * params.num_classes;
    let label = labels[row];
    var counts = Counts(x[base], 0u, 0u, false);
    var c = 0u;
    var next = first_ahead(base);
    for (; AHEAD == 1u && c < params.num_classes; c += 32u) {
        let logits = next;
        next = more_ahead(base, c + 32u);
        let left = params.num_classes - c;
        counts = counted_eight(counts, logits.e_0, c);
        if left > 8u { counts = counted_eight(counts, logits.e_1, c + 8u); }
        if left > 16u { counts = counted_eight(counts, logits.e_2, c + 16u); }
        if left > 24u { counts = counted_eight(counts, logits.e_3, c + 24u); }
    }
    for (; c < params.num_classes; c += 1u) {
        counts = counted(counts, x[base + c], c);
    }
    return vec2(select(0u, 1u, counts.predicted == label && !counts.has_nan), counts.non_finite);
}
