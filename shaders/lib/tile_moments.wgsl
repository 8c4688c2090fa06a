// Sums over each channel of a workgroup's tile, for the batch normalization after a convolution or before its gradient, which
// then needs no pass over all values for them: the mean and the squared distances from it, or (lib/tile_gradients.wgsl) what the
// gradient of normalization sums. All threads come here together, when nothing in `under` is needed any more.
//
// moments  f32 (channels, tiles, 4): mean, squared distances, number of values, 0
//
// MEMBERS threads have the same eight channels. `under` has at least 2 * THREADS vec4s.
//
// Needs lib/register_tile.wgsl.

@group(0) @binding(6) var<storage, read_write> moments: array<vec4<f32>>;

// Half of MEMBERS, rounded up to a power of two.
override WIDE_HALF: u32 = select(16u, 32u, MEMBERS > 32u);
override NARROW_HALF: u32 = select(select(1u, 2u, MEMBERS > 2u), select(4u, 8u, MEMBERS > 8u), MEMBERS > 4u);
override MEMBERS_HALF: u32 = select(NARROW_HALF, WIDE_HALF, MEMBERS > 16u);

// A number of each of a thread's channels.
struct OfChannels {
    low: vec4<f32>,
    high: vec4<f32>,
}

// A thread among those that have the same channels: which it is, and where their places in `under` begin.
struct Member {
    index: u32,
    first: u32,
}

// A tile among all, with the number of its pixels, and a thread's channels: four from `low` on and four from `high` on, those
// before `end`.
struct TileChannels {
    tile: u32,
    num_tiles: u32,
    count: u32,
    low: u32,
    high: u32,
    end: u32,
}

fn sum_inside(row: vec4<f32>, inside: vec4<bool>) -> f32 {
    let values = select(vec4<f32>(), row, inside);
    return values.x + values.y + values.z + values.w;
}

fn sums_inside(tile: RegisterTile, inside: vec4<bool>) -> OfChannels {
    return OfChannels(
        vec4<f32>(
            sum_inside(tile.row_0, inside), sum_inside(tile.row_1, inside),
            sum_inside(tile.row_2, inside), sum_inside(tile.row_3, inside)),
        vec4<f32>(
            sum_inside(tile.row_4, inside), sum_inside(tile.row_5, inside),
            sum_inside(tile.row_6, inside), sum_inside(tile.row_7, inside)),
    );
}

fn squared(row: vec4<f32>, mean: f32) -> vec4<f32> {
    let distance = row - mean;
    return distance * distance;
}

fn squared_distances(tile: RegisterTile, mean: OfChannels) -> RegisterTile {
    return RegisterTile(
        squared(tile.row_0, mean.low.x), squared(tile.row_1, mean.low.y),
        squared(tile.row_2, mean.low.z), squared(tile.row_3, mean.low.w),
        squared(tile.row_4, mean.high.x), squared(tile.row_5, mean.high.y),
        squared(tile.row_6, mean.high.z), squared(tile.row_7, mean.high.w),
    );
}

fn both(a: OfChannels, b: OfChannels) -> OfChannels {
    return OfChannels(a.low + b.low, a.high + b.high);
}

// What the members have together.
fn total(member: Member, own: OfChannels) -> OfChannels {
    workgroupBarrier();
    let at = 2u * (member.first + member.index);
    under[at] = own.low;
    under[at + 1u] = own.high;
    for (var half = MEMBERS_HALF; half > 0u; half /= 2u) {
        workgroupBarrier();
        if member.index < half && member.index + half < MEMBERS {
            under[at] += under[at + 2u * half];
            under[at + 1u] += under[at + 2u * half + 1u];
        }
    }
    workgroupBarrier();
    return OfChannels(under[2u * member.first], under[2u * member.first + 1u]);
}

fn divided(sums: OfChannels, count: u32) -> OfChannels {
    return OfChannels(sums.low / f32(count), sums.high / f32(count));
}

fn store_four(channels: TileChannels, first: u32, a: vec4<f32>, b: vec4<f32>, last: vec4<f32>) {
    let count = f32(channels.count);
    let at = first * channels.num_tiles + channels.tile;
    let left = channels.end - min(first, channels.end);
    if left > 0u { moments[at] = vec4<f32>(a.x, b.x, count, last.x); }
    if left > 1u { moments[at + channels.num_tiles] = vec4<f32>(a.y, b.y, count, last.y); }
    if left > 2u { moments[at + 2u * channels.num_tiles] = vec4<f32>(a.z, b.z, count, last.z); }
    if left > 3u { moments[at + 3u * channels.num_tiles] = vec4<f32>(a.w, b.w, count, last.w); }
}

// The first member stores two numbers of each channel, the number of values, and a last one.
fn store_of_tile(member: Member, channels: TileChannels, a: OfChannels, b: OfChannels, last: OfChannels) {
    if member.index == 0u && channels.tile < channels.num_tiles {
        store_four(channels, channels.low, a.low, b.low, last.low);
        store_four(channels, channels.high, a.high, b.high, last.high);
    }
}
