// Adds up a matrix product of which matmul_tiled.wgsl or matmul_guarded.wgsl summed slices of K apart.
//
//   out[b, m, n] = activate(sum over slices of a[slice, b, m, n] + bias[n])
//
// a     f32 (slice, batch, M, N)
// bias  f32 (N); not read when HAS_BIAS = 0, any buffer may then be bound
// out   f32 (batch, M, N)
//
// One output a thread; slices are added in order. Needs lib/activation.wgsl and lib/matmul.wgsl.

const ADD_THREADS: u32 = 64u;
// Slices that are on their way at once, before the first of them is added.
const ADDED: u32 = 8u;

@compute @workgroup_size(ADD_THREADS)
fn add_slices(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let index = (workgroup.x + workgroup.y * grid.x) * ADD_THREADS + local_index;
    let num_elems = params.batch * params.m * params.n;
    if index < num_elems {
        let last = params.num_slices - 1u;
        var sum = a[index];
        for (var slice = 1u; slice <= last; slice += ADDED) {
            let s_0 = a[index + slice * num_elems];
            let s_1 = a[index + min(slice + 1u, last) * num_elems];
            let s_2 = a[index + min(slice + 2u, last) * num_elems];
            let s_3 = a[index + min(slice + 3u, last) * num_elems];
            let s_4 = a[index + min(slice + 4u, last) * num_elems];
            let s_5 = a[index + min(slice + 5u, last) * num_elems];
            let s_6 = a[index + min(slice + 6u, last) * num_elems];
            let s_7 = a[index + min(slice + 7u, last) * num_elems];
            sum += s_0;
            sum = select(sum, sum + s_1, slice + 1u <= last);
            sum = select(sum, sum + s_2, slice + 2u <= last);
            sum = select(sum, sum + s_3, slice + 3u <= last);
            sum = select(sum, sum + s_4, slice + 4u <= last);
            sum = select(sum, sum + s_5, slice + 5u <= last);
            sum = select(sum, sum + s_6, slice + 6u <= last);
            sum = select(sum, sum + s_7, slice + 7u <= last);
        }
        out[index] = activate(sum + bias_at(index % params.n));
    }
}
