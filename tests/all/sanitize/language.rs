//! WGSL as its specification has it: control flow, types, functions, built-in values.

use wgrad::sanitize::Options;

use super::{HEADER, LEN, run};

/// Runs the body of `fn main(lane)` for 64 invocations and gives y.
fn y_of(declarations: &str, body: &str) -> Vec<f32> {
    y_with(declarations, body, &Options::default())
}

fn y_with(declarations: &str, body: &str, options: &Options) -> Vec<f32> {
    let source = format!(
        "{HEADER}{declarations}
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {{ {body} }}"
    );
    let (report, y) = run(&source, 1, options);
    let findings: String = report.findings.iter().map(|finding| format!("{finding}\n")).collect();
    assert!(findings.is_empty(), "{findings}");
    y.into_iter().map(f32::from_bits).collect()
}

fn check(declarations: &str, body: &str, want: impl Fn(u32) -> f32) {
    let got = y_of(declarations, body);
    let want: Vec<f32> = (0..LEN as u32).map(want).collect();
    assert_eq!(got, want, "{body}");
}

#[test]
fn breaks_continues_and_returns() {
    check(
        "fn count(lane: u32) -> u32 {
            var sum = 0u;
            for (var i = 0u; i < 20u; i += 1u) {
                if i == lane { continue; }
                if i > 15u { break; }
                if lane > 40u && i == 3u { return 1000u + sum; }
                sum += i;
            }
            if lane == 7u { return sum * 2u; }
            return sum;
        }",
        "y[lane] = f32(count(lane)) + f32(count(3u));",
        |lane| {
            let count = |lane: u32| match lane {
                41.. => 1003,
                7 => 2 * (120 - 7),
                lane if lane < 16 => 120 - lane,
                _ => 120,
            };
            (count(lane) + count(3)) as f32
        },
    );
}

#[test]
fn switches() {
    check(
        "",
        "var sum = 0u;
        for (var i = 0u; i < 4u; i += 1u) {
            switch (lane + i) % 6u {
                case 0u: { sum += 1u; }
                case 1u, 2u: { if i == 3u { break; } sum += 10u; }
                case 3u: { continue; }
                default: { sum += 100u; }
            }
            sum += 1000u;
        }
        y[lane] = f32(sum);",
        |lane| {
            let mut sum = 0;
            for i in 0..4 {
                match (lane + i) % 6 {
                    0 => sum += 1,
                    1 | 2 if i != 3 => sum += 10,
                    1 | 2 => {}
                    3 => continue,
                    _ => sum += 100,
                }
                sum += 1000;
            }
            sum as f32
        },
    );
}

#[test]
fn continuing_and_break_if() {
    check(
        "",
        "var i = 0u;
        var sum = 0u;
        loop {
            if i % 2u == 1u { continue; }
            sum += i;
            continuing {
                i += 1u;
                break if i > lane % 10u;
            }
        }
        y[lane] = f32(sum);",
        |lane| (0..=lane % 10).filter(|i| i % 2 == 0).sum::<u32>() as f32,
    );
}

#[test]
fn pointers_structs_and_arrays() {
    check(
        "struct Inner { a: vec3<f32>, b: f32 }
        struct Outer { list: array<Inner, 3>, on: bool }
        fn put(at: ptr<function, Inner>, value: f32) { (*at).a.y = value; (*at).b += value; }
        fn total(o: Outer) -> f32 {
            var sum = select(0.0, 1.0, o.on);
            for (var i = 0; i < 3; i++) { sum += o.list[i].a.y * 10.0 + o.list[i].b; }
            return sum;
        }",
        "var o = Outer();
        put(&o.list[lane % 3u], x[lane]);
        put(&o.list[1], 2.0);
        o.on = lane > 10u;
        y[lane] = total(o);",
        |lane| {
            let x = lane as f32;
            let lists = if lane % 3 == 1 { 2.0 * 10.0 + x + 2.0 } else { x * 10.0 + x + 22.0 };
            lists + if lane > 10 { 1.0 } else { 0.0 }
        },
    );
}

#[test]
fn matrices() {
    check(
        "",
        "let m = mat2x3<f32>(1.0, 2.0, 3.0, 4.0, 5.0, 6.0);
        let v = m * vec2<f32>(x[lane], 1.0);
        let w = vec3<f32>(1.0, 0.0, 1.0) * m;
        let p = mat3x2<f32>(1.0, 0.0, 0.0, 1.0, 1.0, 1.0) * m;
        y[lane] = v.x + 100.0 * v.z + w.y + p[1].x + m[lane % 2u][2];",
        |lane| {
            let x = lane as f32;
            (x + 4.0) + 100.0 * (3.0 * x + 6.0) + 10.0 + (4.0 + 6.0) + if lane % 2 == 0 { 3.0 } else { 6.0 }
        },
    );
}

#[test]
fn layouts_in_memory() {
    check(
        "struct Item { at: vec3<f32>, weight: f32, next: vec2<f32> }
        var<workgroup> items: array<Item, 64>;",
        "items[lane] = Item(vec3<f32>(x[lane], 1.0, 2.0), 3.0, vec2<f32>(4.0, x[lane]));
        workgroupBarrier();
        let other = items[63u - lane];
        y[lane] = other.at.x + other.weight + items[63u - lane].next.y + f32(arrayLength(&x));",
        |lane| 2.0 * (63 - lane) as f32 + 3.0 + LEN as f32,
    );
}

#[test]
fn integers_and_bits() {
    check(
        "",
        "let a = i32(lane) - 32;
        let b = extractBits(0xABCD1234u, 8u, 8u) + countOneBits(lane) + firstLeadingBit(lane | 1u);
        y[lane] = f32(a / 3 + a % 3 + (a >> 1u) + abs(a) + sign(a)) + f32(b) + f32(clamp(a, -5, 5));",
        |lane| {
            let a = lane as i32 - 32;
            let b = 0x12 + lane.count_ones() + (lane | 1).ilog2();
            (a / 3 + a % 3 + (a >> 1) + a.abs() + a.signum()) as f32 + b as f32 + a.clamp(-5, 5) as f32
        },
    );
}

#[test]
fn functions_of_floats() {
    check(
        "",
        "let a = (x[lane] - 32.0) / 8.0;
        y[lane] = floor(a) + round(a) + fract(a) + trunc(a) + step(0.5, a) + clamp(a, -1.0, 1.0) + mix(1.0, a, 0.25)
            + dot(vec3<f32>(a, 1.0, 2.0), vec3<f32>(2.0)) + fma(a, 2.0, 1.0) + sign(a) + saturate(a);",
        |lane| {
            let a = (lane as f32 - 32.0) / 8.0;
            let sign = if a > 0.0 {
                1.0
            } else if a < 0.0 {
                -1.0
            } else {
                0.0
            };
            let step = if a >= 0.5 { 1.0 } else { 0.0 };
            a.floor()
                + a.round_ties_even()
                + (a - a.floor())
                + a.trunc()
                + step
                + a.clamp(-1.0, 1.0)
                + (0.75 + a * 0.25)
                + (a * 2.0 + 2.0 + 4.0)
                + (a * 2.0 + 1.0)
                + sign
                + a.clamp(0.0, 1.0)
        },
    );
}

#[test]
fn subgroups_of_every_size() {
    for size in [4, 8, 32, 64] {
        let options = Options { subgroup_size: size, ..Options::default() };
        let body = "let sum = subgroupAdd(x[lane]);
            let before = subgroupExclusiveAdd(1u);
            let swapped = subgroupShuffleXor(x[lane], 1u);
            y[lane] = sum * 1000.0 + f32(before) * 10.0 + swapped;";
        let got = y_with("", body, &options);
        for lane in 0..LEN as u32 {
            let first = lane / size * size;
            let sum: u32 = (first..first + size).sum();
            let want = sum as f32 * 1000.0 + (lane - first) as f32 * 10.0 + (lane ^ 1) as f32;
            assert_eq!(got[lane as usize], want, "lane {lane} of subgroups of {size}");
        }
    }
}

#[test]
fn atomics() {
    check(
        "var<workgroup> counts: array<atomic<u32>, 4>;",
        "if lane < 4u { atomicStore(&counts[lane], 10u); }
        workgroupBarrier();
        atomicAdd(&counts[lane % 4u], lane);
        workgroupBarrier();
        atomicMax(&counts[3], 500u + lane);
        workgroupBarrier();
        y[lane] = f32(atomicLoad(&counts[lane % 4u]));",
        |lane| match lane % 4 {
            3 => 563.0,
            rest => (10 + (0..16).map(|i| 4 * i + rest).sum::<u32>()) as f32,
        },
    );
}

#[test]
fn arrays_as_long_as_an_override_says() {
    check(
        "override COUNT: u32 = 32u;
        var<workgroup> a: array<f32, COUNT * 2u>;
        var<workgroup> b: array<f32, COUNT>;",
        "a[lane] = x[lane];
        if lane < COUNT { b[lane] = 1.0; }
        workgroupBarrier();
        y[lane] = a[63u - lane] + b[lane % COUNT];",
        |lane| (64 - lane) as f32,
    );
}

#[test]
fn what_is_not_supported_is_said() {
    let source = "@group(0) @binding(0) var t: texture_2d<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(1) fn main() { y[0] = textureLoad(t, vec2<i32>(0, 0), 0).x; }";
    let error = wgrad::sanitize::Kernel::compile("textured", source, "main", &[]).expect_err("no textures");
    assert!(error.to_string().contains("the interpreter does not know"), "{error}");
}
