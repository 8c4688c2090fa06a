//! The FashionMNIST subset that comes with the library, so that a first run needs no files: the first 10,000 training
//! and the first 2,000 test images. `data/README.md` says how they were cut; Zalando's licence is in
//! `data/fashion-mnist/LICENSE`.

use std::borrow::Cow;
use std::path::Path;

use super::idx_files::IdxPair;
use super::{Dataset, FashionMnist, Source, Split, Splits, idx};
use crate::Result;
use crate::registry::Described;

/// One file, under the name it has in the repository.
struct Embedded {
    name: &'static str,
    #[cfg(not(target_arch = "wasm32"))]
    bytes: &'static [u8],
}

macro_rules! embedded {
    ($file:literal) => {
        Embedded {
            name: concat!("bundled:", $file),
            #[cfg(not(target_arch = "wasm32"))]
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/fashion-mnist/", $file)),
        }
    };
}

impl Embedded {
    #[cfg(not(target_arch = "wasm32"))]
    fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        Ok(Cow::Borrowed(self.bytes))
    }

    /// A page loads the images apart from the program, so that each is cached by itself, and puts them here.
    #[cfg(target_arch = "wasm32")]
    fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        Ok(Cow::Owned(crate::files::memory::get(&Path::new("/").join(self.name))?))
    }
}

const TRAIN: [Embedded; 2] = [embedded!("train-images-idx3-ubyte.gz"), embedded!("train-labels-idx1-ubyte.gz")];
const TEST: [Embedded; 2] = [embedded!("t10k-images-idx3-ubyte.gz"), embedded!("t10k-labels-idx1-ubyte.gz")];

/// The bundled subset: training images (10000, 1, 28, 28) and test images (2000, 1, 28, 28), with their labels.
///
/// # Errors
/// [`Error::Data`](crate::Error::Data) if the embedded bytes are damaged, which a test rules out.
pub fn fashion_mnist() -> Result<Splits> {
    let (train, test) = (read(&TRAIN, Split::Train)?, read(&TEST, Split::Test)?);
    let source = format!("the bundled subset (the first {} and {} images)", train.len(), test.len());
    Ok(Splits { train, test, source })
}

fn read([images, labels]: &[Embedded; 2], split: Split) -> Result<Dataset> {
    let (image_bytes, label_bytes) = (images.bytes()?, labels.bytes()?);
    let pair = IdxPair {
        images_path: images.name.into(),
        labels_path: labels.name.into(),
        images: idx::images_from(Path::new(images.name), &*image_bytes, image_bytes.len() as u64)?,
        labels: idx::labels_from(Path::new(labels.name), &*label_bytes, label_bytes.len() as u64)?,
    };
    let data = pair.into_dataset(0, false, split, &FashionMnist {})?;
    Ok(data.named(FashionMnist::NAME).with_stats(FashionMnist {}.stats()))
}
