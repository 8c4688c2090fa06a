// The hand-written layer on a GPU, y = x·w + b for x (N, I), w (I, O) and b (1, O): one thread computes one element of
// what is written.

struct Params { n: u32, i: u32, o: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.n * p.o { return; }
    let row = id.x / p.o;
    let col = id.x % p.o;
    var sum = b[col];
    for (var k = 0u; k < p.i; k++) { sum += x[row * p.i + k] * w[k * p.o + col]; }
    y[id.x] = sum;
}

// Bindings of `backward` after the inputs: y, its gradient, and the gradients of the inputs.
@group(0) @binding(4) var<storage, read> y_again: array<f32>;
@group(0) @binding(5) var<storage, read> grad_y: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad_x: array<f32>;
@group(0) @binding(7) var<storage, read_write> grad_w: array<f32>;
@group(0) @binding(8) var<storage, read_write> grad_b: array<f32>;

// The first threads compute the gradient of x, those after them that of w, the last ones that of b.
@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) id: vec3<u32>) {
    let num_x = p.n * p.i;
    let num_w = p.i * p.o;
    var sum = 0.0;
    if id.x < num_x {
        let row = id.x / p.i;
        let col = id.x % p.i;
        for (var k = 0u; k < p.o; k++) { sum += grad_y[row * p.o + k] * w[col * p.o + k]; }
        grad_x[id.x] = sum;
    } else if id.x < num_x + num_w {
        let row = (id.x - num_x) / p.o;
        let col = (id.x - num_x) % p.o;
        for (var k = 0u; k < p.n; k++) { sum += x[k * p.i + row] * grad_y[k * p.o + col]; }
        grad_w[id.x - num_x] = sum;
    } else if id.x < num_x + num_w + p.o {
        let col = id.x - num_x - num_w;
        for (var k = 0u; k < p.n; k++) { sum += grad_y[k * p.o + col]; }
        grad_b[col] = sum;
    }
}
