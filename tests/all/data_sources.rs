//! Data sets by name: each layout that their files are found in, settings that change what is read, folders of one's
//! own images, and what messages say of files that are something else.

use std::fs;
use std::path::{Path, PathBuf};

use image::{GrayAlphaImage, GrayImage, LumaA, Rgb, RgbImage};
use tempfile::TempDir;
use wgrad::Error;
use wgrad::data::{
    self, Cifar100, Cifar100Labels, DataSource, Dataset, Emnist, EmnistSelection, ImageFolder, Kmnist, Mnist,
    Normalize, Source, Splits, idx,
};

use crate::data::{file, gzip, idx_bytes, labels_bytes};

/// The four files of a small data set of 28×28 images under these stems and ending: labels 3, 9, 0 and 1, 1, and images
/// whose every pixel is its column.
fn small_idx(dir: &TempDir, folder: &str, [train, test]: [&str; 2], join: &str, end: &str) {
    let images = |count: u32| {
        let pixels: Vec<u8> = (0..count as usize * 784).map(|index| (index % 28) as u8).collect();
        idx_bytes(0x803, &[count, 28, 28], &pixels)
    };
    let packed = |bytes: Vec<u8>| if end == ".gz" { gzip(&bytes) } else { bytes };
    for (split, labels) in [(train, &[3, 9, 1][..]), (test, &[1, 1])] {
        let name = |what: &str| format!("{folder}{split}-{what}{end}");
        file(dir, &name(&format!("images{join}idx3-ubyte")), &packed(images(labels.len() as u32)));
        file(dir, &name(&format!("labels{join}idx1-ubyte")), &packed(labels_bytes(labels)));
    }
}

fn load(source: impl Into<DataSource>, dir: &Path) -> wgrad::Result<Splits> {
    data::load(&source.into(), Some(dir))
}

#[test]
fn every_layout_of_idx_files_is_found() {
    for folder in ["", "raw/", "MNIST/raw/", "MNIST/", "mnist/", "mnist/raw/", "mnist/MNIST/raw/"] {
        for (join, end) in [("-", ""), ("-", ".gz"), (".", ""), (".", ".gz")] {
            let dir = TempDir::new().unwrap();
            small_idx(&dir, folder, ["train", "t10k"], join, end);
            let splits = load(Mnist {}, dir.path()).unwrap();
            assert_eq!(splits.train.labels(), [3, 9, 1], "{folder}{join}{end}");
            assert_eq!((splits.test.name(), splits.test.len()), ("mnist", 2));
        }
    }
    // A folder for each file, as some unpacking programs make them.
    let dir = TempDir::new().unwrap();
    for (split, labels) in [("train", &[3, 9, 1][..]), ("t10k", &[1, 1])] {
        let images = idx_bytes(0x803, &[labels.len() as u32, 28, 28], &vec![0; labels.len() * 784]);
        file(&dir, &format!("{split}-images-idx3-ubyte/{split}-images-idx3-ubyte"), &images);
        file(&dir, &format!("{split}-labels-idx1-ubyte/{split}-labels.idx1-ubyte"), &labels_bytes(labels));
    }
    assert_eq!(load(Mnist {}, dir.path()).unwrap().train.len(), 3);
}

#[test]
fn kmnist_has_computed_statistics_of_the_whole_training_split() {
    let dir = TempDir::new().unwrap();
    small_idx(&dir, "KMNIST/raw/", ["train", "t10k"], "-", "");
    let Splits { train, test, .. } = load(Kmnist {}, dir.path()).unwrap();
    assert_eq!((train.class_of(0), train.class_of(1)), ("tsu", "wo"));
    let stats = Normalize::Dataset.stats(&test).unwrap();
    assert_eq!(stats, train.statistics().unwrap());
    assert!((stats.mean[0] - 13.5 / 255.0).abs() < 1e-15);
    assert_eq!(Normalize::Dataset.stats(&train.subset(&[1]).unwrap()).unwrap(), stats, "a part has the whole's");
}

#[test]
fn emnist_stands_upright_and_letters_count_from_1() {
    let dir = TempDir::new().unwrap();
    small_idx(&dir, "EMNIST/raw/", ["emnist-letters-train", "emnist-letters-test"], "-", "");
    small_idx(&dir, "EMNIST/raw/", ["emnist-balanced-train", "emnist-balanced-test"], "-", ".gz");
    let letters = load(Emnist { selection: EmnistSelection::Letters }, dir.path()).unwrap();
    assert_eq!(letters.train.labels(), [2, 8, 0]);
    assert_eq!((letters.train.class_of(0), letters.test.class_of(0)), ("C", "A"));
    // The file's columns are the image's rows.
    let upright: Vec<u8> = (0..784).map(|index| (index / 28) as u8).collect();
    assert_eq!(letters.train.image(2), upright);
    let balanced = load(Emnist::default(), dir.path()).unwrap();
    assert_eq!((balanced.train.labels(), balanced.train.num_classes()), (&[3, 9, 1][..], 47));

    let counts = [("balanced", 47), ("byclass", 62), ("bymerge", 47), ("letters", 26), ("digits", 10), ("mnist", 10)];
    for (selection, classes) in counts {
        let table = toml::Table::from_iter([("selection".to_owned(), selection.into())]);
        let emnist: Emnist = table.try_into().unwrap();
        assert_eq!(emnist.class_names(None).unwrap().len(), classes, "{selection}");
    }
    // The first letters that do not look like their capitals follow the capitals: a, b, d, e.
    assert_eq!(Emnist::default().class_names(None).unwrap()[36..40], ["a", "b", "d", "e"]);

    file(&dir, "EMNIST/raw/emnist-letters-test-labels-idx1-ubyte", &labels_bytes(&[1, 0]));
    let error = load(Emnist { selection: EmnistSelection::Letters }, dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("letters-test-labels") && error.contains("labels from 1 to 26, got 0 at index 1"),
        "{error}"
    );
}

#[test]
fn cifar100_has_fine_and_coarse_labels() {
    let dir = TempDir::new().unwrap();
    let record = |coarse: u8, fine: u8| [vec![coarse, fine], vec![fine; 3072]].concat();
    file(&dir, "cifar-100-binary/train.bin", &[record(11, 19), record(2, 62)].concat());
    file(&dir, "cifar-100-binary/test.bin", &record(19, 99));
    let fine = load(Cifar100::default(), dir.path()).unwrap();
    assert_eq!((fine.train.class_of(0), fine.train.class_of(1), fine.test.class_of(0)), ("cattle", "poppy", "worm"));
    assert_eq!((fine.train.num_classes(), fine.train.image(1)), (100, &[62; 3072][..]));
    let coarse = load(Cifar100 { labels: Cifar100Labels::Coarse }, dir.path()).unwrap();
    assert_eq!((coarse.train.class_of(1), coarse.train.num_classes()), ("flowers", 20));

    file(&dir, "cifar-100-binary/test.bin", &record(20, 3));
    assert!(load(Cifar100::default(), dir.path()).is_ok(), "coarse labels do not matter to fine ones");
    let error = load(Cifar100 { labels: Cifar100Labels::Coarse }, dir.path()).unwrap_err().to_string();
    assert!(error.contains("labels below 20, got 20 in record 0"), "{error}");
}

#[test]
fn a_missing_data_set_says_what_the_folder_holds() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("pictures")).unwrap();
    file(&dir, "cifar-10-binary.tar.gz", b"");
    let error = load(Mnist {}, dir.path()).unwrap_err().to_string();
    let part = "the folder has cifar-10-binary.tar.gz, pictures/; archives have to be unpacked";
    assert!(error.contains(part) && error.contains("train-images-idx3-ubyte.gz"), "{error}");
    for index in 0..20 {
        file(&dir, &format!("a{index:02}"), b"");
    }
    let error = load(Mnist {}, dir.path()).unwrap_err().to_string();
    assert!(error.contains("a07 and 14 more; archives"), "{error}");
}

#[test]
fn files_that_are_something_else_are_named() {
    let dir = TempDir::new().unwrap();
    let whole = idx_bytes(0x803, &[1, 28, 28], &[0; 784]);
    let cases: [(Vec<u8>, &str); 6] = [
        (b"<html><body>403 Forbidden</body></html>".to_vec(), "got an HTML page"),
        (b"PK\x03\x04 and more".to_vec(), "got a zip archive"),
        (b"<?xml version=\"1.0\"?><Error/>".to_vec(), "got an XML document"),
        (b"Moved permanently, see elsewhere\n".to_vec(), "got text"),
        (gzip(&gzip(&whole)), "a gzip file inside the gzip file; unpack it once"),
        (gzip(b"<!DOCTYPE html><p>gone</p>"), "got an HTML page"),
    ];
    for (bytes, part) in cases {
        let error = idx::read_images(&file(&dir, "train-images-idx3-ubyte.gz", &bytes)).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("0x00000803"), "{error}");
    }
    let error = idx::read_labels(&file(&dir, "labels", &whole)).unwrap_err().to_string();
    assert!(error.contains("the images of a data set"), "{error}");
    file(&dir, "cifar-10-batches-bin/data_batch_1.bin", b"<!doctype html>");
    file(&dir, "cifar-10-batches-bin/test_batch.bin", b"PK\x03\x04");
    let error = load(data::Cifar10 {}, dir.path()).unwrap_err().to_string();
    assert!(error.contains("test_batch.bin") && error.contains("a zip archive of 4 bytes"), "{error}");
}

#[test]
fn arrays_are_checked() {
    let arrays = |pixels: usize, labels: Vec<u16>, classes: usize, shape| {
        let names = (0..classes).map(|class| class.to_string());
        Dataset::from_arrays(vec![7; pixels], labels, names, shape)
    };
    let many = arrays(3 * 4, vec![0, 999, 70], 1000, [1, 2, 2]).unwrap();
    assert_eq!((many.num_classes(), many.class_of(1), many.name()), (1000, "999", "arrays"));
    let cases = [
        (arrays(11, vec![0, 1, 2], 3, [1, 2, 2]), "4 bytes of pixels for each of 3 labels, got 11 bytes"),
        (arrays(8, vec![0, 3], 3, [1, 2, 2]), "labels below 3, the number of classes, got 3 at index 1"),
        (arrays(0, vec![], 0, [1, 2, 2]), "1 to 65536 classes, got 0"),
        (arrays(0, vec![], 3, [1, 0, 2]), "extents of at least 1, got (1, 0, 2)"),
        (arrays(0, vec![], 3, [usize::MAX, 2, 2]), "extents of at least 1"),
    ];
    for (result, part) in cases {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Operand { .. }) && error.to_string().contains(part), "{error}");
    }
    // The same everywhere: nothing can be divided by a standard deviation of 0.
    assert_eq!(Normalize::Dataset.stats(&many).unwrap().std, [1.0]);
}

/// A folder of classes: 12 red PNGs, 12 blue JPEGs in another, with things beside them that are no images.
fn colours(dir: &TempDir, prefix: &str, count: usize) {
    for (class, pixel, end) in [("red", [255, 0, 0], "PNG"), ("blue", [0, 0, 255], "jpeg")] {
        for index in 0..count {
            let path = dir.path().join(format!("{prefix}{class}/sub/{index}.{end}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            RgbImage::from_pixel(20 + index as u32, 16, Rgb(pixel)).save(path).unwrap();
        }
    }
    file(dir, &format!("{prefix}red/notes.txt"), b"not an image");
    file(dir, &format!("{prefix}red/.hidden.png"), b"not an image");
    file(dir, &format!("{prefix}.cache/x.png"), b"not an image");
}

#[test]
fn a_folder_of_images_is_a_data_set() {
    let dir = TempDir::new().unwrap();
    colours(&dir, "", 12);
    let folder = ImageFolder { size: 8, test_share: 0.25, ..ImageFolder::default() };
    let Splits { train, test, .. } = load(folder, dir.path()).unwrap();
    assert_eq!((train.class_names(), train.shape()), (vec!["blue", "red"], [3, 8, 8]));
    assert!(train.len() + test.len() == 24 && !test.is_empty() && train.len() > test.len(), "{train:?}, {test:?}");
    for data in [&train, &test] {
        for index in 0..data.len() {
            let red = i32::from(data.image(index)[0]);
            let want = if data.class_of(index) == "red" { 255 } else { 0 };
            // JPEG's colours are not exact.
            assert!((red - want).abs() < 8, "{red}");
        }
    }
    // What is added later moves no other image: the first ones stay where they were.
    fs::copy(dir.path().join("red/sub/0.PNG"), dir.path().join("red/zzz.png")).unwrap();
    let more = load(folder, dir.path()).unwrap();
    assert!(more.test.len() >= test.len() && more.train.len() + more.test.len() == 25);
    let grey = load(ImageFolder { channels: 1, ..folder }, dir.path()).unwrap();
    assert!(grey.train.shape() == [1, 8, 8] && grey.train.images().all(|image| image.len() == 64));

    // Folders train and test; a class that is missing from the test images is no error.
    let dir = TempDir::new().unwrap();
    colours(&dir, "train/", 3);
    colours(&dir, "test/", 2);
    let splits = load(folder, dir.path()).unwrap();
    assert_eq!((splits.train.len(), splits.test.len()), (6, 4));
    fs::remove_dir_all(dir.path().join("test/red")).unwrap();
    let splits = load(folder, dir.path()).unwrap();
    assert_eq!((splits.test.len(), splits.test.class_of(0)), (2, "blue"));
    fs::rename(dir.path().join("test/blue"), dir.path().join("test/green")).unwrap();
    let error = load(folder, dir.path()).unwrap_err().to_string();
    assert!(error.contains("one of the training images' classes (blue, red)") && error.contains("green"), "{error}");
}

#[test]
fn a_small_folder_has_test_images() {
    for count in 2..16 {
        let dir = TempDir::new().unwrap();
        colours(&dir, "", count);
        let Splits { train, test, .. } = load(ImageFolder { size: 4, ..ImageFolder::default() }, dir.path()).unwrap();
        assert!(!test.is_empty() && train.len() + test.len() == 2 * count, "{count}: {test:?}");
        let (kept, held_out) = train.hold_out(0.1, 0).unwrap();
        assert!(!kept.is_empty() && !held_out.is_empty(), "{count}: {kept:?}");
        if count >= 10 {
            assert!(test.class_counts().iter().all(|&num| num > 0), "{count}: {:?}", test.class_counts());
        }
    }
}

#[test]
fn one_image_of_a_class_is_for_training() {
    let dir = TempDir::new().unwrap();
    colours(&dir, "", 1);
    let folder = ImageFolder { size: 4, test_share: 0.999, ..ImageFolder::default() };
    let error = load(folder, dir.path()).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("dataset.test_share"), "{error}");
    colours(&dir, "", 3);
    let Splits { train, test, .. } = load(folder, dir.path()).unwrap();
    assert_eq!((train.labels(), test.len()), (&[0, 1][..], 4));
}

#[test]
fn awkward_folders_are_named() {
    let dir = TempDir::new().unwrap();
    let folder = ImageFolder::default();
    let error = |dir: &Path| load(folder, dir).unwrap_err().to_string();
    assert!(error(dir.path()).contains("a subfolder of PNG and JPEG files for each class"), "{}", error(dir.path()));
    let absent: PathBuf = dir.path().join("absent");
    assert!(error(&absent).contains("there is no folder"), "{}", error(&absent));

    colours(&dir, "", 2);
    fs::create_dir(dir.path().join("empty")).unwrap();
    let text = error(dir.path());
    assert!(text.contains("empty") && text.contains("none; put some there, or remove the folder"), "{text}");
    fs::remove_dir(dir.path().join("empty")).unwrap();

    file(&dir, "red/broken.png", b"no image, but a text");
    let jpeg = fs::read(dir.path().join("blue/sub/1.jpeg")).unwrap();
    file(&dir, "blue/cut.jpg", &jpeg[..jpeg.len() / 2]);
    let text = load(ImageFolder { test_share: 0.5, ..folder }, dir.path()).unwrap_err().to_string();
    // Both are named, whichever split they are in.
    assert!(text.contains("broken.png") && text.contains("got text"), "{text}");
    assert!(text.contains("cut.jpg") && text.contains("a JPEG image that is cut off"), "{text}");

    for (wrong, name) in [
        (ImageFolder { size: 0, ..folder }, "dataset.size"),
        (ImageFolder { channels: 4, ..folder }, "dataset.channels"),
        (ImageFolder { test_share: f64::NAN, ..folder }, "dataset.test_share"),
    ] {
        let error = load(wrong, dir.path()).unwrap_err();
        assert!(error.is_usage() && error.to_string().starts_with(name), "{error}");
    }
    let error = data::load(&folder.into(), None).unwrap_err();
    assert!(error.is_usage() && error.to_string().starts_with("data:"), "{error}");
}

#[test]
fn transparency_and_orientation_are_read_as_a_viewer_shows_them() {
    let dir = TempDir::new().unwrap();
    let save = |path: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    // Black, but wholly transparent: white.
    GrayAlphaImage::from_pixel(9, 9, LumaA([0, 0])).save(save("train/clear/a.png")).unwrap();
    GrayImage::from_pixel(9, 9, image::Luma([0])).save(save("train/dark/a.png")).unwrap();
    // White on the left, turned by EXIF orientation 6 so that white is on top.
    let wide = RgbImage::from_fn(32, 32, |x, _| Rgb([if x < 16 { 255 } else { 0 }; 3]));
    wide.save(save("test/dark/turned.jpg")).unwrap();
    let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut bytes = fs::read(save("test/dark/turned.jpg")).unwrap();
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    bytes.splice(2..2, [&[0xff, 0xe1], &length[..], exif].concat());
    fs::write(save("test/dark/turned.jpg"), bytes).unwrap();

    let folder = ImageFolder { size: 8, channels: 1, ..ImageFolder::default() };
    let Splits { train, test, .. } = load(folder, dir.path()).unwrap();
    assert_eq!((train.image(0), train.image(1)), (&[255; 64][..], &[0; 64][..]));
    let turned = test.image(0);
    assert!(turned[..16].iter().all(|&pixel| pixel > 250) && turned[48..].iter().all(|&pixel| pixel < 5), "{turned:?}");
}

#[test]
fn settings_of_a_data_set_stand_in_a_file() {
    #[derive(serde::Deserialize)]
    struct File {
        dataset: DataSource,
    }
    let read = |text: &str| toml::from_str::<File>(text).map(|file| file.dataset);
    assert_eq!(read("dataset = \"cifar100\"").unwrap(), Cifar100::default().into());
    let folder = ImageFolder { size: 64, channels: 1, ..ImageFolder::default() };
    assert_eq!(read("dataset = { kind = \"folder\", size = 64, channels = 1 }").unwrap(), folder.into());
    let coarse = read("dataset = { kind = \"cifar100\", labels = \"coarse\" }").unwrap();
    assert_eq!(coarse, Cifar100 { labels: Cifar100Labels::Coarse }.into());
    let error = read("dataset = { kind = \"emnist\", selection = \"vowels\" }").unwrap_err().to_string();
    assert!(error.contains("vowels") && error.contains("balanced"), "{error}");
    let error = read("dataset = { kind = \"mnist\", size = 3 }").unwrap_err().to_string();
    assert!(error.contains("size"), "{error}");
}

#[test]
fn more_channels_than_the_device_gathers_are_refused_before_training() {
    let data = Dataset::from_arrays(vec![0; 2 * 5 * 64], vec![0, 1], ["a", "b"], [5, 8, 8]).unwrap();
    let network = |graph: &mut wgrad::Graph, images: wgrad::Value, _: wgrad::nn::Mode| {
        let x = graph.flatten(images, 1)?;
        wgrad::nn::Linear::new("fc", 2).forward(graph, x)
    };
    let normalize = Normalize::Half.stats(&data).unwrap();
    let options = wgrad::train::SessionOptions::validated_on_test(&network, &data, &data, normalize);
    let error = wgrad::train::Session::plans(&options).unwrap_err().to_string();
    assert!(error.contains("at most 4 channels") && error.contains("5 channels"), "{error}");
}
