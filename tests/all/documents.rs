//! What the documents say of the program and the code: flags, files, and the layers of `ARCHITECTURE.md`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cli::{Place, read, succeeds};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn document(name: &str) -> String {
    read(&Path::new(ROOT).join(name))
}

/// All files below a folder of the repository.
fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The words of a text that are written as long flags.
fn long_flags(text: &str) -> BTreeSet<&str> {
    let is_in_flag = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let words = text.split(|c: char| !is_in_flag(c));
    words.filter(|word| word.len() > 2 && word.starts_with("--") && !word.starts_with("---")).collect()
}

#[test]
fn flags_that_the_documents_name_exist() {
    const DOCUMENTS: [&str; 5] = ["README.md", "docs/training.md", "docs/models.md", "docs/data.md", "docs/sweeps.md"];
    // Of cargo, of the tests and benches, of Slurm.
    const OTHERS: [&str; 10] = [
        "--release",
        "--bin",
        "--bench",
        "--example",
        "--features",
        "--rounds",
        "--devices",
        "--array",
        "--wrap",
        "--cpus-per-task",
    ];
    let place = Place::new();
    let help = |command: &[&str]| succeeds(place.lenet(&[command, &["--help"]].concat()));
    let main = help(&[]);
    let commands = main.split_once("Commands:").unwrap().1.split_once("Options:").unwrap().0;
    let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let commands = commands.lines().filter(is_name).map(|line| line.split_whitespace().next().unwrap());
    let commands: Vec<&str> = commands.filter(|name| !["help", "data"].contains(name)).collect();
    assert!(commands.len() >= 14, "{commands:?}");
    let mut texts: Vec<String> = commands.iter().map(|command| help(&[command])).collect();
    texts.extend(["list", "fetch", "show"].map(|command| help(&["data", command])));
    let known: BTreeSet<&str> = texts.iter().flat_map(|text| long_flags(text)).chain(OTHERS).collect();
    for document in DOCUMENTS {
        let text = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(document));
        let unknown: Vec<&str> = long_flags(&text).into_iter().filter(|flag| !known.contains(flag)).collect();
        assert!(unknown.is_empty(), "{document} names {unknown:?}");
    }
}

#[test]
fn files_that_the_documents_name_exist() {
    const ENDS: [&str; 8] = [".rs", ".wgsl", ".py", ".sh", ".md", ".toml", ".js", ".mjs"];
    let mut files = Vec::new();
    for folder in ["src", "shaders", "tests", "benches", "examples", "docs", "web/src", "web/page", "web/test"] {
        files_below(&Path::new(ROOT).join(folder), &mut files);
    }
    let mut num_named = 0;
    for name in
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/training.md", "docs/models.md", "docs/browser.md"]
    {
        let text = document(name);
        // Every second piece between backquotes is code.
        for named in text.split('`').skip(1).step_by(2) {
            let is_path = named.contains('/') && ENDS.iter().any(|end| named.ends_with(end));
            if !is_path || named.contains(['<', ' ', '*', '$']) {
                continue;
            }
            num_named += 1;
            let is_there = Path::new(ROOT).join(named).exists() || files.iter().any(|file| file.ends_with(named));
            assert!(is_there, "{name} names {named}");
        }
    }
    assert!(num_named > 30, "{num_named}");
}

/// The modules that a file imports from the crate's root, without its tests.
fn imports(text: &str) -> BTreeSet<&str> {
    let code = text.split("#[cfg(test)]\n#[expect").next().unwrap().split("#[cfg(test)]\nmod tests {").next().unwrap();
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let after = lines.flat_map(|line| line.split("crate::").skip(1));
    after.map(|rest| rest.split(|c| !is_in_name(c)).next().unwrap()).collect()
}

#[test]
fn folders_import_only_those_above_them() {
    let architecture = document("ARCHITECTURE.md");
    // One folder a row; a row of several is what all may use.
    let folder = |line: &str| Some(line.strip_prefix("| `src/")?.split_once("/` |")?.0.to_owned());
    let layers: Vec<String> =
        architecture.lines().filter_map(folder).filter(|name| !name.contains(['`', '/'])).collect();
    assert!(layers.first().is_some_and(|first| first == "graph") && layers.len() >= 12, "{layers:?}");
    let mut num_imports = 0;
    for (level, layer) in layers.iter().enumerate() {
        let mut files = Vec::new();
        files_below(&Path::new(ROOT).join("src").join(layer), &mut files);
        for file in files.iter().filter(|file| !file.components().any(|part| part.as_os_str() == "tests")) {
            if file.file_stem().is_some_and(|stem| stem == "tests") {
                continue;
            }
            for import in imports(&read(file)) {
                let Some(of) = layers.iter().position(|other| other == import) else { continue };
                num_imports += 1;
                let is_the_circle = layer == "graph" && import == "ops";
                assert!(of <= level || is_the_circle, "{} imports {import}, which is below {layer}", file.display());
            }
        }
    }
    assert!(num_imports > 300, "{num_imports}");
}
