//! Where a data set's files are: a folder that the user names, else the cache, else the system's data sets, else the
//! bundled subset.

use std::path::{Path, PathBuf};
use std::{env, fmt};

use super::source::Files;
use super::{ChannelStats, DataSource, Dataset, Split, Splits};
use crate::{Error, Result, files};

/// Where Debian's data packages put their files.
const SYSTEM_DIR: &str = "/usr/share/datasets";
/// Names of a folder's contents that a message lists.
const MOST_LISTED: usize = 8;

/// Loads a data set from `dir`, which is the folder of its files or has it inside, under the data set's name or
/// torchvision's (`MNIST/raw`, `cifar-10-batches-bin`). Without `dir` it searches `<cache>/<name>` (see
/// [`cache_dir`]), then in `/usr/share/datasets/<name>`; FashionMNIST falls back on the bundled subset.
///
/// Files are those of the publishers, such as four IDX files, plain or gzip, or the six files of CIFAR-10's binary
/// version.
///
/// # Errors
/// [`Error::Data`] naming the file if one is missing from the folder or does not hold what it should; [`Error::Io`] if
/// one cannot be read; [`Error::Setting`] naming `data` if no `dir` is given and there are no files to be found.
pub fn load(source: &DataSource, dir: Option<&Path>) -> Result<Splits> {
    match (places(source, dir).first(), dir) {
        (Some(place), _) => place.load(),
        (None, Some(dir)) => {
            let files = source.get().files();
            Err(missing(files.as_ref(), dir, &files.first()))
        }
        (None, None) => Err(nowhere(source, &default_dirs(source))),
    }
}

/// A data set of no images that knows everything else of `source`: shape, classes, statistics. Files are read only
/// where nothing was published of them; errors as [`load`] then.
pub fn describe(source: &DataSource, dir: Option<&Path>) -> Result<Dataset> {
    let Some(stats) = source.get().stats() else {
        return load(source, dir)?.test.subset(&[]);
    };
    let empty = Dataset::from_arrays(vec![], vec![], source.get().class_names(dir)?, source.get().image_shape())?;
    Ok(empty.named(source.name()).with_split(Split::Test).with_stats(Some(stats)))
}

/// As many black images as there are of `source`, for what only depends on shapes. Files are read only where nothing
/// was published of them; errors as [`load`] then.
pub(crate) fn blank(source: &DataSource, dir: Option<&Path>) -> Result<Splits> {
    let (Some([train, test]), Ok(class_names)) = (source.get().num_images(), source.get().class_names(dir)) else {
        return load(source, dir);
    };
    let shape = source.get().image_shape();
    // Whatever the statistics are, they are not of these images.
    let same = |value| vec![value; shape[0]];
    let stats = source.get().stats().unwrap_or_else(|| ChannelStats { mean: same(0.0), std: same(1.0) });
    let empty = Dataset::from_arrays(vec![], vec![], class_names, shape)?.named(source.name()).with_stats(Some(stats));
    let blank = |num_images, split| empty.clone().blank(num_images).with_split(split);
    Ok(Splits { train: blank(train, Split::Train), test: blank(test, Split::Test), source: "nowhere".to_owned() })
}

/// A location with at least one file of a data set; [`Place::load`] checks that all are there.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The data set.
    pub source: DataSource,
    /// What kind of location it is.
    pub kind: PlaceKind,
    /// The folder that the files are in; `None` for those that come with the library.
    pub dir: Option<PathBuf>,
}

/// The kind of a location.
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

/// The locations in which [`load`] finds files, in order of preference. It uses the first. A missing file in that
/// folder is an error, so that training never falls back silently on other data.
pub fn places(source: &DataSource, dir: Option<&Path>) -> Vec<Place> {
    let place = |kind, dir| Place { source: source.clone(), kind, dir };
    if let Some(dir) = dir {
        let found = find(source, &[dir.to_owned(), dir.join(source.name())]);
        return found.into_iter().map(|dir| place(PlaceKind::Given, Some(dir))).collect();
    }
    let mut places = places_in(source, &default_dirs(source));
    if source.get().bundled().is_some() {
        places.push(place(PlaceKind::Bundled, None));
    }
    places
}

impl Place {
    /// Reads the files, and computes the statistics of the training images where none are published.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self) -> Result<Splits> {
        let source = self.source.get();
        let Splits { train, test, source: from } = match (&self.dir, source.bundled()) {
            (None, Some(bundled)) => bundled()?,
            (dir, _) => {
                let dir = dir.as_deref().unwrap_or(Path::new("."));
                let [train, test] = source.files().read(dir, source)?;
                Splits { train, test, source: dir.display().to_string() }
            }
        };
        let stats = match source.stats() {
            Some(stats) => stats,
            None => train.statistics()?,
        };
        let about = |data: Dataset| data.named(self.source.name()).with_stats(Some(stats.clone()));
        Ok(Splits { train: about(train), test: about(test), source: from })
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

/// The folders to search, with their kinds.
fn default_dirs(source: &DataSource) -> Vec<(PlaceKind, PathBuf)> {
    let cache = cache_dir().map(|cache| (PlaceKind::Cache, cache));
    let parents = cache.into_iter().chain([(PlaceKind::System, PathBuf::from(SYSTEM_DIR))]);
    parents.map(|(kind, parent)| (kind, parent.join(source.name()))).collect()
}

fn places_in(source: &DataSource, dirs: &[(PlaceKind, PathBuf)]) -> Vec<Place> {
    let place = |(kind, dir): &(PlaceKind, PathBuf)| {
        let dir = find(source, std::slice::from_ref(dir))?;
        Some(Place { source: source.clone(), kind: *kind, dir: Some(dir) })
    };
    dirs.iter().filter_map(place).collect()
}

/// The first folder with at least one of the data set's files.
fn find(source: &DataSource, dirs: &[PathBuf]) -> Option<PathBuf> {
    let files = source.get().files();
    let subfolders = files.subfolders();
    let inside = |dir: &PathBuf| -> Vec<PathBuf> {
        let join = |folder: &String| if folder.is_empty() { dir.clone() } else { dir.join(folder) };
        subfolders.iter().map(join).collect()
    };
    dirs.iter().flat_map(inside).find(|dir| files.are_in(dir))
}

fn nowhere(source: &DataSource, dirs: &[(PlaceKind, PathBuf)]) -> Error {
    let expected = format!("the folder with the files of {} ({})", source.name(), source.get().files().names());
    let looked: Vec<_> = dirs.iter().map(|(_, dir)| dir.display().to_string()).collect();
    let advice = match source.get().published() {
        Some(_) => format!("; `lenet data fetch {}` downloads them", source.name()),
        None => String::new(),
    };
    Error::setting("data", expected, format!("none, and no such files in {}{advice}", looked.join(" or ")))
}

/// The error of a file that is not there, with what is.
pub(super) fn missing(files: &dyn Files, dir: &Path, file: &str) -> Error {
    let got = format!("no such file; {}", contents(dir));
    Error::data(&dir.join(file), format!("a file of the data set ({})", files.names()), got)
}

/// What is in a folder instead: "the folder has only a.txt and b.zip".
fn contents(dir: &Path) -> String {
    let Ok(entries) = files::list(dir) else {
        return if files::exists(dir) {
            format!("{} is not a folder", dir.display())
        } else {
            format!("there is no folder {}", dir.display())
        };
    };
    let name = |path: PathBuf| {
        let slash = if files::is_dir(&path) { "/" } else { "" };
        format!("{}{slash}", path.file_name().unwrap_or_default().to_string_lossy())
    };
    let mut names: Vec<String> = entries.into_iter().map(name).filter(|name| !name.starts_with('.')).collect();
    names.sort();
    let more = match names.len().saturating_sub(MOST_LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let is_archive = |name: &String| [".tar.gz", ".tgz", ".tar", ".zip"].iter().any(|end| name.ends_with(end));
    let advice = if names.iter().any(is_archive) { "; archives have to be unpacked" } else { "" };
    names.truncate(MOST_LISTED);
    match names.as_slice() {
        [] => "the folder is empty".to_owned(),
        names => format!("the folder has {}{more}{advice}", names.join(", ")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;
    use crate::data::{Cifar10, FashionMnist, Mnist};

    #[test]
    fn nothing_found_says_where_it_looked_and_what_to_pass() {
        let dirs = [
            (PlaceKind::Cache, PathBuf::from("/nowhere/cache/mnist")),
            (PlaceKind::System, PathBuf::from("/nowhere/share/mnist")),
        ];
        let mnist = DataSource::from(Mnist {});
        assert_eq!(places_in(&mnist, &dirs), []);
        let error = nowhere(&mnist, &dirs);
        let text = error.to_string();
        assert!(error.is_usage(), "{text}");
        for part in [
            "data:",
            "/nowhere/cache/mnist",
            "/nowhere/share/mnist",
            "train-images-idx3-ubyte.gz",
            "lenet data fetch mnist",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let text = nowhere(&Cifar10 {}.into(), &dirs).to_string();
        assert!(text.contains("data:") && text.contains("test_batch.bin"), "{text}");
    }

    #[test]
    fn fashion_mnist_falls_back_on_the_bundled_subset() {
        let fashion = DataSource::from(FashionMnist {});
        let last = places(&fashion, None).pop().unwrap();
        assert_eq!((last.kind, &last.dir), (PlaceKind::Bundled, &None));
        let source = last.load().unwrap().source;
        assert!(source.contains("bundled"), "{source}");
        assert_eq!(places(&fashion, Some(Path::new("/nowhere"))), [], "a folder that is named is meant");
    }

    #[test]
    fn default_folders_end_in_the_name_and_the_cache_comes_first() {
        let dirs = default_dirs(&Cifar10 {}.into());
        assert!(dirs.iter().all(|(_, dir)| dir.ends_with("cifar10")), "{dirs:?}");
        assert_eq!(dirs.last(), Some(&(PlaceKind::System, PathBuf::from("/usr/share/datasets/cifar10"))));
        let cache = cache_dir().map(|cache| (PlaceKind::Cache, cache.join("cifar10")));
        assert_eq!(cache.as_ref(), dirs.first().filter(|_| dirs.len() == 2));
    }
}
