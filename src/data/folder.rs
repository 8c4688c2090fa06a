//! A folder of image files with a subfolder for each class, as torchvision's `ImageFolder` takes it: PNG and JPEG of
//! any size, made into what a network takes as `lenet predict` does it.
//!
//! ```text
//! DIR/cat/1.png   or, with test images apart,   DIR/train/cat/1.png
//! DIR/dog/7.jpg                                 DIR/test/dog/9.jpg
//! ```

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::photo::{Photo, PhotoOptions};
use super::source::{Files, Source};
use super::{Dataset, Split};
use crate::registry::{Described, Setting, Takes};
use crate::{Error, Result, files, rng};

/// Images of one's own: a folder with a subfolder of PNG and JPEG files for each class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageFolder {
    /// Height and width that images are scaled and cropped to. Default 32.
    pub size: usize,
    /// 1 for grey or 3 for colour. Default 3.
    pub channels: usize,
    /// The share of images that become test images where there is no folder of them. Default 0.1.
    pub test_share: f64,
}

impl Default for ImageFolder {
    fn default() -> Self {
        ImageFolder { size: 32, channels: 3, test_share: 0.1 }
    }
}

impl Described for ImageFolder {
    const NAME: &'static str = "folder";
    const ABOUT: &'static str = "Your own images: PNG and JPEG files in a subfolder for each class";
    const SETTINGS: &'static [Setting] = &[
        Setting::new("size", Takes::Count, "Height and width in pixels that images are scaled and cropped to"),
        Setting::new("channels", Takes::Count, "1 for grey images, 3 for colour"),
        Setting::new(
            "test_share",
            Takes::Number,
            "Share of the images held out for testing, if there is no test folder",
        ),
    ];
}

/// Endings of the files that are read, in small letters; all others are skipped.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];
/// Unreadable files that a message names.
const MOST_NAMED: usize = 10;

/// The files of one split: paths with labels, in the order of classes, then of paths.
type Labelled = Vec<(PathBuf, u16)>;

impl Source for ImageFolder {
    /// The names of the subfolders, sorted.
    fn class_names(&self, dir: Option<&Path>) -> Result<Vec<String>> {
        let Some(dir) = dir else {
            return Err(Error::setting("data", "the folder of images, with a subfolder for each class", "none"));
        };
        let root = self.locate(dir).unwrap_or_else(|| dir.to_owned());
        Ok(classes(&train_folder(&root))?.into_iter().map(|(name, _)| name).collect())
    }

    fn image_shape(&self) -> [usize; 3] {
        [self.channels, self.size, self.size]
    }

    fn num_images(&self) -> Option<[usize; 2]> {
        None
    }

    fn files(&self) -> Box<dyn Files + '_> {
        Box::new(*self)
    }
}

impl Files for ImageFolder {
    fn subfolders(&self) -> Vec<String> {
        vec![String::new()]
    }

    fn are_in(&self, dir: &Path) -> bool {
        subfolders(&train_folder(dir)).is_ok_and(|folders| !folders.is_empty())
    }

    fn first(&self) -> String {
        String::new()
    }

    fn names(&self) -> String {
        "a subfolder of PNG and JPEG files for each class, or folders train and test with such subfolders".to_owned()
    }

    fn read(&self, dir: &Path, _: &dyn Source) -> Result<[Dataset; 2]> {
        self.validate()?;
        let training = train_folder(dir);
        let classes = classes(&training)?;
        let mut train = list(&classes)?;
        let test = match test_folder(dir) {
            Some(folder) => list(&in_order_of(&classes, &folder)?)?,
            None => self.take_test(&mut train, &training)?,
        };
        let names: Vec<String> = classes.into_iter().map(|(name, _)| name).collect();
        // Together, so that a message names the unreadable files of both.
        let mut pixels = self.decode(dir, &[&train[..], &test].concat())?;
        let test_pixels = pixels.split_off(train.len() * self.image_shape().iter().product::<usize>());
        let labelled = |pixels, files: Labelled, split| -> Result<Dataset> {
            let labels = files.into_iter().map(|(_, label)| label).collect();
            Ok(Dataset::from_arrays(pixels, labels, names.iter().cloned(), self.image_shape())?.with_split(split))
        };
        Ok([labelled(pixels, train, Split::Train)?, labelled(test_pixels, test, Split::Test)?])
    }
}

impl ImageFolder {
    fn validate(&self) -> Result<()> {
        if !(1..=1024).contains(&self.size) {
            return Err(Error::setting("dataset.size", "1 to 1024 pixels", self.size));
        }
        if ![1, 3].contains(&self.channels) {
            return Err(Error::setting("dataset.channels", "1 (grey) or 3 (colour)", self.channels));
        }
        if !(self.test_share > 0.0 && self.test_share < 1.0) {
            return Err(Error::setting("dataset.test_share", "a number between 0 and 1", self.test_share));
        }
        Ok(())
    }

    /// The folder itself, or one called `folder` in it, as for other data sets.
    fn locate(&self, dir: &Path) -> Option<PathBuf> {
        [dir.to_owned(), dir.join(Self::NAME)].into_iter().find(|dir| self.are_in(dir))
    }

    /// Moves a share of the files to the test images. Each file has a draw, which depends on its path below the folder
    /// alone, so that images that are added later move no other, but for those of [`ImageFolder::lowest`]. Every class
    /// keeps at least one image to train on.
    fn take_test(&self, train: &mut Labelled, folder: &Path) -> Result<Labelled> {
        let draw = |(path, label): &(PathBuf, u16)| {
            let parts: Vec<_> =
                path.strip_prefix(folder).unwrap_or(path).iter().map(|part| part.to_string_lossy()).collect();
            (usize::from(*label), rng::uniform(0, &parts.join("/"), 0))
        };
        let drawn: Vec<(usize, f64)> = train.iter().map(draw).collect();
        let is_test = self.is_test(&drawn);
        if !is_test.contains(&true) {
            let got = format!("{}, which leaves none of {} images", self.test_share, train.len());
            return Err(Error::setting("dataset.test_share", "a share that leaves some test images", got));
        }
        let (test, kept) = train.drain(..).zip(is_test).partition::<Vec<_>, _>(|&(_, is_test)| is_test);
        let files = |part: Vec<((PathBuf, u16), bool)>| part.into_iter().map(|(file, _)| file).collect();
        *train = files(kept);
        Ok(files(test))
    }

    /// Whether each file is for testing, from its class and its draw: those with a draw below the share are.
    fn is_test(&self, drawn: &[(usize, f64)]) -> Vec<bool> {
        let num_classes = drawn.last().map_or(0, |(class, _)| class + 1);
        let mut is_trained = vec![false; num_classes];
        for &(class, draw) in drawn {
            is_trained[class] |= draw >= self.test_share;
        }
        let below =
            |&(class, draw): &(usize, f64)| draw < self.test_share && std::mem::replace(&mut is_trained[class], true);
        let mut is_test: Vec<bool> = drawn.iter().map(below).collect();
        for index in self.lowest(drawn, &is_test) {
            is_test[index] = true;
        }
        is_test
    }

    /// Chance leaves few images without a test image: of each class that has none, the file with the lowest draw, where
    /// its share of the class is a whole image. Where there is still none, of as many classes as the share of all images
    /// is.
    fn lowest(&self, drawn: &[(usize, f64)], is_test: &[bool]) -> Vec<usize> {
        let num_classes = drawn.last().map_or(0, |(class, _)| class + 1);
        let mut classes: Vec<Vec<usize>> = vec![Vec::new(); num_classes];
        for (index, &(class, _)) in drawn.iter().enumerate() {
            classes[class].push(index);
        }
        // A class with one image has none to spare.
        classes.retain(|files| files.len() > 1 && !files.iter().any(|&index| is_test[index]));
        let share = |num_files: usize| self.test_share * num_files as f64;
        let by_draw = |a: &usize, b: &usize| drawn[*a].1.total_cmp(&drawn[*b].1);
        let lowest = |files: &Vec<usize>| files.iter().copied().min_by(by_draw);
        let large: Vec<usize> = classes.iter().filter(|files| share(files.len()) >= 1.0).filter_map(lowest).collect();
        if !large.is_empty() || is_test.contains(&true) {
            return large;
        }
        let mut small: Vec<usize> = classes.iter().filter_map(lowest).collect();
        small.sort_by(by_draw);
        // A share below 1 of a number of files.
        small.truncate((share(drawn.len()).round() as usize).max(1));
        small
    }

    /// The pixels of all files, one after another.
    fn decode(&self, dir: &Path, files: &[(PathBuf, u16)]) -> Result<Vec<u8>> {
        let shape = self.image_shape();
        let read = |(path, _): &(PathBuf, u16)| Ok(Photo::read(path)?.fitted(shape, PhotoOptions::default()));
        let images: Vec<Result<Vec<u8>>> = files.par_iter().map(read).collect();
        let mut errors: Vec<String> =
            images.iter().filter_map(|image| image.as_ref().err()).map(ToString::to_string).collect();
        if errors.is_empty() {
            return Ok(images.into_iter().flatten().flatten().collect());
        }
        let more = match errors.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        let got = format!("{} that cannot be read:\n  ", errors.len());
        errors.truncate(MOST_NAMED);
        let expected = format!("{} PNG and JPEG images", files.len());
        Err(Error::data(dir, expected, format!("{got}{}{more}", errors.join("\n  "))))
    }
}

/// The folder that holds the training images' classes: `train`, unless that is a class of its own.
fn train_folder(dir: &Path) -> PathBuf {
    let has_classes = |train: &PathBuf| subfolders(train).is_ok_and(|classes| !classes.is_empty());
    Some(dir.join("train")).filter(has_classes).unwrap_or_else(|| dir.to_owned())
}

/// `test` beside `train`, or `val`, which is where ImageNet's labelled test images are.
fn test_folder(dir: &Path) -> Option<PathBuf> {
    let has_train = train_folder(dir) != dir;
    ["test", "val"].map(|name| dir.join(name)).into_iter().find(|folder| has_train && files::is_dir(folder))
}

/// The classes that there are: names and folders, sorted by name.
fn classes(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let classes = subfolders(folder)?;
    match classes.len() {
        0 => Err(Error::data(folder, "a subfolder of images for each class", "no subfolders")),
        1..=65536 => Ok(classes),
        many => Err(Error::data(folder, "at most 65536 subfolders, one for each class", many.to_string())),
    }
}

/// The same classes in another folder, which may lack some and must have no others.
fn in_order_of(classes: &[(String, PathBuf)], folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let is_known = |name: &String| classes.iter().any(|(known, _)| known == name);
    if let Some((name, path)) = subfolders(folder)?.into_iter().find(|(name, _)| !is_known(name)) {
        let names: Vec<&str> = classes.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Error::data(&path, format!("one of the training images' classes ({})", names.join(", ")), name));
    }
    Ok(classes.iter().map(|(name, _)| (name.clone(), folder.join(name))).collect())
}

/// The images of each class, which every class has, unless its folder is missing altogether.
fn list(classes: &[(String, PathBuf)]) -> Result<Labelled> {
    let mut files = Vec::new();
    for (label, (_, folder)) in classes.iter().enumerate().filter(|(_, (_, folder))| files::is_dir(folder)) {
        let mut images = Vec::new();
        walk(folder, &mut images)?;
        if images.is_empty() {
            let expected = format!("images of this class ({})", ENDINGS.map(|ending| format!(".{ending}")).join(", "));
            return Err(Error::data(folder, expected, "none; put some there, or remove the folder"));
        }
        images.sort();
        // At most 65,536 classes, as checked where they were listed.
        files.extend(images.into_iter().map(|path| (path, label as u16)));
    }
    match files.first() {
        Some(_) => Ok(files),
        None => Err(Error::data(Path::new("test"), "images of at least one class", "none")),
    }
}

/// The image files in a folder and those below it.
fn walk(folder: &Path, images: &mut Vec<PathBuf>) -> Result<()> {
    for path in files::list(folder).map_err(Error::io("read", folder))? {
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        if is_hidden {
            continue;
        } else if files::is_dir(&path) {
            walk(&path, images)?;
        } else if ENDINGS.contains(&ending.as_str()) {
            images.push(path);
        }
    }
    Ok(())
}

/// The folders in a folder, sorted by name, without hidden ones.
fn subfolders(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut folders = Vec::new();
    for path in files::list(folder).map_err(Error::io("read", folder))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if files::is_dir(&path) && !name.starts_with('.') {
            folders.push((name, path));
        }
    }
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Classes and draws of images, which are for testing, and why.
    type Case<'a> = (&'a [(usize, f64)], &'a [usize], &'a str);

    #[test]
    fn few_images_have_test_images_too() {
        // With a share of a tenth.
        let cases: [Case; 6] = [
            (&[(0, 0.05), (0, 0.5), (1, 0.5), (1, 0.3)], &[0], "a draw below the share is enough"),
            (&[(0, 0.4), (0, 0.5), (1, 0.3), (1, 0.9)], &[2], "else the lowest of all"),
            (&[(0, 0.4), (1, 0.3), (1, 0.9)], &[1], "of the classes that have another image"),
            (&[(0, 0.4), (0, 0.5), (1, 0.2)], &[0], "which the lowest of all may not have"),
            (&[(0, 0.05), (1, 0.05)], &[], "an image of each class is for training"),
            (&[(0, 0.01), (0, 0.02), (0, 0.03)], &[1, 2], "whatever was drawn"),
        ];
        let folder = ImageFolder::default();
        let tested = |drawn: &[(usize, f64)]| -> Vec<usize> {
            let is_test = folder.is_test(drawn);
            (0..drawn.len()).filter(|&index| is_test[index]).collect()
        };
        for (drawn, want, why) in cases {
            assert_eq!(tested(drawn), want, "{why}");
        }
        // Eight images of each of two classes, and the lowest of both; ten of one, which is enough for a class to have
        // one of its own, although the other has some by chance.
        let class = |class: usize, num: usize, first: f64| (0..num).map(move |i| (class, first + 0.01 * i as f64));
        let both: Vec<_> = class(0, 8, 0.5).chain(class(1, 8, 0.6)).collect();
        assert_eq!(tested(&both), [0, 8], "a tenth of 16 images is about two");
        let ten: Vec<_> = class(0, 10, 0.5).chain(class(1, 9, 0.095)).collect();
        assert_eq!(tested(&ten), [0, 10], "ten images of a class are enough for one of its own");
    }
}
