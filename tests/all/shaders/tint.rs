//! Every module against Tint, the compiler of Chrome, where it is installed: it is stricter than naga in places, and takes
//! words that naga does not know yet.

use std::process::{Command, Stdio};

use wgrad::ops::shaders;

/// What Tint says of a module; `None` where it is not installed.
fn errors(source: &str) -> Option<String> {
    let file = tempfile::Builder::new().suffix(".wgsl").tempfile().expect("a temporary file can be made");
    std::fs::write(file.path(), source).expect("it can be written");
    let output = Command::new("tint").args(["--format", "wgsl"]).arg(file.path()).stdin(Stdio::null()).output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(if output.status.success() && !said.contains("error") { String::new() } else { format!("{said}\n") })
}

#[test]
fn tint_accepts_every_shader() {
    if errors("").is_none() {
        println!("tint is not installed: the shaders were not held against it");
        return;
    }
    let broken = errors("fn f() -> f32 { return 1u; }").unwrap_or_default();
    assert!(broken.contains("error"), "tint finds a wrong type: {broken}");
    for shader in shaders() {
        let found = errors(&shader.standard_wgsl()).unwrap_or_default();
        assert!(found.is_empty(), "{} (subgroups: {}): {found}", shader.name, shader.needs_subgroups);
    }
}
