// What is added to a gradient by the input as it is stored: channels from ADDED_FIRST on of `added`, of which there are
// ADDED_CHANNELS, at every ADDED_STEP_H-th row and ADDED_STEP_W-th column from the first on, and 0 between them.
//
// Needs lib/conv2d.wgsl.

override HAS_ADDED: u32 = 0u;
override ADDED_CHANNELS: u32 = 1u;
override ADDED_FIRST: u32 = 0u;
override ADDED_STEP_H: u32 = 1u;
override ADDED_STEP_W: u32 = 1u;

// An element of `added`, if there is one.
struct AddedPlace {
    index: u32,
    is_there: bool,
}

// The one that belongs to an element of the gradient.
fn added_place(image: u32, channel: u32, y: u32, x: u32) -> AddedPlace {
    let height = (params.in_h + ADDED_STEP_H - 1u) / ADDED_STEP_H;
    let width = (params.in_w + ADDED_STEP_W - 1u) / ADDED_STEP_W;
    let row = y / ADDED_STEP_H;
    let column = x / ADDED_STEP_W;
    let is_there = (row * ADDED_STEP_H == y) & (column * ADDED_STEP_W == x) & (x < params.in_w);
    let index = ((image * ADDED_CHANNELS + ADDED_FIRST + channel) * height + row) * width + column;
    return AddedPlace(select(0u, index, is_there), is_there);
}

// From a channel to the next.
fn added_plane() -> u32 {
    return (params.in_h + ADDED_STEP_H - 1u) / ADDED_STEP_H * ((params.in_w + ADDED_STEP_W - 1u) / ADDED_STEP_W);
}
