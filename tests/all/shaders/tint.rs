//! Every module against Tint, the compiler of Chrome, where it is installed: it is stricter than naga in places, and takes
//! words that naga does not know yet.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use wgrad::ops::kernel::Kernel;
use wgrad::ops::shaders;

use super::kernels::{kernels, write};

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

/// A module with its `override` constants settled, so that what depends on them is checked as well: sizes of workgroups
/// and of arrays, shifts, divisions.
fn settled(kernel: &Kernel) -> String {
    let line = |line: &str| {
        let Some(declared) = line.trim_start().strip_prefix("override ") else { return line.to_owned() };
        let (name, rest) = declared.split_once(':').expect("an override has a type");
        let (ty, default) = rest.split_once('=').expect("an override has a default");
        match kernel.constants.iter().find(|(constant, _)| *constant == name) {
            Some((_, value)) => format!("const {name}: {ty} = {}({value});", ty.trim()),
            None => format!("const {name}: {ty} = {default}"),
        }
    };
    kernel.standard_wgsl().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The kernels of every case, as they are for each kind of device. They are also written out: `web/test.sh` hands them to a
/// browser, which compiles them to the end.
#[test]
fn tint_accepts_the_kernels_of_every_case() {
    let kernels = kernels();
    assert!(kernels.len() > 100, "{} kernels", kernels.len());
    println!("{} kernels in {}", kernels.len(), write(&kernels).display());
    if errors("").is_none() {
        println!("tint is not installed: the kernels of the cases were not held against it");
        return;
    }
    let kernel = &kernels[0];
    let broken = errors(&format!("{}\nconst X = array<f32, 2>()[3];", settled(kernel))).unwrap_or_default();
    assert!(broken.contains("error"), "tint finds an index that is out of bounds: {broken}");
    let modules: BTreeSet<String> = kernels.iter().map(settled).collect();
    let failures: Vec<String> =
        modules.iter().filter_map(|module| errors(module).filter(|found| !found.is_empty())).collect();
    assert!(failures.is_empty(), "{} of {} modules:\n{}", failures.len(), modules.len(), failures.join("\n"));
}
