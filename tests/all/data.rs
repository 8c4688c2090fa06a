//! Data sets: what is written comes back, what is damaged is named, what is bundled is whole.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tempfile::TempDir;
use wgrad::Error;
use wgrad::data::cifar::{self, IMAGE_LEN_BYTES, Layout, Records};
use wgrad::data::{
    self, ChannelStats, Cifar10, DataSource, Dataset, FashionMnist, Mnist, Normalize, Split, bundled, idx,
};

const IMAGE_LEN: usize = 28 * 28;

pub fn idx_bytes(magic: u32, extents: &[u32], body: &[u8]) -> Vec<u8> {
    let header = [magic].into_iter().chain(extents.iter().copied()).flat_map(u32::to_be_bytes);
    header.chain(body.iter().copied()).collect()
}

fn images_bytes(num_images: u32) -> Vec<u8> {
    let body: Vec<u8> = (0..num_images as usize * IMAGE_LEN).map(|i| (i * 7 % 251) as u8).collect();
    idx_bytes(0x803, &[num_images, 28, 28], &body)
}

pub fn labels_bytes(labels: &[u8]) -> Vec<u8> {
    idx_bytes(0x801, &[labels.len() as u32], labels)
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn cifar_bytes(labels: &[u8]) -> Vec<u8> {
    let record = |&label: &u8| [vec![label], vec![label.wrapping_mul(20); IMAGE_LEN_BYTES]].concat();
    labels.iter().flat_map(record).collect()
}

pub fn file(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// The four files of a small MNIST with three training images and two test images.
fn small_mnist(dir: &TempDir) {
    file(dir, "train-images-idx3-ubyte.gz", &gzip(&images_bytes(3)));
    file(dir, "train-labels-idx1-ubyte", &labels_bytes(&[3, 9, 0]));
    file(dir, "t10k-images-idx3-ubyte", &images_bytes(2));
    file(dir, "t10k-labels-idx1-ubyte.gz", &gzip(&labels_bytes(&[1, 1])));
}

fn small_cifar(dir: &TempDir, folder: &str) {
    for (index, name) in cifar::TRAIN_FILES.iter().enumerate() {
        file(dir, &format!("{folder}{name}"), &cifar_bytes(&[index as u8, 9]));
    }
    file(dir, &format!("{folder}{}", cifar::TEST_FILE), &cifar_bytes(&[4]));
}

/// A data set with labels 0, 1, 2, … modulo 10 and, as its pixels, each image's index.
fn numbered(num_images: usize) -> Dataset {
    let images = (0..num_images).flat_map(|index| [index as u8; 4]).collect();
    let labels = (0..num_images).map(|index| (index % 10) as u16).collect();
    Dataset::from_arrays(images, labels, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], [1, 2, 2]).unwrap()
}

fn pixels(dataset: &Dataset) -> Vec<u8> {
    dataset.images().flatten().copied().collect()
}

#[track_caller]
fn assert_names(error: &Error, path: &Path, parts: &[&str]) {
    let text = error.to_string();
    assert!(matches!(error, Error::Data { .. }), "{text}");
    assert!(text.contains(&path.display().to_string()), "{} in {text}", path.display());
    for part in parts {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn bundled_subset_is_whole() {
    let splits = bundled::fashion_mnist().unwrap();
    for (dataset, num_images, split) in [(&splits.train, 10_000, Split::Train), (&splits.test, 2_000, Split::Test)] {
        assert_eq!((dataset.len(), dataset.split(), dataset.shape()), (num_images, split, [1, 28, 28]));
        assert_eq!(dataset.images().map(<[u8]>::len).sum::<usize>(), num_images * IMAGE_LEN);
        assert_eq!((dataset.num_classes(), dataset.class_names().len()), (10, 10));
        for class in 0..10 {
            let share = dataset.labels().iter().filter(|&&label| label == class).count() as f64 / num_images as f64;
            assert!((0.08..0.12).contains(&share), "class {class} is {share} of the {split} images");
        }
    }
    // The publisher's first labels: boot, T-shirt, T-shirt, dress; of the test images boot, pullover, trouser, trouser.
    assert_eq!(splits.train.labels()[..4], [9, 0, 0, 3]);
    assert_eq!(splits.test.labels()[..4], [9, 2, 1, 1]);
    // Close to the published constants, which are of all 60,000 images.
    let (got, published) = (splits.train.statistics().unwrap(), Normalize::Dataset.stats(&splits.train).unwrap());
    assert!((got.mean[0] - published.mean[0]).abs() < 2e-3, "{got:?}");
    assert!((got.std[0] - published.std[0]).abs() < 2e-3, "{got:?}");
}

#[test]
fn idx_comes_back_plain_and_gzipped_whatever_the_name() {
    let dir = TempDir::new().unwrap();
    let plain = images_bytes(3);
    for (name, bytes) in [("a", plain.clone()), ("b.gz", gzip(&plain)), ("c.gz", plain.clone()), ("d", gzip(&plain))] {
        let images = idx::read_images(&file(&dir, name, &bytes)).unwrap();
        assert_eq!((images.num_images, images.height, images.width), (3, 28, 28), "{name}");
        assert_eq!(images.pixels, plain[16..], "{name}");
    }
    let labels = [0, 9, 200];
    assert_eq!(idx::read_labels(&file(&dir, "labels.gz", &gzip(&labels_bytes(&labels)))).unwrap(), labels);
}

#[test]
fn load_finds_the_folder_itself_or_one_of_the_data_sets_name() {
    for folder in ["", "mnist/"] {
        let dir = TempDir::new().unwrap();
        let inner = TempDir::new().unwrap();
        small_mnist(&inner);
        for entry in fs::read_dir(inner.path()).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}{}", entry.file_name().to_str().unwrap());
            file(&dir, &name, &fs::read(entry.path()).unwrap());
        }
        let splits = data::load(&Mnist {}.into(), Some(dir.path())).unwrap();
        assert_eq!(splits.train.labels(), [3, 9, 0]);
        assert_eq!(splits.test.labels(), [1, 1]);
        assert_eq!(pixels(&splits.train), images_bytes(3)[16..]);
        assert_eq!(splits.train.class_names()[9], "9");
        assert!(splits.source.starts_with(&dir.path().display().to_string()), "{}", splits.source);
    }
}

#[test]
fn load_finds_cifar_in_all_four_places() {
    for folder in ["", "cifar-10-batches-bin/", "cifar10/", "cifar10/cifar-10-batches-bin/"] {
        let dir = TempDir::new().unwrap();
        small_cifar(&dir, folder);
        let splits = data::load(&Cifar10 {}.into(), Some(dir.path())).unwrap();
        assert_eq!(splits.train.labels(), [0, 9, 1, 9, 2, 9, 3, 9, 4, 9], "{folder}");
        assert_eq!((splits.test.labels(), splits.test.shape()), (&[4][..], [3, 32, 32]));
        assert_eq!(splits.test.image(0), [80; 3072]);
        assert_eq!(splits.test.class_names()[4], "deer");
    }
}

#[test]
fn cifar_planes_keep_their_order() {
    let dir = TempDir::new().unwrap();
    let mut bytes = vec![7];
    for channel in [10, 20, 30] {
        bytes.extend([channel; 1024]);
    }
    let mut records = Records::default();
    cifar::read_into(&file(&dir, "one.bin", &bytes), Layout::CIFAR10, &mut records).unwrap();
    assert_eq!((records.labels, &records.images[..]), (vec![7], &bytes[1..]), "red, green, blue");
}

#[test]
fn damaged_idx_files_are_named_with_what_is_wrong() {
    let dir = TempDir::new().unwrap();
    let whole = images_bytes(2);
    let mut flipped = gzip(&whole);
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    let zeros = vec![0; 50_000_000];
    let cases: [(&str, Vec<u8>, &[&str]); 16] = [
        ("empty", vec![], &["an IDX header", "0 bytes"]),
        ("short-header", whole[..10].to_vec(), &["an IDX header", "10 bytes"]),
        ("wrong-magic", idx_bytes(0x801, &[2, 28, 28], &[0; 64]), &["0x00000803", "0x00000801"]),
        ("html", b"<!DOCTYPE html><title>Not found</title>".to_vec(), &["0x00000803", "got an HTML page"]),
        ("truncated", whole[..whole.len() - 1].to_vec(), &["1568 bytes after", "only 1567"]),
        ("trailing", [&whole[..], &[0]].concat(), &["1568 bytes after the header", "more"]),
        ("no-images", idx_bytes(0x803, &[0, 28, 28], &[]), &["at least 1", "[0, 28, 28]"]),
        ("no-width", idx_bytes(0x803, &[2, 28, 0], &[]), &["at least 1", "[2, 28, 0]"]),
        ("huge-header", idx_bytes(0x803, &[u32::MAX, 28, 28], &[0; 784]), &["too short"]),
        ("overflowing-header", idx_bytes(0x803, &[u32::MAX; 3], &[0; 784]), &["too short"]),
        ("huge-header.gz", gzip(&idx_bytes(0x803, &[u32::MAX, 28, 28], &[0; 784])), &["too short"]),
        ("cut-early.gz", gzip(&whole)[..20].to_vec(), &["an IDX header", "20 bytes"]),
        ("cut-late.gz", gzip(&whole)[..gzip(&whole).len() - 3].to_vec(), &["undamaged gzip", "fetch"]),
        ("checksum.gz", flipped, &["undamaged gzip"]),
        ("trailing.gz", [&gzip(&whole)[..], b"left over"].concat(), &["undamaged gzip"]),
        ("bomb.gz", gzip(&idx_bytes(0x803, &[1, 28, 28], &zeros)), &["784 bytes after the header", "more"]),
    ];
    for (name, bytes, parts) in cases {
        let path = file(&dir, name, &bytes);
        assert_names(&idx::read_images(&path).unwrap_err(), &path, parts);
    }
}

#[test]
fn a_gzip_file_of_several_members_is_one_stream() {
    let dir = TempDir::new().unwrap();
    let whole = images_bytes(2);
    let members = [gzip(&whole[..100]), gzip(&whole[100..])].concat();
    assert_eq!(idx::read_images(&file(&dir, "members.gz", &members)).unwrap().pixels, whole[16..]);
}

#[test]
fn files_that_do_not_fit_together_are_named() {
    let cases: [(&str, Vec<u8>, &[&str]); 5] = [
        ("train-labels-idx1-ubyte", labels_bytes(&[1, 2]), &["each of the 3 images", "2 labels"]),
        ("train-labels-idx1-ubyte", labels_bytes(&[1, 10, 2]), &["labels below 10", "10 at index 1"]),
        ("train-labels-idx1-ubyte", images_bytes(3), &["0x00000801", "0x00000803"]),
        ("t10k-images-idx3-ubyte", idx_bytes(0x803, &[2, 14, 14], &[0; 392]), &["28×28", "14×14"]),
        ("t10k-images-idx3-ubyte", images_bytes(5), &["each of the 5 images", "2 labels"]),
    ];
    for (name, bytes, parts) in cases {
        let dir = TempDir::new().unwrap();
        small_mnist(&dir);
        file(&dir, name, &bytes);
        let error = data::load(&Mnist {}.into(), Some(dir.path())).unwrap_err();
        assert_names(&error, dir.path(), parts);
    }
}

#[test]
fn damaged_cifar_files_are_named_with_what_is_wrong() {
    let two = cifar_bytes(&[1, 2]);
    let cases: [(&str, Vec<u8>, &[&str]); 4] = [
        ("data_batch_3.bin", vec![], &["3073 bytes", "an empty file"]),
        ("data_batch_5.bin", two[..6145].to_vec(), &["1 of them and 3072 more bytes"]),
        ("test_batch.bin", [&two[..], &[0]].concat(), &["2 of them and 1 more bytes"]),
        ("data_batch_1.bin", cifar_bytes(&[9, 10]), &["labels below 10", "10 in record 1"]),
    ];
    for (name, bytes, parts) in cases {
        let dir = TempDir::new().unwrap();
        small_cifar(&dir, "");
        let path = file(&dir, name, &bytes);
        assert_names(&data::load(&Cifar10 {}.into(), Some(dir.path())).unwrap_err(), &path, parts);
    }
}

#[test]
fn a_missing_file_is_named_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    for (name, first) in [
        (Mnist {}.into(), "train-images-idx3-ubyte.gz"),
        (FashionMnist {}.into(), "train-images-idx3-ubyte.gz"),
        (DataSource::from(Cifar10 {}), "data_batch_1.bin"),
    ] {
        let error = data::load(&name, Some(dir.path())).unwrap_err();
        assert_names(&error, &dir.path().join(first), &[first, "no such file; the folder is empty"]);
        let absent = dir.path().join("absent");
        let error = data::load(&name, Some(&absent)).unwrap_err();
        assert_names(&error, &absent.join(first), &["there is no folder"]);
    }

    small_mnist(&dir);
    let lost = dir.path().join("t10k-labels-idx1-ubyte.gz");
    fs::remove_file(&lost).unwrap();
    assert_names(&data::load(&Mnist {}.into(), Some(dir.path())).unwrap_err(), &lost, &["no such file"]);

    let dir = TempDir::new().unwrap();
    small_cifar(&dir, "");
    let lost = dir.path().join("data_batch_4.bin");
    fs::remove_file(&lost).unwrap();
    assert_names(&data::load(&Cifar10 {}.into(), Some(dir.path())).unwrap_err(), &lost, &["no such file"]);
}

#[test]
fn a_folder_in_a_files_place_is_an_error_of_the_operating_system() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("train-images-idx3-ubyte");
    fs::create_dir(&path).unwrap();
    let error = idx::read_images(&path).unwrap_err();
    assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error}");
}

#[test]
fn names_are_read_as_they_are_written() {
    for entry in DataSource::ENTRIES {
        assert_eq!(DataSource::named(entry.name).unwrap().to_string(), entry.name);
    }
    for normalize in [Normalize::None, Normalize::Half, Normalize::Dataset] {
        assert_eq!(normalize.to_string().parse::<Normalize>().unwrap(), normalize);
    }
    let error = DataSource::named("imagenet").unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("fashion-mnist, mnist"), "{error}");
    assert!("Half".parse::<Normalize>().unwrap_err().is_usage());
}

#[test]
fn constants_have_a_value_for_each_channel() {
    let stats = |mean: &[f64], std: &[f64]| ChannelStats { mean: mean.to_vec(), std: std.to_vec() };
    let mnist = data::describe(&Mnist {}.into(), None).unwrap();
    let cifar = data::describe(&Cifar10 {}.into(), None).unwrap();
    assert_eq!(Normalize::None.stats(&mnist).unwrap(), stats(&[0.0], &[1.0]));
    assert_eq!(Normalize::Half.stats(&cifar).unwrap(), stats(&[0.5; 3], &[0.5; 3]));
    assert_eq!(Normalize::Dataset.stats(&mnist).unwrap(), stats(&[0.1307], &[0.3081]));
    let published = stats(&[0.4914, 0.4822, 0.4465], &[0.2470, 0.2435, 0.2616]);
    assert_eq!(Normalize::Dataset.stats(&cifar).unwrap(), published);
}

#[test]
fn statistics_are_per_channel_over_all_pixels() {
    let pixels = vec![0, 255, 51, 51, 0, 255, 102, 102];
    let two_channels = Dataset::from_arrays(pixels, vec![0, 1], ["a", "b"], [2, 1, 2]).unwrap();
    let stats = two_channels.statistics().unwrap();
    for (got, want) in stats.mean.iter().chain(&stats.std).zip([0.5, 0.3, 0.5, 0.1]) {
        assert!((got - want).abs() < 1e-15, "{stats:?}");
    }
    assert!(numbered(0).statistics().is_err());
}

#[test]
fn limit_keeps_the_first_images() {
    for (limit, want) in [(3, 3), (7, 7), (100, 7), (0, 0)] {
        let mut dataset = numbered(7);
        dataset.limit(limit);
        assert_eq!((dataset.len(), pixels(&dataset).len()), (want, want * 4));
        assert!(dataset.labels().iter().enumerate().all(|(index, &label)| usize::from(label) == index));
    }
}

#[test]
fn subset_follows_the_indices_and_checks_them() {
    let subset = numbered(7).subset(&[6, 0, 6]).unwrap().with_split(Split::Test);
    assert_eq!((subset.labels(), subset.split()), (&[6, 0, 6][..], Split::Test));
    assert_eq!(pixels(&subset), [6, 6, 6, 6, 0, 0, 0, 0, 6, 6, 6, 6]);
    assert!(numbered(7).subset(&[7]).is_err());
}

#[test]
fn hold_out_parts_the_images_by_the_seed() {
    let whole = numbered(200);
    let (train, validation) = whole.hold_out(0.1, 5).unwrap();
    assert_eq!((train.len(), validation.len()), (180, 20));
    assert_eq!((train.split(), validation.split()), (Split::Train, Split::Validation));
    let ids = |dataset: &Dataset| dataset.images().map(|image| image[0]).collect::<Vec<u8>>();
    let (kept, held_out) = (ids(&train), ids(&validation));
    assert!(kept.is_sorted() && held_out.is_sorted(), "both keep the order of the original");
    let mut all = [kept, held_out.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..200).collect::<Vec<u8>>(), "each image is in one of the two");
    assert_ne!(held_out, (0..20).collect::<Vec<u8>>(), "they are drawn, not cut off");
    assert_eq!(ids(&whole.hold_out(0.1, 5).unwrap().1), held_out, "the same seed draws the same images");
    assert_ne!(ids(&whole.hold_out(0.1, 6).unwrap().1), held_out, "another seed draws others");
}

#[test]
fn hold_out_leaves_no_side_empty() {
    for (fraction, num_held_out) in [(0.001, 1), (0.1, 1), (0.26, 3), (0.999, 9)] {
        let (train, validation) = numbered(10).hold_out(fraction, 0).unwrap();
        assert_eq!((train.len(), validation.len()), (10 - num_held_out, num_held_out), "{fraction}");
    }
    for fraction in [0.0, 1.0, -0.1, 1.5, f64::NAN, f64::INFINITY] {
        let error = numbered(10).hold_out(fraction, 0).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("val_split"), "{error}");
    }
    assert!(numbered(1).hold_out(0.5, 0).is_err(), "one image cannot be shared");
    assert!(numbered(0).hold_out(0.5, 0).is_err());
}

proptest! {
    #[test]
    fn idx_of_any_extents_comes_back(
        num_images in 1u32..5, height in 1u32..9, width in 1u32..9, fill: u8, zip: bool
    ) {
        let dir = TempDir::new().unwrap();
        let body = vec![fill; (num_images * height * width) as usize];
        let plain = idx_bytes(0x803, &[num_images, height, width], &body);
        let path = file(&dir, "images", &if zip { gzip(&plain) } else { plain });
        let images = idx::read_images(&path).unwrap();
        let want = [num_images, height, width].map(|extent| extent as usize);
        prop_assert_eq!([images.num_images, images.height, images.width], want);
        prop_assert_eq!(images.pixels, body);
    }

    #[test]
    fn truncation_anywhere_is_an_error(cut in 0.0..1.0f64, zip: bool) {
        let dir = TempDir::new().unwrap();
        let whole = if zip { gzip(&images_bytes(2)) } else { images_bytes(2) };
        let path = file(&dir, "images", &whole[..(whole.len() as f64 * cut) as usize]);
        assert_names(&idx::read_images(&path).unwrap_err(), &path, &[]);
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_leaves_the_extents(position in 0.0..1.0f64, bit in 0..8u32, zip: bool) {
        let dir = TempDir::new().unwrap();
        let plain = images_bytes(2);
        let mut bytes = if zip { gzip(&plain) } else { plain.clone() };
        let index = (bytes.len() as f64 * position) as usize;
        bytes[index] ^= 1 << bit;
        match idx::read_images(&file(&dir, "images", &bytes)) {
            // gzip's own header has fields that nothing depends on, such as the time; a plain file has no checksum.
            Ok(images) => {
                prop_assert_eq!([images.num_images, images.height, images.width], [2, 28, 28]);
                prop_assert!(!zip || images.pixels == plain[16..]);
            }
            Err(error) => prop_assert!(matches!(error, Error::Data { .. }), "{}", error),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..4) {
        let dir = TempDir::new().unwrap();
        let start: &[u8] = [&[0, 0, 8, 3][..], &[0, 0, 8, 1], &[0x1f, 0x8b, 8, 0], &[]][kind as usize];
        bytes.splice(0..start.len().min(bytes.len()), start.iter().copied());
        let path = file(&dir, "any", &bytes);
        for result in [
            idx::read_images(&path).map(|_| ()),
            idx::read_labels(&path).map(|_| ()),
            cifar::read_into(&path, Layout::CIFAR10, &mut Records::default()),
        ] {
            let is_named = matches!(result, Ok(()) | Err(Error::Data { .. }));
            prop_assert!(is_named, "{:?}", result);
        }
    }
}
