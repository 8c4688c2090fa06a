//! The CPU's kernels in f32 on every instruction set that this CPU has, against the f64 reference.

use crate::cases;
use crate::harness::check_cpu;

/// On the set that `WGRAD_CPU` forces, else the widest: what the other test here starts.
#[test]
fn cases_hold() {
    check_cpu(cases::conv2d::direct());
    check_cpu(cases::conv2d::pooled());
    check_cpu(cases::conv2d::sizes());
    check_cpu(cases::conv2d::attributes());
    check_cpu(cases::conv2d::lenet());
    check_cpu(cases::matmul::cases());
    check_cpu(cases::max_pool2d::cases());
    check_cpu(cases::softmax::cases());
    check_cpu(cases::batch_norm2d::cases());
    check_cpu(cases::cross_entropy::cases());
    check_cpu(cases::elementwise::unary());
    check_cpu(cases::elementwise::binary());
    check_cpu(cases::reduce::cases());
}

/// The set is chosen once in a process, so each gets one of its own.
#[test]
fn lesser_sets_hold_too() {
    for wanted in ["avx2", "portable"] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ops::instruction_sets::cases_hold"])
            .env("WGRAD_CPU", wanted)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{wanted}: {text}");
    }
}
