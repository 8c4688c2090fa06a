//! Every module against Tint, the compiler of Chrome, where it is installed: it is stricter than naga in places, and takes
//! words that naga does not know yet.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use wgrad::ops::shaders;

use super::kernels::{kernels, settled, write};

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

/// The kernels of every case, as they are for each kind of device. They are also written out: `web/test.sh` hands them to a
/// browser.
#[test]
fn tint_accepts_the_kernels_of_every_case() {
    let modules: BTreeSet<String> = kernels().iter().map(settled).collect();
    assert!(modules.len() > 100, "{} kernels", modules.len());
    println!("{} kernels in {}", modules.len(), write(&modules).display());
    if errors("").is_none() {
        println!("tint is not installed: the kernels of the cases were not held against it");
        return;
    }
    let module = modules.first().expect("there are many");
    let broken = errors(&format!("{module}\nconst X = array<f32, 2>()[3];")).unwrap_or_default();
    assert!(broken.contains("error"), "tint finds an index that is out of bounds: {broken}");
    let failures: Vec<String> =
        modules.iter().filter_map(|module| errors(module)).filter(|found| !found.is_empty()).collect();
    assert!(failures.is_empty(), "{} of {} kernels:\n{}", failures.len(), modules.len(), failures.join("\n"));
}
