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
// A workgroup computes a row, a thread every WG-th element of a layer. What a row has stays in workgroup memory; weights
// are read once forward and once backward, 32 loads at a time. Sums have one accumulator and the order of matmul.wgsl.
//
// Needs lib/nan.wgsl and lib/math.wgsl.

struct Params {
    widths: array<vec4<u32>, 2>,
    weights: array<vec4<u32>, 2>,
    biases: array<vec4<u32>, 2>, // NONE where there is no bias
    activations: array<vec4<u32>, 2>, // of h_0 to h_L: 0 none, 1 relu, 2 sigmoid, 3 tanh
    batch: u32,
    num_layers: u32,
    ignore_index: u32,
    label_smoothing: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> parameters: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> class_weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> chain: array<f32>;
@group(0) @binding(6) var<storage, read_write> logits: array<f32>;
@group(0) @binding(7) var<storage, read_write> grad_x: array<f32>;

override WG: u32 = 256;
override TOTAL: u32 = 1u; // sum of all widths
override HAS_GRAD_X: u32 = 0u;
override IS_MEAN: u32 = 1u;

const NONE: u32 = 0xffffffffu;
const TREE: u32 = 64u; // as many lanes as cross_entropy.whole adds up with

var<workgroup> values: array<f32, TOTAL>;
var<workgroup> grads: array<f32, TOTAL>;
var<workgroup> weight_sums: array<f32, TREE>;

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
        case 1u: { return select(0.0, grad, y > 0.0 || is_nan(y)); }
        case 2u: { return grad * (y * (1.0 - y)); }
        case 3u: { return grad * ((1.0 - y) * (1.0 + y)); }
        default: { return grad; }
    }
}

fn is_counted(label: u32, num_classes: u32) -> bool {
    return label < num_classes && label != params.ignore_index;
}

// Eight weights from `first` on, `stride` apart.
struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn eight(first: u32, stride: u32) -> Eight {
    return Eight(
        vec4<f32>(
            parameters[first], parameters[first + stride], parameters[first + 2u * stride], parameters[first + 3u * stride]),
        vec4<f32>(
            parameters[first + 4u * stride],
            parameters[first + 5u * stride],
            parameters[first + 6u * stride],
            parameters[first + 7u * stride],
        ),
    );
}

fn add_values(sum: f32, weights: Eight, at: u32) -> f32 {
    var result = sum;
    result += weights.low.x * values[at];
    result += weights.low.y * values[at + 1u];
    result += weights.low.z * values[at + 2u];
    result += weights.low.w * values[at + 3u];
    result += weights.high.x * values[at + 4u];
    result += weights.high.y * values[at + 5u];
    result += weights.high.z * values[at + 6u];
    result += weights.high.w * values[at + 7u];
    return result;
}

// W[n] · h for the row of weights at `first` and the layer of values at `start`. Weights are 32 at a time on their way,
// so that a row of 256 costs eight latencies.
fn forward_sum(first: u32, start: u32, width: u32) -> f32 {
    var sum = 0.0;
    var k = 0u;
    for (; k + 32u <= width; k += 32u) {
        let w_0 = eight(first + k, 1u);
        let w_1 = eight(first + k + 8u, 1u);
        let w_2 = eight(first + k + 16u, 1u);
        let w_3 = eight(first + k + 24u, 1u);
        sum = add_values(sum, w_0, start + k);
        sum = add_values(sum, w_1, start + k + 8u);
        sum = add_values(sum, w_2, start + k + 16u);
        sum = add_values(sum, w_3, start + k + 24u);
    }
    for (; k + 8u <= width; k += 8u) {
        sum = add_values(sum, eight(first + k, 1u), start + k);
    }
    for (; k < width; k += 1u) {
        sum += parameters[first + k] * values[start + k];
    }
    return sum;
}

fn add_grads(sum: f32, weights: Eight, at: u32) -> f32 {
    var result = sum;
    result += grads[at] * weights.low.x;
    result += grads[at + 1u] * weights.low.y;
    result += grads[at + 2u] * weights.low.z;
    result += grads[at + 3u] * weights.low.w;
    result += grads[at + 4u] * weights.high.x;
    result += grads[at + 5u] * weights.high.y;
    result += grads[at + 6u] * weights.high.z;
    result += grads[at + 7u] * weights.high.w;
    return result;
}

// transpose(W)[j] · d for the column of weights at `first`, `stride` apart, and the gradients at `start`.
fn backward_sum(first: u32, stride: u32, start: u32, width: u32) -> f32 {
    var sum = 0.0;
    var o = 0u;
    for (; o + 32u <= width; o += 32u) {
        let w_0 = eight(first + o * stride, stride);
        let w_1 = eight(first + (o + 8u) * stride, stride);
        let w_2 = eight(first + (o + 16u) * stride, stride);
        let w_3 = eight(first + (o + 24u) * stride, stride);
        sum = add_grads(sum, w_0, start + o);
        sum = add_grads(sum, w_1, start + o + 8u);
        sum = add_grads(sum, w_2, start + o + 16u);
        sum = add_grads(sum, w_3, start + o + 24u);
    }
    for (; o + 8u <= width; o += 8u) {
        sum = add_grads(sum, eight(first + o * stride, stride), start + o);
    }
    for (; o < width; o += 1u) {
        sum += grads[start + o] * parameters[first + o * stride];
    }
    return sum;
}

// The sum of the weights of all rows, as cross_entropy.whole adds them up; in weight_sums[0] after the last barrier.
fn add_weights(lane: u32, num_classes: u32) {
    if lane < TREE {
        var sum = 0.0;
        for (var row = lane; row < params.batch; row += TREE) {
            let label = labels[row];
            let is_real = is_counted(label, num_classes);
            sum += select(0.0, class_weights[select(0u, label, is_real)], is_real);
        }
        weight_sums[lane] = sum;
    }
    for (var half = TREE / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            weight_sums[lane] += weight_sums[lane + half];
        }
    }
    workgroupBarrier();
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
    let of_label = (1.0 - params.label_smoothing) * class_weights[label];
    let share = params.label_smoothing / f32(num_classes);
    var of_all = of_label;
    for (var c = 0u; c < num_classes; c += 1u) {
        of_all += share * class_weights[c];
    }
    let q = select(0.0, of_label, class_index == label) + share * class_weights[class_index];
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
    for (var k = lane; k < width(0u); k += WG) {
        values[k] = x[row * width(0u) + k];
    }
    if IS_MEAN == 1u {
        add_weights(lane, num_classes);
    } else {
        workgroupBarrier();
    }
    var start = 0u;
    for (var layer = 1u; layer <= num_layers; layer += 1u) {
        let inputs = width(layer - 1u);
        let outputs = width(layer);
        let weights = params.weights[layer / 4u][layer % 4u];
        let biases = params.biases[layer / 4u][layer % 4u];
        let code = params.activations[layer / 4u][layer % 4u];
        for (var n = lane; n < outputs; n += WG) {
            var sum = forward_sum(weights + n * inputs, start, inputs);
            if biases != NONE {
                sum += parameters[biases + n];
            }
            let value = activated(code, sum);
            values[start + inputs + n] = value;
            if layer < num_layers {
                chain[chain_row + start + inputs - width(0u) + n] = value;
            } else {
                logits[row * num_classes + n] = value;
            }
        }
        start += inputs;
        workgroupBarrier();
    }
    let label = labels[row];
    for (var c = lane; c < num_classes; c += WG) {
        let grad = logit_gradient(label, c, start, num_classes);
        grads[start + c] = grad;
        chain[chain_row + hidden + start - width(0u) + c] = grad;
    }
    for (var layer = num_layers; layer > 0u; layer -= 1u) {
        workgroupBarrier();
        let inputs = width(layer - 1u);
        let outputs = width(layer);
        let weights = params.weights[layer / 4u][layer % 4u];
        let code = params.activations[(layer - 1u) / 4u][(layer - 1u) % 4u];
        let below = start - inputs;
        if layer > 1u || HAS_GRAD_X == 1u {
            for (var j = lane; j < inputs; j += WG) {
                let grad = gradient(code, backward_sum(weights + j, inputs, start, outputs), values[below + j]);
                if layer > 1u {
                    grads[below + j] = grad;
                    chain[chain_row + hidden + below - width(0u) + j] = grad;
                } else {
                    grad_x[row * inputs + j] = grad;
                }
            }
        }
        start = below;
    }
}
