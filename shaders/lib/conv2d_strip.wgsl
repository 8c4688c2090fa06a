// Which strip of which channels a thread computes, of the output or of the gradient by the input. Needs conv2d.wgsl and
// the operation's `strip_extents`.

override WORKGROUP: u32 = 32u; // a multiple of 8

// Channels of all groups, height and width of what is cut into strips.
struct Extents {
    channels: u32,
    height: u32,
    width: u32,
}

// What a thread works on.
struct Strip {
    image: u32,
    y: u32,
    x: u32,
    group: u32,
    first_channel: u32, // within the group
    is_real: bool,      // false in the last, partly filled workgroups
}

// Channels that a workgroup's tile has. Not from a Strip, so that validators see that it is the same in all threads: loops
// that read what neighbours share run so often.
fn tile_channels(workgroup: vec3<u32>, grid: vec3<u32>) -> u32 {
    let group_channels = strip_extents().channels / GROUPS;
    let tiles_per_group = (group_channels + CHANNELS - 1u) / CHANNELS;
    let tile = (workgroup.x + workgroup.y * grid.x) % tiles_per_group;
    return min(group_channels - tile * CHANNELS, CHANNELS);
}

fn strip_position(workgroup: vec3<u32>, grid: vec3<u32>, local_index: u32) -> Strip {
    let extents = strip_extents();
    let tiles_per_group = (extents.channels / GROUPS + CHANNELS - 1u) / CHANNELS;
    let tiles = tiles_per_group * GROUPS;
    let index = workgroup.x + workgroup.y * grid.x;
    let tile = index % tiles;
    let strip = index / tiles * WORKGROUP + local_index;
    let strips_per_row = (extents.width + STRIP - 1u) / STRIP;
    let image = strip / strips_per_row / extents.height;
    return Strip(
        min(image, params.batch - 1u),
        strip / strips_per_row % extents.height,
        strip % strips_per_row * STRIP,
        tile / tiles_per_group,
        tile % tiles_per_group * CHANNELS,
        image < params.batch,
    );
}
