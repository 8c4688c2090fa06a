use std::path::PathBuf;

use image::{GrayImage, RgbaImage};
use wgrad::data::bundled;

use super::{check_png, text, trained};
use crate::cli::{Place, lines, succeeds};

/// The first test image of each class, enlarged to 84×84, in `<class>.png`, and its negative in `<class>.jpg`.
fn write_images(place: &Place) -> Vec<PathBuf> {
    let test = bundled::fashion_mnist().unwrap().test;
    let image = |class: u16| {
        let index = test.labels().iter().position(|&label| label == class).unwrap();
        GrayImage::from_raw(28, 28, test.image(index).to_vec()).unwrap()
    };
    let write = |class: u16| {
        let path = place.path(&format!("{class}.png"));
        let mut large = image::imageops::resize(&image(class), 84, 84, image::imageops::FilterType::Nearest);
        large.save(&path).unwrap();
        image::imageops::invert(&mut large);
        large.save(path.with_extension("jpg")).unwrap();
        path
    };
    (0..10).map(write).collect()
}

#[test]
fn images_are_predicted_as_files_as_they_are_in_the_data_set() {
    let (place, run) = trained(&["--train-limit=2000", "--epochs=3"]);
    let images = write_images(&place);
    let args: Vec<&str> = images.iter().map(|path| text(path)).collect();
    let fixed = ["predict", "--device=cpu", "--run", text(&run)];
    let predicted = lines(&succeeds(place.lenet(&[&fixed[..], &["--json", "--top=10"], &args].concat())));
    assert_eq!(predicted.len(), 10);
    let mut right = 0;
    for (class, line) in predicted.iter().enumerate() {
        assert_eq!((line["image"].as_str().unwrap(), &line["looks_inverted"]), (args[class], &false.into()));
        let top = line["top"].as_array().unwrap();
        let probabilities: Vec<f64> = top.iter().map(|entry| entry["probability"].as_f64().unwrap()).collect();
        assert!(probabilities.is_sorted_by(|a, b| a >= b) && (probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        right += usize::from(top[0]["class"] == class);
    }
    assert!(right >= 5, "{predicted:?}");

    // On paper they look inverted, and with --invert they are what they were, but for what JPEG loses.
    let paper = images[9].with_extension("jpg");
    let warned = place.lenet(&[&fixed[..], &["--json", text(&paper)]].concat());
    assert_eq!(warned.code, 0);
    assert!(warned.stderr.starts_with("warning: ") && warned.stderr.contains("--invert"), "{}", warned.stderr);
    assert_eq!(lines(&warned.stdout)[0]["looks_inverted"], true);
    let model = run.join("model.safetensors");
    let by_file = ["predict", "--device=cpu", "--model", text(&model), "--invert", "--json", text(&paper)];
    let inverted = lines(&succeeds(place.lenet(&by_file))).remove(0);
    let probability = |line: &serde_json::Value| line["top"][0]["probability"].as_f64().unwrap();
    assert_eq!(inverted["top"][0]["class"], predicted[9]["top"][0]["class"]);
    assert!((probability(&inverted) - probability(&predicted[9])).abs() < 0.2, "{inverted} {}", predicted[9]);

    let stdout = succeeds(place.lenet(&[&fixed[..], &["--picture", "made/p.png", args[9], args[1]]].concat()));
    let rows: Vec<&str> = stdout.lines().filter(|line| line.ends_with('%')).collect();
    assert_eq!(rows.len(), 6, "three classes for each of two images: {stdout}");
    assert!(rows[0].starts_with(args[9]) && rows[3].starts_with(args[1]), "{stdout}");
    check_png(&place.path("made/p.png"));
}

#[test]
fn a_bad_file_among_several_is_named_and_the_others_are_predicted() {
    let (place, run) = trained(&[]);
    let image = write_images(&place).remove(4);
    std::fs::write(place.path("bad.png"), b"no picture").unwrap();
    let args = ["predict", "--device=cpu", "--run", text(&run), "bad.png", text(&image), "none.jpg"];
    let partly = place.lenet(&args);
    assert_eq!(partly.code, 1);
    assert!(partly.stdout.contains("4.png") && !partly.stdout.contains("bad.png"), "{}", partly.stdout);
    let errors: Vec<&str> = partly.stderr.lines().collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("bad.png: expected a whole PNG or JPEG image"), "{errors:?}");
    assert!(errors[1].contains("cannot read none.jpg"), "{errors:?}");
    let json = place.lenet(&[&args[..], &["--json"]].concat());
    let objects = lines(&json.stdout);
    assert_eq!((json.code, objects.len()), (1, 3));
    assert!(objects[0]["error"].is_string() && objects[1]["top"].is_array() && objects[2]["error"].is_string());
}

#[test]
fn colour_networks_see_colours_and_transparency_is_white() {
    let place = Place::new();
    let data = place.path("cifar");
    std::fs::create_dir(&data).unwrap();
    // A hundred images a file, one colour each, which is its class.
    let record = |index: usize| [vec![(index % 10) as u8], vec![(index % 10 * 25) as u8; 3072]].concat();
    let bytes: Vec<u8> = (0..100).flat_map(record).collect();
    for file in wgrad::data::cifar::TRAIN_FILES.iter().chain([&wgrad::data::cifar::TEST_FILE]) {
        std::fs::write(data.join(file), &bytes).unwrap();
    }
    let out = ["--dataset=cifar10", "--data", text(&data), "--device=cpu", "--epochs=1", "--no-report", "--quiet"];
    succeeds(place.lenet(&out));
    let run = place.runs().remove(0);
    RgbaImage::from_pixel(40, 20, image::Rgba([0, 0, 0, 0])).save(place.path("clear.png")).unwrap();
    image::RgbImage::from_pixel(7, 90, image::Rgb([255; 3])).save(place.path("white.png")).unwrap();
    let predict = ["predict", "--device=cpu", "--run", text(&run), "--json", "clear.png", "white.png"];
    let objects = lines(&succeeds(place.lenet(&predict)));
    assert_eq!(objects[0]["top"], objects[1]["top"]);
    let inverted = lines(&succeeds(place.lenet(&[&predict[..], &["--invert"]].concat())));
    assert_ne!(inverted[0]["top"], objects[0]["top"]);
}

#[test]
fn predict_says_what_it_lacks() {
    let place = Place::new();
    let cases: [(&[&str], i32, &str); 4] = [
        (&["predict", "x.png"], 2, "--run <RUN>"),
        (&["predict", "--run", "x"], 2, "<IMAGE>"),
        (&["predict", "--run", "x", "--top=0", "x.png"], 2, "at least 1"),
        (&["predict", "--device=cpu", "--model", "none.safetensors", "x.png"], 1, "none.safetensors"),
    ];
    for (args, code, part) in cases {
        let refused = place.lenet(args);
        assert_eq!(refused.code, code, "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(part), "{args:?}: {}", refused.stderr);
    }
}
