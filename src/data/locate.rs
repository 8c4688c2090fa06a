//! Where a data set's files are: a folder that the user names, else the cache, else the system's data sets, else the
//! bundled subset.

use std::path::{Path, PathBuf};
use std::{env, fmt};

use super::cifar::{self, Records};
use super::{Dataset, DatasetName, IdxPair, Split, Splits, bundled, dataset, idx};
use crate::{Error, Result};

/// Where Debian's data packages put their files.
const SYSTEM_DIR: &str = "/usr/share/datasets";
/// The folder inside the archive that CIFAR-10 is published as.
pub(super) const CIFAR_DIR: &str = "cifar-10-batches-bin";
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
/// one cannot be read; [`Error::Setting`] naming `--data` if no `dir` is given and there are no files to be found.
pub fn load(name: DatasetName, dir: Option<&Path>) -> Result<Splits> {
    match (places(name, dir).first(), dir) {
        (Some(place), _) => place.load(),
        (None, Some(dir)) => Err(missing(name, dir, first_file(name))),
        (None, None) => Err(nowhere(name, &default_dirs(name))),
    }
}

/// A place where there are files of a data set: at least one; [`Place::load`] says whether all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The data set.
    pub name: DatasetName,
    /// What kind of place it is.
    pub kind: PlaceKind,
    /// The folder that the files are in; `None` for those that come with the library.
    pub dir: Option<PathBuf>,
}

/// What kind of place files are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceKind {
    /// The folder that was asked for.
    Given,
    /// The cache folder, see [`cache_dir`].
    Cache,
    /// Where the system keeps data sets.
    System,
    /// The library itself.
    Bundled,
}

/// The places that [`load`] looks in and finds files in, in its order of preference: it takes the first. A folder that
/// lost a file is an error then, not a reason to train on something else.
pub fn places(name: DatasetName, dir: Option<&Path>) -> Vec<Place> {
    if let Some(dir) = dir {
        let found = find(name, &[dir.to_owned(), dir.join(name.to_string())]);
        return found.into_iter().map(|dir| Place { name, kind: PlaceKind::Given, dir: Some(dir) }).collect();
    }
    let mut places = places_in(name, &default_dirs(name));
    if name == DatasetName::FashionMnist {
        places.push(Place { name, kind: PlaceKind::Bundled, dir: None });
    }
    places
}

impl Place {
    /// Reads the files.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self) -> Result<Splits> {
        match &self.dir {
            Some(dir) => read(self.name, dir),
            None => bundled::fashion_mnist(),
        }
    }
}

impl fmt::Display for PlaceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PlaceKind::Given => "given",
            PlaceKind::Cache => "cache",
            PlaceKind::System => "system",
            PlaceKind::Bundled => "bundled",
        })
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

/// The folders to look in, with what they are.
fn default_dirs(name: DatasetName) -> Vec<(PlaceKind, PathBuf)> {
    let cache = cache_dir().map(|cache| (PlaceKind::Cache, cache));
    let parents = cache.into_iter().chain([(PlaceKind::System, PathBuf::from(SYSTEM_DIR))]);
    parents.map(|(kind, parent)| (kind, parent.join(name.to_string()))).collect()
}

fn places_in(name: DatasetName, dirs: &[(PlaceKind, PathBuf)]) -> Vec<Place> {
    let place = |(kind, dir): &(PlaceKind, PathBuf)| {
        let dir = find(name, std::slice::from_ref(dir))?;
        Some(Place { name, kind: *kind, dir: Some(dir) })
    };
    dirs.iter().filter_map(place).collect()
}

/// The first folder with at least one of the data set's files.
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

pub(super) fn cifar_files() -> impl Iterator<Item = &'static str> {
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

fn nowhere(name: DatasetName, dirs: &[(PlaceKind, PathBuf)]) -> Error {
    let expected = format!("the folder with the files of {name} ({})", files_in_words(name));
    let looked: Vec<_> = dirs.iter().map(|(_, dir)| dir.display().to_string()).collect();
    let looked = looked.join(" or ");
    Error::setting(
        "data",
        expected,
        format!("none, and there are none in {looked}; `lenet data fetch {name}` downloads them"),
    )
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
        let dirs = [
            (PlaceKind::Cache, PathBuf::from("/nowhere/cache/mnist")),
            (PlaceKind::System, PathBuf::from("/nowhere/share/mnist")),
        ];
        assert_eq!(places_in(DatasetName::Mnist, &dirs), []);
        let error = nowhere(DatasetName::Mnist, &dirs);
        let text = error.to_string();
        assert!(error.is_usage(), "{text}");
        for part in [
            "--data",
            "/nowhere/cache/mnist",
            "/nowhere/share/mnist",
            "train-images-idx3-ubyte.gz",
            "lenet data fetch mnist",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let text = nowhere(DatasetName::Cifar10, &dirs).to_string();
        assert!(text.contains("--data") && text.contains("test_batch.bin"), "{text}");
    }

    #[test]
    fn fashion_mnist_falls_back_on_the_bundled_subset() {
        let last = places(DatasetName::FashionMnist, None).pop().unwrap();
        assert_eq!((last.kind, &last.dir), (PlaceKind::Bundled, &None));
        let source = last.load().unwrap().source;
        assert!(source.contains("bundled"), "{source}");
        assert_eq!(
            places(DatasetName::FashionMnist, Some(Path::new("/nowhere"))),
            [],
            "a folder that is named is meant"
        );
    }

    #[test]
    fn default_folders_end_in_the_name_and_the_cache_comes_first() {
        let dirs = default_dirs(DatasetName::Cifar10);
        assert!(dirs.iter().all(|(_, dir)| dir.ends_with("cifar10")), "{dirs:?}");
        assert_eq!(dirs.last(), Some(&(PlaceKind::System, PathBuf::from("/usr/share/datasets/cifar10"))));
        let cache = cache_dir().map(|cache| (PlaceKind::Cache, cache.join("cifar10")));
        assert_eq!(cache.as_ref(), dirs.first().filter(|_| dirs.len() == 2));
    }
}
