// The hand-written mean squared error on a GPU. One thread adds up the loss, since 150 numbers are too few to share the
// work; the gradients have a thread for each element.

struct Params { n: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> predicted: array<f32>;
@group(0) @binding(2) var<storage, read> wanted: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x > 0 { return; }
    var sum = 0.0;
    for (var k = 0u; k < p.n; k++) { sum += (predicted[k] - wanted[k]) * (predicted[k] - wanted[k]); }
    loss[0] = sum / f32(p.n);
}

@group(0) @binding(3) var<storage, read> loss_again: array<f32>;
@group(0) @binding(4) var<storage, read> grad_loss: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad_predicted: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad_wanted: array<f32>;

@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.n { return; }
    let grad = grad_loss[0] * 2.0 * (predicted[id.x] - wanted[id.x]) / f32(p.n);
    grad_predicted[id.x] = grad;
    grad_wanted[id.x] = -grad;
}
