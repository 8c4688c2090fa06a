// The geometry of a 2-D convolution, for the op and for both of its gradients. Sizes are parameters, so that batches of
// any length share a pipeline; what loops over the kernel go by is constant, so that they unroll.

struct Params {
    batch: u32,
    in_channels: u32,
    in_h: u32,
    in_w: u32,
    out_channels: u32,
    out_h: u32,
    out_w: u32,
    rows_per_slice: u32, // of the weight's gradient; others do not read it
    stages_per_slice: u32, // of conv2d_gemm's slices
}

@group(0) @binding(0) var<uniform> params: Params;

override KERNEL_H: u32 = 1u;
override KERNEL_W: u32 = 1u;
override STRIDE_H: u32 = 1u;
override STRIDE_W: u32 = 1u;
override PADDING_H: u32 = 0u;
override PADDING_W: u32 = 0u;
override DILATION_H: u32 = 1u;
override DILATION_W: u32 = 1u;
override GROUPS: u32 = 1u;

const STRIP: u32 = 4u; // neighbouring pixels of a row that a thread takes at a time
const CHANNELS: u32 = 8u; // channels of a tile
// Taps of a kernel row that a thread takes at a time: whole rows of up to five, longer ones by fours.
override TAPS: u32 = select(4u, KERNEL_W, KERNEL_W < 6u);
