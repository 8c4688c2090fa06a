//! Files that the program draws: what `--picture` takes, and that no input is lost to one.

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use wgrad::data::{DataSource, places};
use wgrad::run::RunConfig;
use wgrad::{Error, Result};

use crate::options::usage;

/// A parser for the names of pictures, all of which are PNG files.
pub fn png_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
        if is_png { Ok(path) } else { Err("expected a name that ends in .png, as pictures are PNG files") }
    })
}

/// Checks that a file to write, if there is one, takes the place of none of these: inputs, or folders of them.
pub fn keep(option: &str, output: Option<&Path>, inputs: &[PathBuf]) -> Result<()> {
    let canonical = |path: &Path| std::fs::canonicalize(path).ok();
    // What does not exist yet takes no other's place.
    let Some(existing) = output.and_then(canonical) else { return Ok(()) };
    let is_input = inputs.iter().filter_map(|input| canonical(input)).any(|input| existing.starts_with(input));
    if is_input { Err(taken(option, &existing)) } else { Ok(()) }
}

/// The same for a data set's images, where these are files that a picture could be taken for.
pub fn keep_images(output: Option<&Path>, config: &RunConfig) -> Result<()> {
    let RunConfig { dataset, data, .. } = config;
    if output.is_none() || !matches!(dataset, DataSource::ImageFolder(_)) {
        return Ok(());
    }
    let folders: Vec<PathBuf> = places(dataset, data.as_deref()).into_iter().filter_map(|place| place.dir).collect();
    keep("--picture", output, &folders)
}

fn taken(option: &str, path: &Path) -> Error {
    usage(option, "a file that is not an input of the command", &path.display().to_string())
}
