// Statistics of a tensor's finite elements: mean, standard deviation, extremes, L2 norm, and how many elements are 0
// or not finite.
//
//   x           (num_elems)
//   partials    (num_slices, PARTIAL): n, mean, M2 = sum of squared differences from the mean, min, max, zeros,
//               elements that are not finite
//   table       (num_rows, COLUMNS), of which row `row` is written: mean, sqrt(M2 / n), min, max, sqrt(sum of
//               squares), zeros, not finite, n
//   histograms  (num_rows, BINS), of which row `row` is written
//
//   slice      one workgroup reduces one slice in two passes, first for the mean, then for M2: every invocation takes
//              every WG-th element, then a tree adds up
//   combine    one invocation merges the slices in their order (Chan, Golub and LeVeque, "Updating formulae and a
//              pairwise algorithm for computing sample variances", 1979) and writes the row
//   histogram  one workgroup counts elements by sign, exponent and the first two bits of the mantissa: four bins to a
//              factor of two, so that bins need no extremes, and counting is exact. Integers add up the same in any
//              order, so atomics keep results fixed.

struct Params {
    num_elems: u32,
    slice_elems: u32,
    num_slices: u32,
    row: u32,
    num_rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;
@group(0) @binding(3) var<storage, read> slices: array<f32>;
@group(0) @binding(4) var<storage, read_write> table: array<f32>;
@group(0) @binding(5) var<storage, read_write> histograms: array<f32>;

override WG: u32 = 64;

const PARTIAL: u32 = 8;
const COLUMNS: u32 = 8;
const OF_MEAN: u32 = 1;
const OF_M2: u32 = 2;
const OF_MIN: u32 = 3;
const OF_MAX: u32 = 4;
const OF_ZEROS: u32 = 5;
const OF_NON_FINITE: u32 = 6;

const STD_COLUMN: u32 = 1;
const MIN_COLUMN: u32 = 2;
const MAX_COLUMN: u32 = 3;
const NORM_COLUMN: u32 = 4;
const ZEROS_COLUMN: u32 = 5;
const NON_FINITE_COLUMN: u32 = 6;
const COUNT_COLUMN: u32 = 7;

// All bits of the exponent set: infinite or not a number. Compilers may assume that neither occurs, so bits are asked.
const EXPONENT_BITS: u32 = 0x7f800000u;
const MAGNITUDE_BITS: u32 = 0x7fffffffu;
const LARGEST: f32 = 3.4028234663852886e38;

// Bits below those that choose a bin, the first bin's bits (2^-20), the last one's index.
const IGNORED_BITS: u32 = 21;
const FIRST_BIN: u32 = 428;
const LAST_BIN: u32 = 119;
const CENTER: u32 = 120;
const BINS: u32 = 241;

var<workgroup> sums: array<f32, WG>;
var<workgroup> mins: array<f32, WG>;
var<workgroup> maxs: array<f32, WG>;
var<workgroup> zeros: array<u32, WG>;
var<workgroup> non_finites: array<u32, WG>;
var<workgroup> counts: array<atomic<u32>, BINS>;

fn is_finite(value: f32) -> bool {
    return (bitcast<u32>(value) & EXPONENT_BITS) != EXPONENT_BITS;
}

@compute @workgroup_size(WG)
fn slice(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let unit = workgroup_index(group, groups);
    // A grid folded to two dimensions can have a few workgroups too many; their slices are empty.
    let first = min(unit * params.slice_elems, params.num_elems);
    let last = min(first + params.slice_elems, params.num_elems);
    var sum = 0.0;
    var smallest = LARGEST;
    var largest = -LARGEST;
    var num_zeros = 0u;
    var num_non_finite = 0u;
    for (var index = first + lane; index < last; index += WG) {
        let value = x[index];
        if is_finite(value) {
            sum += value;
            smallest = min(smallest, value);
            largest = max(largest, value);
            num_zeros += select(0u, 1u, value == 0.0);
        } else {
            num_non_finite += 1u;
        }
    }
    sums[lane] = sum;
    mins[lane] = smallest;
    maxs[lane] = largest;
    zeros[lane] = num_zeros;
    non_finites[lane] = num_non_finite;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sums[lane] += sums[lane + half];
            mins[lane] = min(mins[lane], mins[lane + half]);
            maxs[lane] = max(maxs[lane], maxs[lane + half]);
            zeros[lane] += zeros[lane + half];
            non_finites[lane] += non_finites[lane + half];
        }
    }
    workgroupBarrier();
    let count = f32(last - first - non_finites[0]);
    let mean = sums[0] / max(count, 1.0);
    // Everyone has read the sum before it makes way.
    workgroupBarrier();
    var m2 = 0.0;
    for (var index = first + lane; index < last; index += WG) {
        let value = x[index];
        if is_finite(value) {
            m2 += (value - mean) * (value - mean);
        }
    }
    sums[lane] = m2;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sums[lane] += sums[lane + half];
        }
    }
    if lane == 0u && unit < params.num_slices {
        let base = unit * PARTIAL;
        partials[base] = count;
        partials[base + OF_MEAN] = mean;
        partials[base + OF_M2] = sums[0];
        partials[base + OF_MIN] = mins[0];
        partials[base + OF_MAX] = maxs[0];
        partials[base + OF_ZEROS] = f32(zeros[0]);
        partials[base + OF_NON_FINITE] = f32(non_finites[0]);
    }
}

@compute @workgroup_size(WG)
fn combine(@builtin(local_invocation_index) lane: u32) {
    if lane != 0u || params.row >= params.num_rows {
        return;
    }
    var n = 0.0;
    var mean = 0.0;
    var m2 = 0.0;
    var smallest = LARGEST;
    var largest = -LARGEST;
    var num_zeros = 0u;
    var num_non_finite = 0u;
    for (var index = 0u; index < params.num_slices; index += 1u) {
        let base = index * PARTIAL;
        let own = slices[base];
        let difference = slices[base + OF_MEAN] - mean;
        let together = max(n + own, 1.0);
        mean += difference * (own / together);
        m2 += slices[base + OF_M2] + difference * difference * (n * (own / together));
        n += own;
        smallest = min(smallest, slices[base + OF_MIN]);
        largest = max(largest, slices[base + OF_MAX]);
        num_zeros += u32(slices[base + OF_ZEROS]);
        num_non_finite += u32(slices[base + OF_NON_FINITE]);
    }
    let base = params.row * COLUMNS;
    table[base] = mean;
    table[base + STD_COLUMN] = sqrt(m2 / max(n, 1.0));
    table[base + MIN_COLUMN] = select(smallest, 0.0, n == 0.0);
    table[base + MAX_COLUMN] = select(largest, 0.0, n == 0.0);
    table[base + NORM_COLUMN] = sqrt(m2 + n * mean * mean);
    table[base + ZEROS_COLUMN] = f32(num_zeros);
    table[base + NON_FINITE_COLUMN] = f32(num_non_finite);
    table[base + COUNT_COLUMN] = n;
}

@compute @workgroup_size(WG)
fn histogram(@builtin(local_invocation_index) lane: u32) {
    for (var bin = lane; bin < BINS; bin += WG) {
        atomicStore(&counts[bin], 0u);
    }
    workgroupBarrier();
    for (var index = lane; index < params.num_elems; index += WG) {
        let bits = bitcast<u32>(x[index]);
        if (bits & EXPONENT_BITS) != EXPONENT_BITS {
            let magnitude = (bits & MAGNITUDE_BITS) >> IGNORED_BITS;
            var bin = CENTER;
            if magnitude >= FIRST_BIN {
                let place = min(magnitude - FIRST_BIN, LAST_BIN) + 1u;
                bin = select(CENTER - place, CENTER + place, bits <= MAGNITUDE_BITS);
            }
            atomicAdd(&counts[bin], 1u);
        }
    }
    workgroupBarrier();
    if params.row < params.num_rows {
        for (var bin = lane; bin < BINS; bin += WG) {
            histograms[params.row * BINS + bin] = f32(atomicLoad(&counts[bin]));
        }
    }
}
