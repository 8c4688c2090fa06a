// Fully connected layers, the gradient of the cross-entropy of what they give, and the gradients back through them, in one
// dispatch: a row of the batch needs nothing of another.
//
//   h_0 = x, h_l = activate_l(W_l · h_(l-1) + b_l) for l = 1 to L, logits = h_L
//   d_L = gradient of the loss by the logits, as cross_entropy.wgsl has it for the mean or the sum
//   d_l = (transpose(W_(l+1)) · d_(l+1)) * activate_l'(h_l) for l = L − 1 to 1, grad_x = transpose(W_1) · d_1 * activate_0'(x)
//
// x             f32 (batch, widths[0])
// parameters    f32, the pack that all W_l (widths[l], widths[l - 1]) and b_l lie in, by offset
// labels        u32 (batch); class_weights f32 (C)
// chain         f32 (batch, T): h_1 to h_(L-1), then d_1 to d_L; T is the sum of their widths
// logits        f32 (batch, C)
// grad_x        f32, as x; not written when HAS_GRAD_X = 0, any buffer may then be bound
//
// A workgroup computes a row, and what the row has stays in workgroup memory. Weights are read once forward and once
// backward, by the vec4, with 16 of them on their way: what a row takes is the latency of its loads. Forward, `lanes` threads
// share an output and take every lanes-th vec4 of its weights; backward, a thread takes four inputs and one of `splits` parts
// of the outputs. Their sums are added up in order. With one lane and one split the order is that of matmul.wgsl.
//
// Needs lib/nan.wgsl and lib/math.wgsl.

struct Params {
    widths: array<vec4<u32>, 2>,
    weights: array<vec4<u32>, 2>,
    biases: array<vec4<u32>, 2>, // NONE where there is no bias
    activations: array<vec4<u32>, 2>, // of h_0 to h_L: 0 none, 1 relu, 2 sigmoid, 3 tanh
    lanes: array<vec4<u32>, 2>, // powers of two
    splits: array<vec4<u32>, 2>, // powers of two
    batch: u32,
    num_layers: u32,
    ignore_index: u32,
    label_smoothing: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> parameters: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> class_weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> chain: array<f32>;
@group(0) @binding(6) var<storage, read_write> logits: array<f32>;
@group(0) @binding(7) var<storage, read_write> grad_x: array<f32>;

override WG: u32 = 256;
override TOTAL: u32 = 1u; // sum of all widths
override CLASSES: u32 = 1u;
override ALIGNED: u32 = 0u; // 1 where the widths of all layers but the last are multiples of 4
override HAS_GRAD_X: u32 = 0u;
override IS_MEAN: u32 = 1u;

const NONE: u32 = 0xffffffffu;
const TREE: u32 = 64u; // as many lanes as cross_entropy.whole adds up with

var<workgroup> values: array<f32, TOTAL>;
var<workgroup> grads: array<f32, TOTAL>;
var<workgroup> weight_sums: array<f32, TREE>;
var<workgroup> weights_of_classes: array<f32, CLASSES>;
var<workgroup> partials: array<vec4<f32>, WG>;

fn activated(code: u32, sum: f32) -> f32 {
    switch code {
        case 1u: { return relu(sum); }
        case 2u: { return sigmoid4(vec4<f32>(sum)).x; }
        case 3u: { return accurate_tanh4(vec4<f32>(sum)).x; }
        default: { return sum; }
    }
}

fn gradient(code: u32, grad: f32, y: f32) -> f32 {
    switch code {
        case 1u: { return select(0.0, grad, (y > 0.0) | is_nan(y)); }
        case 2u: { return grad * (y * (1.0 - y)); }
        case 3u: { return grad * ((1.0 - y) * (1.0 + y)); }
        default: { return grad; }
    }
}

fn is_counted(label: u32, num_classes: u32) -> bool {
    return label < num_classes && label != params.ignore_index;
}

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

// What a lane adds to W[n] · h for the outputs at `rows`.
fn forward_sums(weights: u32, rows: vec2<u32>, within: u32, lanes: u32, start: u32, inputs: u32) -> vec2<f32> {
    let first = weights + rows * inputs;
    var sums = vec2<f32>();
    for (var quad = within; 4u * quad < inputs; quad += 8u * lanes) {
        let w_0 = eight_of_row(first.x, quad, lanes, inputs);
        let w_1 = eight_of_row(first.y, quad, lanes, inputs);
        sums = add_rows(sums, w_0.q_0, w_1.q_0, values_of(start, quad, inputs));
        sums = add_rows(sums, w_0.q_1, w_1.q_1, values_of(start, quad + lanes, inputs));
        sums = add_rows(sums, w_0.q_2, w_1.q_2, values_of(start, quad + 2u * lanes, inputs));
        sums = add_rows(sums, w_0.q_3, w_1.q_3, values_of(start, quad + 3u * lanes, inputs));
        sums = add_rows(sums, w_0.q_4, w_1.q_4, values_of(start, quad + 4u * lanes, inputs));
        sums = add_rows(sums, w_0.q_5, w_1.q_5, values_of(start, quad + 5u * lanes, inputs));
        sums = add_rows(sums, w_0.q_6, w_1.q_6, values_of(start, quad + 6u * lanes, inputs));
        sums = add_rows(sums, w_0.q_7, w_1.q_7, values_of(start, quad + 7u * lanes, inputs));
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

// The sum of the weights of all rows, as cross_entropy.whole adds them up; in weight_sums[0] after the last barrier, which is
// the caller's. `first_label` is that of the row `lane`.
fn add_weights(lane: u32, first_label: u32, num_classes: u32) {
    if lane < TREE {
        var sum = 0.0;
        for (var row = lane; row < params.batch; row += TREE) {
            var label = first_label;
            if row >= TREE {
                label = labels[row];
            }
            let is_real = is_counted(label, num_classes);
            sum += select(0.0, weights_of_classes[select(0u, label, is_real)], is_real);
        }
        weight_sums[lane] = sum;
    }
    for (var half = TREE / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            weight_sums[lane] += weight_sums[lane + half];
        }
    }
}

// The gradient of a row's loss by one of its logits, which lie from `start` on.
fn logit_gradient(label: u32, class_index: u32, start: u32, num_classes: u32) -> f32 {
    if !is_counted(label, num_classes) {
        return 0.0;
    }
    var largest = -infinity();
    for (var c = 0u; c < num_classes; c += 1u) {
        largest = larger(largest, values[start + c]);
    }
    var sum = 0.0;
    for (var c = 0u; c < num_classes; c += 1u) {
        sum += accurate_exp(values[start + c] - largest);
    }
    var row_grad = 1.0;
    if IS_MEAN == 1u {
        row_grad /= weight_sums[0];
    }
    let of_label = (1.0 - params.label_smoothing) * weights_of_classes[label];
    let share = params.label_smoothing / f32(num_classes);
    var of_all = of_label;
    for (var c = 0u; c < num_classes; c += 1u) {
        of_all += share * weights_of_classes[c];
    }
    let q = select(0.0, of_label, class_index == label) + share * weights_of_classes[class_index];
    return row_grad * (accurate_exp(values[start + class_index] - largest) / sum * of_all - q);
}

fn width(layer: u32) -> u32 {
    return params.widths[layer / 4u][layer % 4u];
}

@compute @workgroup_size(WG)
fn rows(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let unit = workgroup.x + workgroup.y * grid.x;
    // A grid folded to two dimensions can have a few workgroups too many; they compute the last row again.
    let row = min(unit, params.batch - 1u);
    let num_layers = params.num_layers;
    let num_classes = width(num_layers);
    let hidden = TOTAL - width(0u) - num_classes;
    let chain_row = row * (2u * hidden + num_classes);
    let label = labels[row];
    let first_label = labels[min(lane, params.batch - 1u)];
    for (var c = lane; c < num_classes; c += WG) {
        weights_of_classes[c] = class_weights[c];
    }
    for (var k = lane; k < width(0u); k += WG) {
        values[k] = x[row * width(0u) + k];
    }
    workgroupBarrier();
    if IS_MEAN == 1u {
        add_weights(lane, first_label, num_classes);
    }
    workgroupBarrier();
    var start = 0u;
    for (var layer = 1u; layer <= num_layers; layer += 1u) {
        let inputs = width(layer - 1u);
        let outputs = width(layer);
        let weights = params.weights[layer / 4u][layer % 4u];
        let biases = params.biases[layer / 4u][layer % 4u];
        let code = params.activations[layer / 4u][layer % 4u];
        let lanes = params.lanes[layer / 4u][layer % 4u];
        let at_once = WG / lanes;
        for (var first = 0u; first < outputs; first += 2u * at_once) {
            let own = first + lane / lanes + at_once * vec2<u32>(0u, 1u);
            let rows = min(own, vec2<u32>(outputs - 1u));
            // Of the outputs that this thread finishes, on their way together with the weights.
            let last = min(2u * at_once, outputs - first);
            var bias = 0.0;
            if biases != NONE && lane < last {
                bias = parameter(biases + first + lane);
            }
            partials[lane] = vec4<f32>(forward_sums(weights, rows, lane % lanes, lanes, start, inputs), 0.0, 0.0);
            workgroupBarrier();
            for (var n = lane; n < last; n += WG) {
                let place = n / at_once;
                var sum = partials[n % at_once * lanes][place];
                for (var other = 1u; other < lanes; other += 1u) {
                    sum += partials[n % at_once * lanes + other][place];
                }
                if biases != NONE {
                    if n >= WG {
                        bias = parameter(biases + first + n);
                    }
                    sum += bias;
                }
                let value = activated(code, sum);
                values[start + inputs + first + n] = value;
                if layer < num_layers {
                    chain[chain_row + start + inputs - width(0u) + first + n] = value;
                } else {
                    logits[row * num_classes + first + n] = value;
                }
            }
            workgroupBarrier();
        }
        start += inputs;
    }
    for (var c = lane; c < num_classes; c += WG) {
        let grad = logit_gradient(label, c, start, num_classes);
        grads[start + c] = grad;
        chain[chain_row + hidden + start - width(0u) + c] = grad;
    }
    workgroupBarrier();
    for (var layer = num_layers; layer > 0u; layer -= 1u) {
        let inputs = width(layer - 1u);
        let outputs = width(layer);
        let weights = params.weights[layer / 4u][layer % 4u];
        let code = params.activations[(layer - 1u) / 4u][(layer - 1u) % 4u];
        let splits = params.splits[layer / 4u][layer % 4u];
        let at_once = WG / splits;
        let quads = (inputs + 3u) / 4u;
        let per_split = (outputs + splits - 1u) / splits;
        let below = start - inputs;
        if layer > 1u || HAS_GRAD_X == 1u {
            for (var first = 0u; first < quads; first += at_once) {
                let quad = first + lane % at_once;
                let first_output = lane / at_once * per_split;
                let end = select(0u, min(first_output + per_split, outputs), quad < quads);
                partials[lane] = backward_sums(weights, first_output, end, quad, inputs, start);
                workgroupBarrier();
                for (var j = lane; j < min(4u * at_once, inputs - 4u * first); j += WG) {
                    var sum = partials[j / 4u][j % 4u];
                    for (var split = 1u; split < splits; split += 1u) {
                        sum += partials[split * at_once + j / 4u][j % 4u];
                    }
                    let place = 4u * first + j;
                    let grad = gradient(code, sum, values[below + place]);
                    if layer > 1u {
                        grads[below + place] = grad;
                        chain[chain_row + hidden + below - width(0u) + place] = grad;
                    } else {
                        grad_x[row * inputs + place] = grad;
                    }
                }
                workgroupBarrier();
            }
        }
        start = below;
    }
}
