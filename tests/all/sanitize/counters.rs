//! What is counted, on kernels whose numbers are known by hand.

use wgrad::sanitize::estimate::{MACHINES, Machine};
use wgrad::sanitize::{Counters, Options};

use super::{HEADER, run};

fn count(declarations: &str, body: &str) -> Counters {
    let source = format!(
        "{HEADER}{declarations}
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {{ {body} }}"
    );
    let (report, _) = run(&source, 1, &Options { count: true, ..Options::default() });
    assert!(report.findings.is_empty(), "{}", report.findings[0]);
    report.counters.expect("asked for")
}

/// 64 floats in a row are 8 sectors of 32 bytes; every eighth of 512 is a sector for each.
#[test]
fn sectors_of_neighbours_and_of_strides() {
    let row = count("", "y[lane] = x[lane];");
    assert_eq!((row.global_accesses, row.sectors, row.footprint_words), (4, [16, 16], 128));
    let strided = count("", "y[lane] = x[(lane * 8u) % 64u];");
    // Each warp of 32 reads 8 different words, one a sector, which would fit into one.
    assert_eq!(strided.sectors, [8 + 2 * 8, 8 + 2]);
    let same = count("", "y[lane] = x[3];");
    assert_eq!(same.sectors, [8 + 2, 8 + 2]);
}

#[test]
fn conflicts_of_banks() {
    let passes = |index: &str| {
        let body = format!("a[lane] = x[lane]; a[lane + 64u] = 1.0; workgroupBarrier(); y[lane] = a[{index}];");
        // Two warps write twice.
        let [took, least] = count("var<workgroup> a: array<f32, 128>;", &body).bank_passes;
        [took - 4, least - 4]
    };
    assert_eq!(passes("lane"), [2, 2]);
    assert_eq!(passes("5u"), [2, 2], "one word for all is no conflict");
    assert_eq!(passes("lane * 2u"), [4, 2]);
    assert_eq!(passes("lane % 4u * 32u"), [8, 2]);
    // Four words each, in four parts of eight invocations.
    let quads = count(
        "var<workgroup> q: array<vec4<f32>, 64>;",
        "q[lane] = vec4<f32>(x[lane]); workgroupBarrier(); y[lane] = q[lane].x + q[63u - lane].y;",
    );
    // A component alone is a word, four words from the next: each warp goes over its banks four times.
    assert_eq!(quads.bank_passes, [8 + 2 * 8, 8 + 2 * 2]);
}

#[test]
fn arithmetic_by_kind() {
    let counted = count("", "y[lane] = x[lane] * 2.0 + 1.0;");
    assert_eq!((counted.multiply_adds, counted.float_operations, counted.special_operations), (64, 0, 0));
    let counted = count("", "let a = x[lane]; y[lane] = a * a + a * 3.0 - exp(a);");
    // One of two products is taken up by the sum.
    assert_eq!((counted.multiply_adds, counted.float_operations, counted.special_operations), (64, 64 + 64, 64));
    let counted = count("", "workgroupBarrier(); y[lane] = 1.0; workgroupBarrier();");
    assert_eq!(counted.barriers, 2);
}

/// A sum of 16 waits for each load in turn; with four in flight it waits four times.
#[test]
fn chains_of_loads() {
    let chain = |body: &str| count("", body).load_chain;
    assert_eq!(chain("y[lane] = x[lane];"), 1);
    let one_by_one = "var sum = 0.0;
        for (var i = 0u; i < 16u; i += 1u) { sum += x[(lane + i) % 64u]; }
        y[lane] = sum;";
    assert_eq!(chain(one_by_one), 16);
    let four_ahead = "var sum = 0.0;
        for (var i = 0u; i < 16u; i += 4u) {
            let a = x[(lane + i) % 64u];
            let b = x[(lane + i + 1u) % 64u];
            let c = x[(lane + i + 2u) % 64u];
            let d = x[(lane + i + 3u) % 64u];
            sum += a;
            sum += b;
            sum += c;
            sum += d;
        }
        y[lane] = sum;";
    assert_eq!(chain(four_ahead), 4);
    assert!(count("", one_by_one).cycles > 2 * count("", four_ahead).cycles);
    // An address out of a load waits for it.
    assert_eq!(chain("y[lane] = x[u32(x[u32(x[lane])])];"), 3);
}

/// Sixteen sums at once are sixteen registers and a little more.
#[test]
fn live_registers_are_bounded() {
    let few = count("", "y[lane] = x[lane];").live_registers;
    assert!((1..=4).contains(&few), "{few}");
    let many = count(
        "",
        "var a = array<vec4<f32>, 4>();
        for (var i = 0u; i < 4u; i += 1u) { a[0] += x[i]; a[1] += x[i + 1u]; a[2] += x[i + 2u]; a[3] += x[i + 3u]; }
        let s = a[0] + a[1] + a[2] + a[3];
        y[lane] = s.x + s.y + s.z + s.w;",
    );
    assert!((16..=28).contains(&many.live_registers), "{}", many.live_registers);
}

#[test]
fn machines_have_the_rates_that_their_makers_print() {
    let printed = [("h100", 60.0), ("4090", 82.0), ("m2", 3.6)];
    for (name, tflops) in printed {
        let machine = Machine::named(name).expect("it is known");
        assert!((machine.tflops() / tflops - 1.0).abs() < 0.03, "{name}: {}", machine.tflops());
    }
    assert_eq!(MACHINES.len(), printed.len());
    let error = Machine::named("h200").expect_err("it is not known").to_string();
    assert!(error.contains("h100, 4090, m2"), "{error}");
}
