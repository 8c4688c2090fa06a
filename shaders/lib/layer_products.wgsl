// Products of a fully connected layer's weights with one row, forward and back, for mlp_chain.wgsl. Needs its `parameters`, the
// row's `values` in workgroup memory, and their gradients, `grads`.

override ALIGNED: u32 = 0u; // 1 where the widths of all layers but the last are multiples of 4

fn parameter(index: u32) -> f32 {
    return parameters[index / 4u][index % 4u];
}

fn weight_at(first: u32, k: u32, width: u32) -> f32 {
    return select(0.0, parameter(first + min(k, width - 1u)), k < width);
}

// Weights 4 * quad to 4 * quad + 3 of the row of `width` at `first`; 0 beyond it.
fn weights_of(first: u32, quad: u32, width: u32) -> vec4<f32> {
    let k = 4u * quad;
    if ALIGNED == 1u {
        return select(vec4<f32>(), parameters[first / 4u + min(quad, width / 4u - 1u)], k < width);
    }
    return vec4<f32>(
        weight_at(first, k, width), weight_at(first, k + 1u, width), weight_at(first, k + 2u, width), weight_at(first, k + 3u, width));
}

fn value_at(start: u32, k: u32, width: u32) -> f32 {
    return select(0.0, values[start + min(k, width - 1u)], k < width);
}

fn values_of(start: u32, quad: u32, width: u32) -> vec4<f32> {
    let k = 4u * quad;
    return vec4<f32>(
        value_at(start, k, width), value_at(start, k + 1u, width), value_at(start, k + 2u, width), value_at(start, k + 3u, width));
}

// Eight vec4s of weights on their way.
struct Eight {
    q_0: vec4<f32>,
    q_1: vec4<f32>,
    q_2: vec4<f32>,
    q_3: vec4<f32>,
    q_4: vec4<f32>,
    q_5: vec4<f32>,
    q_6: vec4<f32>,
    q_7: vec4<f32>,
}

// Those of a row of `width` at `first`: `quad`, and seven more `lanes` apart.
fn eight_of_row(first: u32, quad: u32, lanes: u32, width: u32) -> Eight {
    return Eight(
        weights_of(first, quad, width),
        weights_of(first, quad + lanes, width),
        weights_of(first, quad + 2u * lanes, width),
        weights_of(first, quad + 3u * lanes, width),
        weights_of(first, quad + 4u * lanes, width),
        weights_of(first, quad + 5u * lanes, width),
        weights_of(first, quad + 6u * lanes, width),
        weights_of(first, quad + 7u * lanes, width),
    );
}

fn add_products(sum: f32, w: vec4<f32>, v: vec4<f32>) -> f32 {
    var result = sum;
    result += w.x * v.x;
    result += w.y * v.y;
    result += w.z * v.z;
    result += w.w * v.w;
    return result;
}

// The sums of two outputs.
fn add_rows(sums: vec2<f32>, w_0: vec4<f32>, w_1: vec4<f32>, v: vec4<f32>) -> vec2<f32> {
    return vec2<f32>(add_products(sums.x, w_0, v), add_products(sums.y, w_1, v));
}

// What a lane takes of a row: every `lanes`-th vec4 from `first` on, of `inputs` values that lie from `start` on.
struct Share {
    first: u32,
    lanes: u32,
    start: u32,
    inputs: u32,
}

// The same for eight vec4s of their weights, from `quad` on.
fn add_eight(sums: vec2<f32>, w_0: Eight, w_1: Eight, share: Share, quad: u32) -> vec2<f32> {
    let start = share.start;
    let lanes = share.lanes;
    let inputs = share.inputs;
    var result = sums;
    result = add_rows(result, w_0.q_0, w_1.q_0, values_of(start, quad, inputs));
    result = add_rows(result, w_0.q_1, w_1.q_1, values_of(start, quad + lanes, inputs));
    result = add_rows(result, w_0.q_2, w_1.q_2, values_of(start, quad + 2u * lanes, inputs));
    result = add_rows(result, w_0.q_3, w_1.q_3, values_of(start, quad + 3u * lanes, inputs));
    result = add_rows(result, w_0.q_4, w_1.q_4, values_of(start, quad + 4u * lanes, inputs));
    result = add_rows(result, w_0.q_5, w_1.q_5, values_of(start, quad + 5u * lanes, inputs));
    result = add_rows(result, w_0.q_6, w_1.q_6, values_of(start, quad + 6u * lanes, inputs));
    result = add_rows(result, w_0.q_7, w_1.q_7, values_of(start, quad + 7u * lanes, inputs));
    return result;
}

// A step of a layer: what a thread has of the outputs from some on. Of the four at `rows` the last two are not wanted where there
// are only two.
struct Step {
    weights: u32,
    rows: vec4<u32>,
    are_four: bool,
    share: Share,
}

// What a thread takes of the weights at a time: 16 or 32 vec4s.
struct Weights {
    w_0: Eight,
    w_1: Eight,
    w_2: Eight,
    w_3: Eight,
}

// Those of a step from `quad` on.
fn step_weights(step: Step, quad: u32) -> Weights {
    let lanes = step.share.lanes;
    let inputs = step.share.inputs;
    let first = step.weights + step.rows * inputs;
    var all = Weights();
    all.w_0 = eight_of_row(first.x, quad, lanes, inputs);
    all.w_1 = eight_of_row(first.y, quad, lanes, inputs);
    if step.are_four {
        all.w_2 = eight_of_row(first.z, quad, lanes, inputs);
        all.w_3 = eight_of_row(first.w, quad, lanes, inputs);
    }
    return all;
}

// Adds their products.
fn add_weights_of(sums: vec4<f32>, step: Step, all: Weights, quad: u32) -> vec4<f32> {
    let two = add_eight(sums.xy, all.w_0, all.w_1, step.share, quad);
    var others = sums.zw;
    if step.are_four {
        others = add_eight(others, all.w_2, all.w_3, step.share, quad);
    }
    return vec4<f32>(two, others);
}

// What a lane adds to W[n] · h for the outputs of a step, from `first` on.
fn forward_sums(before: vec4<f32>, step: Step, first: u32) -> vec4<f32> {
    var sums = before;
    for (var quad = first; 4u * quad < step.share.inputs; quad += 8u * step.share.lanes) {
        sums = add_weights_of(sums, step, step_weights(step, quad), quad);
    }
    return sums;
}

// Four columns of W from `quad` on, of the row `o` and seven after it; 0 from `end` on.
fn eight_of_columns(weights: u32, o: u32, end: u32, quad: u32, inputs: u32) -> Eight {
    return Eight(
        column_of(weights, o, end, quad, inputs),
        column_of(weights, o + 1u, end, quad, inputs),
        column_of(weights, o + 2u, end, quad, inputs),
        column_of(weights, o + 3u, end, quad, inputs),
        column_of(weights, o + 4u, end, quad, inputs),
        column_of(weights, o + 5u, end, quad, inputs),
        column_of(weights, o + 6u, end, quad, inputs),
        column_of(weights, o + 7u, end, quad, inputs),
    );
}

fn column_of(weights: u32, o: u32, end: u32, quad: u32, inputs: u32) -> vec4<f32> {
    return select(vec4<f32>(), weights_of(weights + min(o, end - 1u) * inputs, quad, inputs), o < end);
}

fn grad_at(start: u32, o: u32, end: u32) -> f32 {
    return select(0.0, grads[start + min(o, end - 1u)], o < end);
}

fn add_columns(sums: vec4<f32>, w: Eight, start: u32, o: u32, end: u32) -> vec4<f32> {
    var result = sums;
    result += grad_at(start, o, end) * w.q_0;
    result += grad_at(start, o + 1u, end) * w.q_1;
    result += grad_at(start, o + 2u, end) * w.q_2;
    result += grad_at(start, o + 3u, end) * w.q_3;
    result += grad_at(start, o + 4u, end) * w.q_4;
    result += grad_at(start, o + 5u, end) * w.q_5;
    result += grad_at(start, o + 6u, end) * w.q_6;
    result += grad_at(start, o + 7u, end) * w.q_7;
    return result;
}

// What the outputs from `first` to before `end` add to transpose(W) · d for four inputs.
fn backward_sums(weights: u32, first: u32, end: u32, quad: u32, inputs: u32, start: u32) -> vec4<f32> {
    var sums = vec4<f32>();
    for (var o = first; o < end; o += 16u) {
        let w_0 = eight_of_columns(weights, o, end, quad, inputs);
        let w_1 = eight_of_columns(weights, o + 8u, end, quad, inputs);
        sums = add_columns(sums, w_0, start, o, end);
        sums = add_columns(sums, w_1, start, o + 8u, end);
    }
    return sums;
}
