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
// backward, by the vec4, with 16 or 32 of them on their way: what a row takes is the latency of its loads. The first weights come
// together with the row. Forward, `lanes` threads share two or four outputs and take every lanes-th vec4 of their weights;
// backward, a thread takes four inputs and one of `splits` parts of the outputs. Their sums are added up in order. With one lane
// and one split the order is that of matmul.wgsl.
//
// Needs lib/nan.wgsl, lib/math.wgsl and lib/layer_products.wgsl.

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

// What a row adds to the sum of weights.
fn counted_weight(row: u32, label: u32, num_classes: u32) -> f32 {
    let is_real = (row < params.batch) & is_counted(label, num_classes);
    return select(0.0, weights_of_classes[select(0u, label, is_real)], is_real);
}

fn label_of(row: u32) -> u32 {
    return labels[min(row, params.batch - 1u)];
}

// The sum of the weights of all rows, as cross_entropy.whole adds them up; in weight_sums[0] after the last barrier, which is
// the caller's. `first_label` is that of the row `lane`. Four labels are on their way at a time.
fn add_weights(lane: u32, first_label: u32, num_classes: u32) {
    if lane < TREE {
        var sum = counted_weight(lane, first_label, num_classes);
        for (var row = lane + TREE; row < params.batch; row += 4u * TREE) {
            let label_0 = label_of(row);
            let label_1 = label_of(row + TREE);
            let label_2 = label_of(row + 2u * TREE);
            let label_3 = label_of(row + 3u * TREE);
            sum += counted_weight(row, label_0, num_classes);
            sum += counted_weight(row + TREE, label_1, num_classes);
            sum += counted_weight(row + 2u * TREE, label_2, num_classes);
            sum += counted_weight(row + 3u * TREE, label_3, num_classes);
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

// Past the end of the row its last value.
fn input_at(row: u32, k: u32) -> f32 {
    return x[row * width(0u) + min(k, width(0u) - 1u)];
}

// Four of them, WG apart.
fn four_inputs(row: u32, k: u32) -> vec4<f32> {
    return vec4<f32>(input_at(row, k), input_at(row, k + WG), input_at(row, k + 2u * WG), input_at(row, k + 3u * WG));
}

fn put_inputs(k: u32, x: vec4<f32>) {
    if k < width(0u) { values[k] = x.x; }
    if k + WG < width(0u) { values[k + WG] = x.y; }
    if k + 2u * WG < width(0u) { values[k + 2u * WG] = x.z; }
    if k + 3u * WG < width(0u) { values[k + 3u * WG] = x.w; }
}

// The step of a layer, whose inputs lie from `start` on, for the outputs from `first` on.
fn step_of(layer: u32, first: u32, start: u32, lane: u32) -> Step {
    let outputs = width(layer);
    let lanes = params.lanes[layer / 4u][layer % 4u];
    let at_once = WG / lanes;
    let own = first + lane / lanes + at_once * vec4<u32>(0u, 1u, 2u, 3u);
    return Step(
        params.weights[layer / 4u][layer % 4u],
        min(own, vec4<u32>(outputs - 1u)),
        outputs > 2u * at_once,
        Share(lane % lanes, lanes, start, width(layer - 1u)),
    );
}

// Outputs of a step. Not from a Step, so that validators see that it is the same in all threads.
fn outputs_at_once(layer: u32) -> u32 {
    let at_once = WG / params.lanes[layer / 4u][layer % 4u];
    return select(2u, 4u, width(layer) > 2u * at_once) * at_once;
}

// The bias of the output of a step that this thread finishes.
fn bias_of(layer: u32, first: u32, lane: u32) -> f32 {
    let biases = params.biases[layer / 4u][layer % 4u];
    if biases == NONE {
        return 0.0;
    }
    return parameter(biases + min(first + lane, width(layer) - 1u));
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
    let first_weight = class_weights[min(lane, num_classes - 1u)];
    let first_inputs = four_inputs(row, lane);
    // The first weights are on their way together with the row.
    let first_step = step_of(1u, 0u, 0u, lane);
    let first_weights = step_weights(first_step, first_step.share.first);
    let first_bias = bias_of(1u, 0u, lane);
    put_inputs(lane, first_inputs);
    for (var k = lane + 4u * WG; k < width(0u); k += 4u * WG) {
        put_inputs(k, four_inputs(row, k));
    }
    if lane < num_classes {
        weights_of_classes[lane] = first_weight;
    }
    for (var c = lane + WG; c < num_classes; c += WG) {
        weights_of_classes[c] = class_weights[c];
    }
    workgroupBarrier();
    let first_sums = add_weights_of(vec4<f32>(), first_step, first_weights, first_step.share.first);
    if IS_MEAN == 1u {
        add_weights(lane, first_label, num_classes);
    }
    workgroupBarrier();
    var start = 0u;
    for (var layer = 1u; layer <= num_layers; layer += 1u) {
        let inputs = width(layer - 1u);
        let outputs = width(layer);
        let biases = params.biases[layer / 4u][layer % 4u];
        let code = params.activations[layer / 4u][layer % 4u];
        let lanes = params.lanes[layer / 4u][layer % 4u];
        let at_once = WG / lanes;
        let of_all = outputs_at_once(layer);
        for (var first = 0u; first < outputs; first += of_all) {
            let step = step_of(layer, first, start, lane);
            let last = min(of_all, outputs - first);
            var sums = first_sums;
            var bias = first_bias;
            var quad = step.share.first + 8u * lanes;
            if layer > 1u || first > 0u {
                sums = vec4<f32>();
                bias = bias_of(layer, first, lane);
                quad = step.share.first;
            }
            partials[lane] = forward_sums(sums, step, quad);
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
