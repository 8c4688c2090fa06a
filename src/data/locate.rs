//! Where a data set's files are: a folder that the user names, else the cache, else the system's data sets, else the
//! bundled subset.

use std::env;
use std::path::{Path, PathBuf};

use super::cifar::{self, Records};
use super::{Dataset, DatasetName, IdxPair, Split, Splits, bundled, dataset, idx};
use crate::{Error, Result};

/// Where Debian's data packages put their files.
const SYSTEM_DIR: &str = "/usr/share/datasets";
/// The folder inside the archive that CIFAR-10 is published as.
const CIFAR_DIR: &str = "cifar-10-batches-bin";
/// Images and labels of the training and of the test split; each may end in `.gz`.
const IDX_TRAIN: [&str; 2] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];
const IDX_TEST: [&str; 2] = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// Loads a data set from `dir`, or from `dir/<name>`; for CIFAR-10 also from a folder `cifar-10-batches-bin` in either.
/// Without `dir` it looks in `<cache>/<name>` (see [`cache_dir`]), then in `/usr/share/datasets/<name>`; FashionMNIST
/// falls back on the bundled subset.
///
/// Files are those of the publishers: four IDX files, plain or gzip, or the six files of CIFAR-10's binary version.
///
/// # Errors
/// [`Error::Data`] naming the file if one is missing from the folder or does not hold what it should; [`Error::Io`] if
/// one cannot be read; [`Error::Config`] naming `--data` if no `dir` is given and there are no files to be found.
pub fn load(name: DatasetName, dir: Option<&Path>) -> Result<Splits> {
    match dir {
        Some(dir) => load_from(name, dir),
        None => load_default(name, &default_dirs(name)),
    }
}

/// The folder for downloaded data: `wgrad` in `$XDG_CACHE_HOME`, or in `.cache` of the home folder. `None` if the
/// environment names neither.
pub fn cache_dir() -> Option<PathBuf> {
    // The XDG base directory specification has relative paths ignored.
    let absolute = |variable| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute(if cfg!(windows) { "USERPROFILE" } else { "HOME" });
    absolute("XDG_CACHE_HOME").or_else(|| Some(home()?.join(".cache"))).map(|cache| cache.join("wgrad"))
}

fn default_dirs(name: DatasetName) -> Vec<PathBuf> {
    let cache = cache_dir().into_iter();
    cache.chain([PathBuf::from(SYSTEM_DIR)]).map(|parent| parent.join(name.to_string())).collect()
}

fn load_from(name: DatasetName, dir: &Path) -> Result<Splits> {
    let places = [dir.to_owned(), dir.join(name.to_string())];
    match find(name, &places) {
        Some(found) => read(name, &found),
        None => Err(missing(name, dir, first_file(name))),
    }
}

fn load_default(name: DatasetName, dirs: &[PathBuf]) -> Result<Splits> {
    match (find(name, dirs), name) {
        (Some(found), _) => read(name, &found),
        (None, DatasetName::FashionMnist) => bundled::fashion_mnist(),
        (None, DatasetName::Mnist | DatasetName::Cifar10) => {
            let expected = format!("the folder with the files of {name} ({})", files_in_words(name));
            let looked: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            Err(Error::config("--data", expected, format!("none, and there are none in {}", looked.join(" or "))))
        }
    }
}

/// The first folder with at least one of the data set's files. The others must be there too, which [`read`] sees to: a
/// folder that lost a file is an error, not a reason to train on something else.
fn find(name: DatasetName, dirs: &[PathBuf]) -> Option<PathBuf> {
    let nested = |dir: &PathBuf| match name {
        DatasetName::Cifar10 => vec![dir.clone(), dir.join(CIFAR_DIR)],
        DatasetName::FashionMnist | DatasetName::Mnist => vec![dir.clone()],
    };
    let has_any = |dir: &PathBuf| match name {
        DatasetName::Cifar10 => cifar_files().any(|file| dir.join(file).exists()),
        DatasetName::FashionMnist | DatasetName::Mnist => {
            IDX_TRAIN.iter().chain(&IDX_TEST).any(|stem| idx_file(dir, stem).is_some())
        }
    };
    dirs.iter().flat_map(nested).find(has_any)
}

fn read(name: DatasetName, dir: &Path) -> Result<Splits> {
    let (train, test) = match name {
        DatasetName::Cifar10 => {
            let test = read_cifar(dir, &[cifar::TEST_FILE], Split::Test)?;
            (read_cifar(dir, &cifar::TRAIN_FILES, Split::Train)?, test)
        }
        DatasetName::FashionMnist | DatasetName::Mnist => {
            let test = read_idx(name, dir, &IDX_TEST, Split::Test)?;
            (read_idx(name, dir, &IDX_TRAIN, Split::Train)?, test)
        }
    };
    Ok(Splits { train, test, source: dir.display().to_string() })
}

fn read_idx(name: DatasetName, dir: &Path, stems: &[&str; 2], split: Split) -> Result<Dataset> {
    let path = |stem: &str| idx_file(dir, stem).ok_or_else(|| missing(name, dir, format!("{stem}.gz")));
    let [images_path, labels_path] = [path(stems[0])?, path(stems[1])?];
    // The labels first: they are small, so what is wrong with them is found early.
    let labels = idx::read_labels(&labels_path)?;
    let images = idx::read_images(&images_path)?;
    IdxPair { images_path, labels_path, images, labels }.into_dataset(name, split)
}

fn read_cifar(dir: &Path, files: &[&str], split: Split) -> Result<Dataset> {
    let mut records = Records::default();
    for &file in files {
        let path = dir.join(file);
        if !path.exists() {
            return Err(missing(DatasetName::Cifar10, dir, file.to_owned()));
        }
        cifar::read_into(&path, &mut records)?;
    }
    Ok(dataset(DatasetName::Cifar10, split, records.images, records.labels))
}

/// The file as it is published, else unpacked.
fn idx_file(dir: &Path, stem: &str) -> Option<PathBuf> {
    [format!("{stem}.gz"), stem.to_owned()].into_iter().map(|file| dir.join(file)).find(|path| path.exists())
}

fn cifar_files() -> impl Iterator<Item = &'static str> {
    cifar::TRAIN_FILES.into_iter().chain([cifar::TEST_FILE])
}

fn first_file(name: DatasetName) -> String {
    match name {
        DatasetName::Cifar10 => cifar::TRAIN_FILES[0].to_owned(),
        DatasetName::FashionMnist | DatasetName::Mnist => format!("{}.gz", IDX_TRAIN[0]),
    }
}

fn files_in_words(name: DatasetName) -> String {
    match name {
        DatasetName::Cifar10 => format!("the binary version: {}", cifar_files().collect::<Vec<_>>().join(", ")),
        DatasetName::FashionMnist | DatasetName::Mnist => {
            let stems: Vec<_> = IDX_TRAIN.iter().chain(&IDX_TEST).map(|stem| format!("{stem}.gz")).collect();
            format!("plain or .gz: {}", stems.join(", "))
        }
    }
}

fn missing(name: DatasetName, dir: &Path, file: String) -> Error {
    let expected = format!("a file of {name} ({})", files_in_words(name));
    Error::data(&dir.join(file), expected, "no such file; put it there, or name another folder with --data")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;

    #[test]
    fn nothing_found_says_where_it_looked_and_what_to_pass() {
        let dirs = [PathBuf::from("/nowhere/cache/mnist"), PathBuf::from("/nowhere/share/mnist")];
        let error = load_default(DatasetName::Mnist, &dirs).unwrap_err();
        let text = error.to_string();
        assert!(error.is_usage(), "{text}");
        for part in ["--data", "/nowhere/cache/mnist", "/nowhere/share/mnist", "train-images-idx3-ubyte.gz"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let text = load_default(DatasetName::Cifar10, &dirs).unwrap_err().to_string();
        assert!(text.contains("--data") && text.contains("test_batch.bin"), "{text}");
    }

    #[test]
    fn fashion_mnist_falls_back_on_the_bundled_subset() {
        let splits = load_default(DatasetName::FashionMnist, &[PathBuf::from("/nowhere")]).unwrap();
        assert!(splits.source.contains("bundled"), "{}", splits.source);
    }

    #[test]
    fn default_folders_end_in_the_name_and_the_cache_comes_first() {
        let dirs = default_dirs(DatasetName::Cifar10);
        assert!(dirs.iter().all(|dir| dir.ends_with("cifar10")), "{dirs:?}");
        assert_eq!(dirs.last(), Some(&PathBuf::from("/usr/share/datasets/cifar10")));
        assert_eq!(cache_dir().map(|cache| cache.join("cifar10")).as_ref(), dirs.first().filter(|_| dirs.len() == 2));
    }
}
