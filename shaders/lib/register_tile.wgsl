// An 8 x 4 block of sums that one thread keeps in registers. Named rows instead of an array: a software adapter keeps
// arrays in memory, and other drivers may do so too when a loop over them is not unrolled.

struct RegisterTile {
    row_0: vec4<f32>,
    row_1: vec4<f32>,
    row_2: vec4<f32>,
    row_3: vec4<f32>,
    row_4: vec4<f32>,
    row_5: vec4<f32>,
    row_6: vec4<f32>,
    row_7: vec4<f32>,
}

// Rows that anything is made of: of a tile of channels as many as there are. The others stay 0.
override REAL_ROWS: u32 = 8u;

// Row `row` of a tile, for loops that store: a software adapter makes each store a loop over the lanes, and takes as long to
// compile those of eight rows as all the rest. How often such a loop runs depends on sizes, or a compiler would write it out.
fn tile_row(tile: RegisterTile, row: u32) -> vec4<f32> {
    let first = select(tile.row_0, tile.row_1, row == 1u);
    let second = select(tile.row_2, tile.row_3, row == 3u);
    let third = select(tile.row_4, tile.row_5, row == 5u);
    let fourth = select(tile.row_6, tile.row_7, row == 7u);
    return select(select(first, second, row >= 2u), select(third, fourth, row >= 6u), row >= 4u);
}

// Adds the outer product of a column (rows 0 to 3 in `low`, 4 to 7 in `high`) and a row.
fn add_outer(tile: ptr<function, RegisterTile>, low: vec4<f32>, high: vec4<f32>, row: vec4<f32>) {
    (*tile).row_0 += low.x * row;
    if REAL_ROWS > 1u { (*tile).row_1 += low.y * row; }
    if REAL_ROWS > 2u { (*tile).row_2 += low.z * row; }
    if REAL_ROWS > 3u { (*tile).row_3 += low.w * row; }
    if REAL_ROWS > 4u { (*tile).row_4 += high.x * row; }
    if REAL_ROWS > 5u { (*tile).row_5 += high.y * row; }
    if REAL_ROWS > 6u { (*tile).row_6 += high.z * row; }
    if REAL_ROWS > 7u { (*tile).row_7 += high.w * row; }
}

// The same for rows 0 to 3, and for rows 4 to 7.
fn add_low(tile: ptr<function, RegisterTile>, column: vec4<f32>, row: vec4<f32>) {
    (*tile).row_0 += column.x * row;
    (*tile).row_1 += column.y * row;
    (*tile).row_2 += column.z * row;
    (*tile).row_3 += column.w * row;
}

fn add_high(tile: ptr<function, RegisterTile>, column: vec4<f32>, row: vec4<f32>) {
    (*tile).row_4 += column.x * row;
    (*tile).row_5 += column.y * row;
    (*tile).row_6 += column.z * row;
    (*tile).row_7 += column.w * row;
}
