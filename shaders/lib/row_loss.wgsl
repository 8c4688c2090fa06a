// The cross-entropy of one row; see cross_entropy.wgsl for the formula. Needs nan.wgsl, math.wgsl, in_order.wgsl, ahead.wgsl, and the
// shader's own params.num_classes, .ignore_index and .label_smoothing, x (N, C), labels (N), class_weights (C) and LOG_PROBS, which is
// 1 where x holds log-probabilities and 0 for logits.

fn is_counted(label: u32) -> bool {
    return label < params.num_classes && label != params.ignore_index;
}

// The maximum of the row that starts at `base` and the sum of the exponentials of what lies above it; (0, 1) for
// log-probabilities, so that both kinds of input give logp = x − .x − log(.y).
fn row_scale(base: u32) -> vec2<f32> {
    if LOG_PROBS == 1u {
        return vec2(0.0, 1.0);
    }
    var largest = -infinity();
    var c = 0u;
    // Those of the next iteration are on their way while one is computed.
    var next = first_ahead(base);
    for (; AHEAD == 1u && c < params.num_classes; c += 32u) {
        let logits = next;
        next = more_ahead(base, c + 32u);
        let left = params.num_classes - c;
        largest = larger_of_eight(largest, logits.e_0);
        if left > 8u { largest = larger_of_eight(largest, logits.e_1); }
        if left > 16u { largest = larger_of_eight(largest, logits.e_2); }
        if left > 24u { largest = larger_of_eight(largest, logits.e_3); }
    }
    for (; c < params.num_classes; c += 1u) {
        largest = larger(largest, x[base + c]);
    }
    var sum = 0.0;
    c = 0u;
    next = first_ahead(base);
    for (; AHEAD == 1u && c < params.num_classes; c += 32u) {
        let logits = next;
        next = more_ahead(base, c + 32u);
        let left = params.num_classes - c;
        sum = add_eight(sum, logits.e_0, largest, left);
        if left > 8u { sum = add_eight(sum, logits.e_1, largest, left - 8u); }
        if left > 16u { sum = add_eight(sum, logits.e_2, largest, left - 16u); }
        if left > 24u { sum = add_eight(sum, logits.e_3, largest, left - 24u); }
    }
    for (; c < params.num_classes; c += 1u) {
        sum += accurate_exp(x[base + c] - largest);
    }
    return vec2(largest, sum);
}

fn larger_of_eight(largest: f32, x: Eight) -> f32 {
    return larger_of_four(larger_of_four(largest, x.low), x.high);
}

// Adds the exponentials of the first `count` of eight above the largest, in order.
fn add_eight(sum: f32, x: Eight, largest: f32, count: u32) -> f32 {
    let of_low = add_four(sum, accurate_exp4(x.low - largest), count);
    return add_four(of_low, accurate_exp4(x.high - largest), max(count, 4u) - 4u);
}

fn log_probs(x: Eight, largest: f32, log_sum: f32) -> Eight {
    return Eight(x.low - largest - log_sum, x.high - largest - log_sum);
}

// Subtracts weighted terms of the class `c` and of the seven after it, as many as there are, in order.
fn less_eight(sum: f32, weights: Eight, terms: Eight, c: u32) -> f32 {
    return less_four(less_four(sum, weights.low, terms.low, c), weights.high, terms.high, c + 4u);
}

fn less_four(sum: f32, weights: vec4<f32>, terms: vec4<f32>, c: u32) -> f32 {
    var result = sum;
    result = select(result, result - weights.x * terms.x, c < params.num_classes);
    result = select(result, result - weights.y * terms.y, c + 1u < params.num_classes);
    result = select(result, result - weights.z * terms.z, c + 2u < params.num_classes);
    return select(result, result - weights.w * terms.w, c + 3u < params.num_classes);
}

// The weights of the class `c` and seven after it; beyond the last class the last one's.
fn eight_class_weights(c: u32) -> Eight {
    return Eight(
        vec4<f32>(weight_of(c), weight_of(c + 1u), weight_of(c + 2u), weight_of(c + 3u)),
        vec4<f32>(weight_of(c + 4u), weight_of(c + 5u), weight_of(c + 6u), weight_of(c + 7u)),
    );
}

// The weights of the class `c` and 31 after it; eights that begin beyond the last class are not loaded.
fn class_weights_ahead(c: u32) -> ThirtyTwo {
    let left = params.num_classes - c;
    var all = ThirtyTwo();
    all.e_0 = eight_class_weights(c);
    if left > 8u { all.e_1 = eight_class_weights(c + 8u); }
    if left > 16u { all.e_2 = eight_class_weights(c + 16u); }
    if left > 24u { all.e_3 = eight_class_weights(c + 24u); }
    return all;
}

fn weight_of(c: u32) -> f32 {
    return class_weights[min(c, params.num_classes - 1u)];
}

// Loss and weight of a row.
fn row_loss(row: u32) -> vec2<f32> {
    let label = labels[row];
    if !is_counted(label) {
        return vec2(0.0);
    }
    let base = row * params.num_classes;
    let weight = class_weights[label];
    let of_label = x[base + label];
    let scale = row_scale(base);
    let log_sum = accurate_log(scale.y);
    let nll = -weight * (of_label - scale.x - log_sum);
    // Without smoothing the sum is left out: a class of probability 0 must not make the loss infinite.
    if params.label_smoothing == 0.0 {
        return vec2(nll, weight);
    }
    var smooth_nll = 0.0;
    var c = 0u;
    for (; AHEAD == 1u && c < params.num_classes; c += 32u) {
        let logits = logits_ahead(base, c);
        let weights = class_weights_ahead(c);
        smooth_nll = less_eight(smooth_nll, weights.e_0, log_probs(logits.e_0, scale.x, log_sum), c);
        smooth_nll = less_eight(smooth_nll, weights.e_1, log_probs(logits.e_1, scale.x, log_sum), c + 8u);
        smooth_nll = less_eight(smooth_nll, weights.e_2, log_probs(logits.e_2, scale.x, log_sum), c + 16u);
        smooth_nll = less_eight(smooth_nll, weights.e_3, log_probs(logits.e_3, scale.x, log_sum), c + 24u);
    }
    for (; c < params.num_classes; c += 1u) {
        smooth_nll -= class_weights[c] * (x[base + c] - scale.x - log_sum);
    }
    let share = params.label_smoothing / f32(params.num_classes);
    return vec2((1.0 - params.label_smoothing) * nll + share * smooth_nll, weight);
}
