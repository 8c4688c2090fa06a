//! The subcommands around trained models and data sets, as a user meets them: what they print and write, and the exit
//! codes.

mod data;
mod eval;
mod export;
mod fetch;
mod lr_find;
mod predict;
mod refused;
mod server;
mod summary;

use std::path::{Path, PathBuf};

use crate::cli::{DATA, Place, TINY, succeeds};

/// A place with a run that has ended, a tiny one where no size is given; the run's folder.
fn trained(size: &[&str]) -> (Place, PathBuf) {
    let place = Place::new();
    let size = if size.is_empty() { &TINY } else { size };
    succeeds(place.lenet(&[&["--device=cpu", "--data", DATA, "--no-report"], size].concat()));
    let run = place.runs().remove(0);
    (place, run)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// That a file is a PNG picture of some size with more than white on it.
fn check_png(path: &Path) {
    let picture = image::open(path).unwrap().to_rgb8();
    let inked = picture.pixels().filter(|pixel| pixel.0 != [255; 3]).count();
    assert!(picture.width() >= 200 && inked * 50 > picture.pixels().len(), "{}", path.display());
}
