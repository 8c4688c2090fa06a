//! What people look at when a run is over. With `WGRAD_PICTURES` set to a folder, every picture is also written there,
//! to look at.

use std::path::Path;

use wgrad::data::{Dataset, Normalize, bundled};
use wgrad::nn::weights::load;
use wgrad::nn::{Classifier, LeNet5};
use wgrad::optim::Optimizer;
use wgrad::report::grids::{ImageSample, confusion_matrix, filters, probability_bars, sample_grid};
use wgrad::report::parallel::{AxisValues, Best, ParallelAxis, ParallelPlot, parallel_coordinates};
use wgrad::report::plots::{ContourPlot, LinePlot, Mark, Sample, Series, contour_plot, histogram_rows, line_plot};
use wgrad::report::tensorboard::EventWriter;
use wgrad::report::{Comparison, Confusion, Picture, curves};
use wgrad::run::folder::read_history;
use wgrad::run::{Run, RunConfig, RunData, RunFolder};
use wgrad::train::early_stop::EarlyStopOptions;
use wgrad::train::predict::{Predictor, PredictorOptions};
use wgrad::train::{EpochReport, Outcome, Session, SessionOptions};
use wgrad::{Device, Error, Tensor};

/// That a picture is a PNG of its size with more on it than white, and no dark sign cut by an edge.
fn check_picture(name: &str, picture: &Picture) {
    let png = picture.png();
    if let Some(folder) = std::env::var_os("WGRAD_PICTURES") {
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), &png).expect("the folder can be written");
    }
    let decoded = image::load_from_memory_with_format(&png, image::ImageFormat::Png).expect("a PNG").to_rgb8();
    assert_eq!((decoded.width(), decoded.height()), (picture.width(), picture.height()), "{name}");
    assert_eq!(decoded.as_raw().as_slice(), picture.rgb(), "{name}");
    assert!(picture.width() >= 200 && picture.height() >= 100, "{name}");
    let inked = decoded.pixels().filter(|pixel| pixel.0 != [255; 3]).count();
    assert!(inked > decoded.pixels().len() / 200, "{name} is blank");
    let (right, bottom) = (decoded.width() - 1, decoded.height() - 1);
    let at_edge = |x: u32, y: u32| x == 0 || y == 0 || x == right || y == bottom;
    let cut = decoded.enumerate_pixels().find(|(x, y, pixel)| at_edge(*x, *y) && pixel.0 != [255; 3]);
    assert!(cut.is_none(), "{name}: something is cut at {cut:?}");
}

fn epochs(count: u64, shift: f64) -> Vec<EpochReport> {
    let epoch = |epoch: u64| {
        let x = epoch as f64;
        let val_loss = 0.35 + shift + 0.5 * (-x / 4.0).exp() + 0.004 * (x - 12.0).max(0.0);
        EpochReport {
            epoch,
            train_loss: 0.1 + 0.7 * (-x / 6.0).exp(),
            train_accuracy: 0.97 - 0.3 * (-x / 5.0).exp(),
            val_loss,
            val_accuracy: 0.9 - shift - 0.25 * (-x / 3.0).exp(),
            lr: 0.01 * 0.5_f64.powi((epoch / 5) as i32),
            images_per_second: 12_345.0,
            is_best: epoch <= 13,
        }
    };
    (1..=count).map(epoch).collect()
}

/// A run folder with made-up numbers.
fn made_up_run(parent: &Path, weight_decay: f64, count: u64, ended: bool) -> RunFolder {
    let mut folder = RunFolder::create(parent, &format!("decay-{weight_decay}")).expect("a folder");
    let optimizer = Optimizer::sgd(0.9).with("weight_decay", weight_decay).expect("a setting of SGD");
    folder.write_config(&RunConfig { optimizer, ..RunConfig::default() }).expect("settings");
    for report in epochs(count, weight_decay) {
        folder.add_metrics(&report).expect("a line");
    }
    if ended {
        let stopped = "5 epochs without improvement <of val_loss>".to_owned();
        let outcome =
            Outcome { test_loss: 0.4, test_accuracy: 0.8812, best_epoch: 13, epochs: count, stopped, test: None };
        folder.add_metrics(&outcome).expect("a line");
    }
    folder
}

#[test]
fn pictures_of_a_run_and_of_runs() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let first = made_up_run(parent.path(), 0.0, 20, true);
    let second = made_up_run(parent.path(), 0.01, 14, true);
    let third = made_up_run(parent.path(), 0.05, 1, false);
    let run = read_history(first.path()).expect("a run");
    assert_eq!(run.best().epoch, 13);
    check_picture("curves", &curves::training_curves(&run));
    check_picture("curves-one-epoch", &curves::training_curves(&read_history(third.path()).expect("a run")));

    let runs = [&first, &second, &third].map(|folder| read_history(folder.path()).expect("a run"));
    let comparison = Comparison::of(runs.to_vec()).expect("runs");
    let names: Vec<String> = comparison.differing_settings().into_iter().map(|setting| setting.name).collect();
    assert_eq!(names, ["optimizer.weight_decay"]);
    check_picture("compare", &comparison.curves());
    let table = comparison.table();
    let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
    assert!(widths.len() == 4 && widths.iter().all(|width| *width == widths[0]), "{table}");
    assert!(table.contains("88.12%") && table.contains("optimizer.weight_decay"), "{table}");
    let markdown = comparison.markdown();
    assert_eq!(markdown.lines().count(), 5);
    let bars = |line: &str| line.matches('|').count();
    assert!(markdown.lines().all(|line| bars(line) == bars(markdown.lines().next().expect("a line"))), "{markdown}");
}

#[test]
fn damaged_run_folders_are_named() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    assert!(matches!(Comparison::of(Vec::new()), Err(Error::Setting { .. })));
    let missing = parent.path().join("nowhere");
    let error = read_history(&missing).expect_err("no folder").to_string();
    assert!(error.contains("nowhere"), "{error}");

    let damage = |file: &str, contents: &[u8], words: &[&str]| {
        let folder = made_up_run(parent.path(), 0.0, 3, true);
        std::fs::write(folder.path().join(file), contents).expect("the folder can be written");
        let error = read_history(folder.path()).expect_err(file).to_string();
        assert!(error.contains(file), "{error}");
        words.iter().for_each(|word| assert!(error.contains(word), "{error} lacks {word}"));
    };
    damage("config.toml", b"a = ", &["TOML"]);
    damage("config.toml", b"\xff\xfe", &[]);
    damage("metrics.jsonl", b"", &["at least one epoch", "none"]);
    damage("metrics.jsonl", b"{\"epoch\": 1", &["line 1"]);
    damage("metrics.jsonl", b"[]\n", &["line 1"]);
    damage("metrics.jsonl", b"{\"epoch\": 1}\n", &["line 1", "train_loss"]);
    let good = serde_json::to_string(&epochs(1, 0.0)[0]).expect("JSON");
    damage("metrics.jsonl", format!("{good}\n{good}\n").as_bytes(), &["line 2", "epoch 1 after epoch 1"]);
    damage("metrics.jsonl", format!("{good}\n{}", &good[..good.len() / 2]).as_bytes(), &["line 2"]);
}

#[test]
fn pictures_of_schedules() {
    let rates: Vec<(f64, Option<f64>)> = (0..300)
        .map(|step| {
            (
                0.1 * (step as f64 / 300.0 * std::f64::consts::PI).sin(),
                Some(0.95 - 0.1 * (step as f64 / 300.0 * std::f64::consts::PI).sin()),
            )
        })
        .collect();
    check_picture("schedule-momentum", &curves::schedule_plot("one-cycle, max lr 0.1", "step", &rates));
    let rates: Vec<(f64, Option<f64>)> = (0..30).map(|epoch| (0.1 * 0.5_f64.powi(epoch / 10), None)).collect();
    check_picture("schedule", &curves::schedule_plot("step, every 10 epochs, gamma 0.5", "epoch", &rates));
}

#[test]
fn pictures_of_lines() {
    let curve =
        |name: &str, rate: f64| Series::counted(name, 0, (0..60).map(|step| 10.0 * (-rate * step as f64).exp()));
    let plot = LinePlot {
        title: "Least squares with and without momentum".to_owned(),
        x_label: "step".to_owned(),
        y_label: "loss".to_owned(),
        series: vec![curve("momentum 0", 0.03), curve("momentum 0.9", 0.15)],
        log_y: true,
        whole_x: true,
        ..LinePlot::default()
    };
    check_picture("lines-log", &line_plot(&plot));
    let dots: Vec<(f64, f64)> =
        (0..100).map(|i| (i as f64 / 10.0, 2.0 * i as f64 / 10.0 + 1.0 + ((i * 37) % 11) as f64 / 5.0)).collect();
    let fitted = Series { name: "fitted".to_owned(), points: vec![(0.0, 2.0), (10.0, 22.0)] };
    let plot = LinePlot {
        series: vec![fitted],
        dots,
        x_label: "x".into(),
        y_label: "y".into(),
        title: "Data and line".into(),
        ..LinePlot::default()
    };
    check_picture("lines-dots", &line_plot(&plot));
    let many = (0..10)
        .map(|line| Series::counted(format!("run number {line}"), 1, (0..50).map(|x| (x * (line + 1)) as f64)))
        .collect();
    check_picture("lines-many", &line_plot(&LinePlot { series: many, title: "Ten".into(), ..plot.clone() }));
    // Nothing to draw, gaps, one point, numbers that are not finite: a picture all the same.
    let odd =
        [vec![], vec![(0.0, f64::NAN)], vec![(3.0, 1e300), (4.0, -1e300), (5.0, f64::INFINITY)], vec![(1.0, 0.0)]];
    for (index, points) in odd.into_iter().enumerate() {
        let marks = points.iter().map(|&(x, y)| Mark { x, y, text: "here".into() }).collect();
        let plot = LinePlot {
            series: vec![Series { name: "odd".into(), points }],
            marks,
            log_y: index % 2 == 1,
            ..LinePlot::default()
        };
        check_picture(&format!("lines-odd-{index}"), &line_plot(&plot));
    }
}

#[test]
fn pictures_of_a_loss_surface() {
    let axis: Vec<f64> = (0..60).map(|i| -2.0 + 4.0 * i as f64 / 59.0).collect();
    let values = axis
        .iter()
        .flat_map(|&y| axis.iter().map(move |&x| (x - 0.7).powi(2) + 4.0 * (y + 0.3 + 0.3 * x).powi(2)))
        .collect();
    let path = |name: &str, rate: f64| {
        let (mut x, mut y, mut points) = (-1.7, 1.7, Vec::new());
        for _ in 0..30 {
            points.push((x, y));
            let inner = y + 0.3 + 0.3 * x;
            (x, y) = (x - rate * (2.0 * (x - 0.7) + 2.4 * inner), y - rate * 8.0 * inner);
        }
        Series { name: name.to_owned(), points }
    };
    let plot = ContourPlot {
        title: "Loss over weight and bias".to_owned(),
        x_label: "weight".to_owned(),
        y_label: "bias".to_owned(),
        xs: axis.clone(),
        ys: axis,
        values,
        paths: vec![path("rate 0.02", 0.02), path("rate 0.2", 0.2)],
        minimum: Some((0.7, -0.51)),
        log_levels: true,
    };
    check_picture("contour", &contour_plot(&plot).expect("a picture"));
    check_picture(
        "contour-linear",
        &contour_plot(&ContourPlot { log_levels: false, ..plot.clone() }).expect("a picture"),
    );
    assert!(contour_plot(&ContourPlot { values: vec![0.0], ..plot }).is_err());
}

#[test]
fn pictures_of_sweeps() {
    let numbers = |name: &str, values: Vec<f64>, is_log| ParallelAxis {
        name: name.into(),
        values: AxisValues::Numbers { values, is_log },
    };
    let count = 24;
    let value = |seed: usize| move |i: usize| ((i * seed) % 23) as f64 / 22.0;
    let lr = (0..count).map(|i| 10_f64.powf(-4.0 + 3.0 * value(7)(i))).collect();
    let names = (0..count).map(|i| ["sgd", "adam", "adam-w"][i % 3].to_owned()).collect();
    let accuracy = (0..count).map(|i| 0.6 + 0.3 * value(7)(i) - 0.05 * (i % 3) as f64).collect();
    let axes = vec![
        numbers("lr", lr, true),
        ParallelAxis { name: "optimizer".into(), values: AxisValues::Names(names) },
        numbers("batch_size", (0..count).map(|i| [16.0, 32.0, 64.0][i % 3]).collect(), false),
        numbers("dropout", (0..count).map(|i| 0.5 * value(11)(i)).collect(), false),
        numbers("val_accuracy", accuracy, false),
    ];
    let plot = ParallelPlot { title: "Sweep of 24 trials".into(), axes, best: Best::Highest };
    check_picture("parallel", &parallel_coordinates(&plot).expect("a picture"));
    let losses = (0..count).map(|i| if i % 8 == 5 { f64::NAN } else { 0.3 + 2.0 * value(5)(i) }).collect();
    let mut axes = plot.axes.clone();
    axes.truncate(3);
    axes.push(numbers("gradients.l2", (0..count).map(|i| 1e-5 * (1 + i) as f64).collect(), true));
    axes.push(numbers("validation loss", losses, true));
    let with_failed = ParallelPlot { axes, best: Best::Lowest, ..plot.clone() };
    check_picture("parallel-failed", &parallel_coordinates(&with_failed).expect("a picture"));
    let all_failed = vec![plot.axes[0].clone(), numbers("validation loss", vec![f64::NAN; count], false)];
    parallel_coordinates(&ParallelPlot { axes: all_failed, ..plot.clone() }).expect("a picture of failures");
    assert!(parallel_coordinates(&ParallelPlot { axes: plot.axes[..1].to_vec(), ..plot }).is_err());
}

#[test]
fn pictures_of_images() {
    let data = bundled::fashion_mnist().expect("the bundled images").test;
    let sample = |index: usize, predicted: usize| ImageSample {
        pixels: data.image(index).to_vec(),
        shape: data.shape(),
        label: data.class_of(index).to_owned(),
        predicted: Some((data.class_names()[predicted].to_owned(), 0.62)),
    };
    let samples: Vec<ImageSample> = (0..20).map(|index| sample(index, index % 10)).collect();
    check_picture("grid", &sample_grid("Test images", &samples, 7));
    let shown: Vec<ImageSample> = (0..10).map(|index| ImageSample { predicted: None, ..sample(index, 0) }).collect();
    check_picture("grid-plain", &sample_grid("One image a class", &shown, 5));
    check_picture("grid-one", &sample_grid("One", &shown[..1], 5));
    let probabilities = [0.02, 0.001, 0.3, 0.01, 0.55, 0.0, 0.1, 0.0, 0.015, 0.004];
    check_picture("bars", &probability_bars(&sample(3, 4), &data.class_names(), &probabilities));

    let pairs =
        (0..1000).map(|index: usize| (index % 10, if index.is_multiple_of(7) { (index * 3) % 10 } else { index % 10 }));
    let confusion = Confusion::of(10, pairs).expect("classes fit");
    check_picture("confusion", &confusion_matrix(&confusion, &data.class_names()));
    check_picture("confusion-empty", &confusion_matrix(&Confusion::of(3, []).expect("nothing"), &[]));

    let weight = |shape: [usize; 4]| {
        let len = shape.iter().product();
        Tensor::f32(shape, (0..len).map(|i: usize| ((i * 73) % 29) as f32 / 14.0 - 1.0).collect()).expect("as many")
    };
    check_picture("filters", &filters("Filters of conv1.weight", &weight([6, 1, 5, 5])).expect("a picture"));
    check_picture("filters-rgb", &filters("Filters of conv1.weight", &weight([6, 3, 5, 5])).expect("a picture"));
    check_picture("filters-deep", &filters("Filters of conv2.weight", &weight([4, 6, 5, 5])).expect("a picture"));
    assert!(filters("", &Tensor::f32([2], vec![0.0; 2]).expect("2")).is_err());

    let values = |mean: f32, std: f32| {
        (0..2000).map(|i: u32| mean + std * (((i * 7919) % 1000) as f32 / 500.0 - 1.0).powi(3)).collect()
    };
    let row = |std: f32| {
        (0..6).map(|c| Sample { name: format!("channel {c}"), values: values(c as f32 / 3.0 - 1.0, std) }).collect()
    };
    let rows = [("before bn1".to_owned(), row(3.0)), ("after bn1".to_owned(), row(1.0))];
    check_picture("histograms", &histogram_rows("Features around batch normalisation", &rows));
}

fn contains(record: &[u8], part: &[u8]) -> bool {
    record.windows(part.len()).any(|window| window == part)
}

/// A TFRecord file's records; their checksums are checked.
fn read_records(bytes: &[u8]) -> Vec<Vec<u8>> {
    fn masked_crc(data: &[u8]) -> u32 {
        let crc = data.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
        });
        (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
    }
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let (mut at, mut records) = (0, Vec::new());
    while at < bytes.len() {
        let len = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) as usize;
        assert_eq!(word(at + 8), masked_crc(&bytes[at..at + 8]), "the length at {at}");
        let data = &bytes[at + 12..at + 12 + len];
        assert_eq!(word(at + 12 + len), masked_crc(data), "the data at {at}");
        records.push(data.to_vec());
        at += len + 16;
    }
    records
}

/// A message's fields as (number, value): varints and fixed ones as 8 bytes, the others as they are.
fn read_fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let len = match key & 7 {
            0 => {
                fields.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (value, rest) = bytes.split_at(len);
        fields.push((key >> 3, value.to_vec()));
        bytes = rest;
    }
    fields
}

fn field(message: &[u8], number: u64) -> Vec<u8> {
    read_fields(message).into_iter().find(|(found, _)| *found == number).unwrap_or_else(|| panic!("field {number}")).1
}

#[test]
fn event_files_hold_what_was_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut writer = EventWriter::create(folder.path()).expect("a writer");
    let second = EventWriter::create(folder.path()).expect("another in the same second");
    assert_ne!(writer.path(), second.path());
    writer.scalar("loss/train", 300, 0.25).expect("a scalar");
    writer.histogram("weights/a", 2, &[-1.0, 0.0, 0.5, 1.0, f32::NAN]).expect("a histogram");
    writer.histogram("weights/none", 2, &[f32::NAN]).expect("nothing");
    writer.histogram("weights/same", 2, &[0.0; 5]).expect("a histogram of a constant");
    let picture = line_plot(&LinePlot::default());
    writer.image("pictures/a", 3, &picture).expect("an image");

    let records = read_records(&std::fs::read(writer.path()).expect("the file"));
    assert_eq!(records.len(), 5);
    assert_eq!(field(&records[0], 3), b"brain.Event:2");
    let value = |record: &[u8]| field(&field(record, 5), 1);
    assert_eq!(field(&records[1], 2), 300_u64.to_le_bytes());
    assert_eq!(field(&value(&records[1]), 1), b"loss/train");
    assert_eq!(field(&value(&records[1]), 2), 0.25_f32.to_le_bytes());
    let doubles = |bytes: &[u8]| -> Vec<f64> {
        bytes.chunks(8).map(|eight| f64::from_le_bytes(eight.try_into().expect("8 bytes"))).collect()
    };
    for (record, total, sum_of_squares) in [(&records[2], 4.0, 2.25), (&records[3], 5.0, 0.0)] {
        let histogram = field(&value(record), 5);
        let (limits, counts) = (doubles(&field(&histogram, 6)), doubles(&field(&histogram, 7)));
        assert_eq!(limits.len(), counts.len());
        assert!(limits.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(counts.iter().sum::<f64>(), total);
        assert_eq!(doubles(&field(&histogram, 3)), [total]);
        assert_eq!(doubles(&field(&histogram, 5)), [sum_of_squares]);
    }
    let image = field(&value(&records[4]), 4);
    assert_eq!(field(&image, 1), u64::from(picture.height()).to_le_bytes());
    assert_eq!(field(&image, 4), picture.png());
}

/// A whole run with batch normalisation, and everything that is written about it.
#[test]
fn a_run_leaves_a_report() {
    let config = RunConfig {
        network: LeNet5 { batch_norm: true, ..LeNet5::default() }.into(),
        train_limit: Some(900),
        val_limit: Some(100),
        test_limit: Some(300),
        batch_size: 50,
        seed: 1,
        epochs: 5,
        lr: Some(0.02),
        early_stopping: Some(EarlyStopOptions { patience: 9, ..EarlyStopOptions::default() }),
        ..RunConfig::default()
    };
    let splits = bundled::fashion_mnist().expect("the bundled images");
    let data = RunData::divide(&config, splits).expect("images");
    let parent = tempfile::tempdir().expect("a temporary folder");
    let kept = std::env::var_os("WGRAD_PICTURES").map(|folder| Path::new(&folder).join("runs"));
    let run =
        Run::create(config.clone(), &Device::Cpu, &data, kept.as_deref().unwrap_or(parent.path())).expect("a run");
    let folder = run.folder().to_owned();
    let finished = run.train(&mut ()).expect("training");
    let (outcome, test) = (finished.outcome, data.test);
    let weights = load(&finished.model).expect("weights");
    let (model, normalize) = (config.model().expect("a network"), Normalize::Dataset.stats(&test).expect("statistics"));

    // Predictions are those that the session's own test counts, whatever batch they are made in.
    for batch_size in [1, 7, 100, 301] {
        let options = PredictorOptions {
            model: &model,
            weights: &weights,
            normalize: &normalize,
            shape: test.shape(),
            batch_size,
        };
        let data = if batch_size == 1 { test.subset(&[0, 1, 2]).expect("images") } else { test.clone() };
        let predictions = Predictor::new(&Device::Cpu, &options).expect("a predictor").predict(&data).expect("classes");
        assert_eq!(predictions.len(), data.len());
        for prediction in &predictions {
            assert!((prediction.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert_eq!(prediction.top(1)[0].1, prediction.probability);
        }
        if batch_size != 1 {
            let right = predictions.iter().filter(|prediction| prediction.label == prediction.predicted).count();
            assert_eq!(right as f64 / data.len() as f64, outcome.test_accuracy, "batches of {batch_size}");
        }
    }

    let page = finished.report.expect("a report");
    assert_eq!(page, folder.join("report.html"));
    let pictures = ["curves.png", "confusion.png", "samples.png", "diagnostics.png", "filters.png", "features.png"];
    for name in pictures {
        let path = folder.join("pictures").join(name);
        let picture = image::open(&path).expect("a PNG").to_rgb8();
        assert!(picture.pixels().any(|pixel| pixel.0 != [255; 3]), "{} is blank", path.display());
    }
    let page = std::fs::read_to_string(&page).expect("the page");
    for reference in ["http:", "https:", "url(", "<link rel=\"stylesheet", "<script", "file:", "src=\"/"] {
        assert!(!page.contains(reference), "the page refers to {reference}");
    }
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), pictures.len());
    assert_eq!(page.matches("<img").count(), pictures.len());
    assert!(page.contains("optimizer.weight_decay") && page.contains("Ankle boot"));
    let csv = std::fs::read_to_string(folder.join("metrics.csv")).expect("the table");
    assert_eq!(csv.lines().count(), 6);
    assert!(csv.lines().all(|line| line.matches(',').count() == 7), "{csv}");
    let events =
        std::fs::read_dir(folder.join("tensorboard")).expect("a folder").next().expect("a file").expect("a file");
    let records = read_records(&std::fs::read(events.path()).expect("the events"));
    let with_tag = |tag: &str| records.iter().filter(|record| contains(record, tag.as_bytes())).count();
    // 10 + 2 parameters; the last ReLU's units are those of fc2.
    for (tag, each) in [("weights/", 12), ("gradients/", 12), ("update_ratio/", 12), ("gradient_norm/", 13)] {
        assert_eq!(with_tag(tag), 5 * each, "{tag} in every epoch");
    }
    assert_eq!((with_tag("dead_units/fc2.relu"), with_tag("activation_std/fc3")), (5, 5));
    assert_eq!((with_tag("loss/"), with_tag("pictures/")), (5 * 2 + 1, pictures.len()));
    let history = read_history(&folder).expect("a history");
    assert_eq!((history.epochs.len(), history.diagnostics.len()), (5, 5));
    assert_eq!(history.outcome.expect("an outcome").test_accuracy, outcome.test_accuracy);
}

#[test]
fn a_look_inside_sees_batch_normalisation_at_work() {
    let data = bundled::fashion_mnist().expect("the bundled images").test.subset(&[3, 1, 4, 1, 5]).expect("images");
    let model = Classifier::new(LeNet5 { batch_norm: true, ..LeNet5::default() }, 10);
    let normalize = Normalize::Dataset.stats(&data).expect("statistics");
    let weights = initial_weights(&model, &data);
    let options = PredictorOptions {
        model: &model,
        weights: &weights,
        normalize: &normalize,
        shape: data.shape(),
        batch_size: 5,
    };
    let mut predictor = Predictor::new(&Device::Cpu, &options).expect("a predictor");
    let inspection = predictor.inspect(&data).expect("a look inside");
    assert_eq!(inspection.normalized.len(), 1);
    let layer = &inspection.normalized[0];
    assert_eq!((layer.name.as_str(), layer.before.len(), layer.after.len()), ("bn1", 6, 6));
    assert_eq!(layer.before[0].len(), 5 * 24 * 24);
    // Untrained, running statistics are 0 and 1: what comes out is what goes in, over the root of 1 + eps.
    for (before, after) in layer.before.iter().flatten().zip(layer.after.iter().flatten()) {
        assert!((before / 1.000_005 - after).abs() < 1e-5, "{before} {after}");
    }
    assert_eq!(inspection.gradients.len(), 12);
    assert!(inspection.gradients["conv1.weight"].to_f32_vec().iter().any(|gradient| *gradient != 0.0));
    assert_eq!(inspection.parameters[0], "conv1.weight");
    // Images of another shape are refused.
    let colour =
        Dataset::from_arrays(vec![0; 5 * 3 * 784], vec![0; 5], data.class_names(), [3, 28, 28]).expect("images");
    assert!(matches!(predictor.predict(&colour), Err(Error::Operand { .. })));
}

fn initial_weights(model: &Classifier, data: &Dataset) -> wgrad::StateDict {
    let options = SessionOptions {
        batch_size: 5,
        eval_batch_size: 5,
        shuffle: false,
        seed: 1,
        ..SessionOptions::validated_on_test(model, data, data, Normalize::Dataset.stats(data).expect("statistics"))
    };
    Session::new(&Device::Cpu, &options).and_then(|mut session| session.model()).expect("weights")
}
