//! A trained network at work: classes of an image, and what its layers make of it. On the CPU, whose answer to one image is
//! there at once, while another worker trains.

use std::cell::RefCell;
use std::path::Path;

use serde_json::{Value, json};
use wasm_bindgen::prelude::wasm_bindgen;
use wgrad::data::{Photo, PhotoOptions};
use wgrad::run::{RunData, SavedModel};
use wgrad::train::activations;
use wgrad::train::predict::{Predictor, PredictorOptions};
use wgrad::{Device, Result, StateDict, Tensor};

use crate::answer::{answer, wrong};
use crate::options;

/// Maps of a layer that are shown.
const MOST_MAPS: usize = 16;
/// Layers that are shown.
const MOST_LAYERS: usize = 8;
/// Filters that are shown.
const MOST_FILTERS: usize = 64;

thread_local! {
    static MODEL: RefCell<Option<SavedModel>> = const { RefCell::new(None) };
    static DATA: RefCell<Option<RunData>> = const { RefCell::new(None) };
}

/// Opens a model file.
#[wasm_bindgen]
pub fn open_model(path: &str) -> String {
    answer(SavedModel::open(Path::new(path), &[]).map(|model| {
        let described = json!({
            "title": model.config.network.title(),
            "shape": model.shape,
            "classes": model.classes,
            "notes": model.notes,
        });
        MODEL.set(Some(model));
        described
    }))
}

/// Reads the images of these settings, for [`test_image`].
#[wasm_bindgen]
pub fn load_data(given: &str) -> String {
    answer(options::config(given).and_then(|config| RunData::load(&config)).map(|data| {
        let described = json!({
            "train": data.train.len(),
            "validation": data.validation.as_ref().map(|data| data.len()),
            "test": data.test.len(),
            "shape": data.test.shape(),
            "classes": data.test.class_names(),
            "source": data.source,
        });
        DATA.set(Some(data));
        described
    }))
}

/// The pixels (C, H, W) and the class of a test image.
#[wasm_bindgen]
pub fn test_image(index: usize) -> String {
    answer(DATA.with_borrow(|data| {
        let test = &data.as_ref().ok_or_else(|| wrong("data", "images that were read", "none"))?.test;
        if index >= test.len() {
            return Err(wrong("index", &format!("a test image, 0 to {}", test.len().saturating_sub(1)), index));
        }
        let (pixels, class) = (test.image(index), test.class_of(index));
        Ok(json!({ "pixels": pixels, "shape": test.shape(), "class": class }))
    }))
}

/// An image of any size, as red, green and blue, made into what the model takes.
#[wasm_bindgen]
pub fn fitted(width: u32, height: u32, rgb: &[u8], inverts: bool) -> String {
    answer(with_model(|model| {
        let photo = Photo::from_rgb(width, height, rgb.to_vec())?;
        let how = PhotoOptions { invert: inverts, ..PhotoOptions::default() };
        Ok(json!({ "pixels": photo.fitted(model.shape, how), "shape": model.shape }))
    }))
}

/// The probability of every class for an image (C, H, W) as the model takes it.
#[wasm_bindgen]
pub fn classify(pixels: &[u8]) -> String {
    answer(with_model(|model| {
        let data = model.unlabelled(pixels.to_vec())?;
        let mut predictor = Predictor::new(&Device::Cpu, &predictor_options(model))?;
        let prediction = predictor.predict(&data)?.swap_remove(0);
        Ok(json!({ "classes": model.classes, "probabilities": prediction.probabilities }))
    }))
}

/// The filters of the first layer, and what the layers make of an image (C, H, W): each map scaled to bytes.
#[wasm_bindgen]
pub fn look(pixels: &[u8]) -> String {
    answer(with_model(|model| {
        let data = model.unlabelled(pixels.to_vec())?;
        let layers = activations(&Device::Cpu, &predictor_options(model), &data)?;
        let layers: Vec<Value> = layers.iter().take(MOST_LAYERS).map(|layer| maps(&layer.label, &layer.maps)).collect();
        Ok(json!({ "filters": filters(&model.weights, model.shape), "layers": layers }))
    }))
}

/// Writes a model file as an ONNX file.
#[wasm_bindgen]
pub fn export_onnx(model: &str, to: &str) -> String {
    answer(SavedModel::open(Path::new(model), &[]).and_then(|model| model.export_onnx(Path::new(to))))
}

fn with_model<T>(work: impl FnOnce(&SavedModel) -> Result<T>) -> Result<T> {
    MODEL.with_borrow(|model| work(model.as_ref().ok_or_else(|| wrong("model", "a model that was opened", "none"))?))
}

fn predictor_options(model: &SavedModel) -> PredictorOptions<'_> {
    let SavedModel { network, weights, normalize, shape, .. } = model;
    PredictorOptions { model: network, weights, normalize, shape: *shape, batch_size: 1 }
}

/// The maps (C, H, W) of a layer, as bytes from the layer's least value to its largest.
fn maps(label: &str, maps: &Tensor) -> Value {
    let &[channels, height, width] = maps.shape().dims() else { return Value::Null };
    let values = maps.to_f32_vec();
    let shown = channels.min(MOST_MAPS);
    json!({
        "label": label,
        "channels": channels,
        "height": height,
        "width": width,
        "maps": bytes(&values[..shown * height * width]),
    })
}

/// The filters of the first layer that sees the image: of a convolution (K, C, H, W), or the rows of a first linear layer,
/// which are images too.
fn filters(weights: &StateDict, [channels, height, width]: [usize; 3]) -> Value {
    let of_image = weights.iter().find_map(|(name, weight)| match *weight.shape().dims() {
        [count, c, kernel_height, kernel_width] if c == channels && kernel_height * kernel_width > 1 => {
            Some((name, weight, [count, c, kernel_height, kernel_width]))
        }
        [count, features] if features == channels * height * width => {
            Some((name, weight, [count, channels, height, width]))
        }
        _ => None,
    });
    let Some((name, weight, [count, channels, height, width])) = of_image else { return Value::Null };
    let shown = count.min(MOST_FILTERS);
    let size = channels * height * width;
    // Each filter is scaled for itself around 0, so that 128 is 0.
    let values = weight.to_f32_vec();
    let scaled = values[..shown * size].chunks(size).flat_map(|filter| {
        let most = filter.iter().fold(0.0f32, |most, value| most.max(value.abs())).max(f32::MIN_POSITIVE);
        filter.iter().map(move |value| (127.5 + 127.5 * value / most).round() as u8)
    });
    json!({
        "name": name,
        "count": count,
        "channels": channels,
        "height": height,
        "width": width,
        "filters": scaled.collect::<Vec<u8>>(),
    })
}

/// Values from the least to the largest as bytes.
fn bytes(values: &[f32]) -> Vec<u8> {
    let (least, most) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
    let range = (most - least).max(f32::MIN_POSITIVE);
    values.iter().map(|value| (255.0 * (value - least) / range).round() as u8).collect()
}
