//! The CPU's kernels in f32 on every instruction set that this CPU has, against the f64 reference.

use crate::cases;
use crate::harness::{check_cpu, check_cpu_runs};

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

/// In groups of as many images as `WGRAD_BATCH_TILE` says, else as many as suit the work.
#[test]
fn whole_runs_hold() {
    check_cpu_runs(cases::conv2d::pooled());
    check_cpu_runs(cases::conv2d::attributes());
    check_cpu_runs(cases::conv2d::lenet());
    check_cpu_runs(cases::matmul::cases());
    check_cpu_runs(cases::max_pool2d::cases());
    check_cpu_runs(cases::avg_pool2d::cases());
    check_cpu_runs(cases::softmax::cases());
    check_cpu_runs(cases::batch_norm2d::cases());
    check_cpu_runs(cases::cross_entropy::cases());
    check_cpu_runs(cases::elementwise::binary());
    check_cpu_runs(cases::reduce::cases());
    check_cpu_runs(cases::copy::cases());
    check_cpu_runs(cases::concat::cases());
    check_cpu_runs(cases::pad::cases());
    check_cpu_runs(cases::argmax::cases());
    check_cpu_runs(cases::dropout::cases());
    check_cpu_runs(cases::gather::cases());
    check_cpu_runs(cases::augment::cases());
}

#[test]
fn whole_runs_hold_for_any_number_of_images_at_a_time() {
    for images in ["1", "3"] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ops::instruction_sets::whole_runs_hold"])
            .env("WGRAD_BATCH_TILE", images)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{images}: {text}");
    }
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
