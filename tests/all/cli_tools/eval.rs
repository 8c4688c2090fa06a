use serde_json::Value;

use super::{check_png, text, trained};
use crate::cli::{DATA, lines, succeeds};

#[test]
fn a_run_is_judged_class_by_class() {
    let (place, run) = trained(&["--train-limit=2000", "--epochs=3"]);
    let stdout = succeeds(place.lenet(&["eval", "--device=cpu", text(&run), "--picture", "confusion.png"]));
    for part in ["on 2,000 images", "precision  recall", "Ankle boot", "macro average", "true \\ predicted"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    check_png(&place.path("confusion.png"));

    let object = lines(&succeeds(place.lenet(&["eval", "--device=cpu", "--json", text(&run)]))).remove(0);
    assert!(object["test_loss"].is_number() && object["images"] == 2000, "{object}");
    let matrix: Vec<Vec<u64>> = serde_json::from_value(object["confusion_matrix"].clone()).unwrap();
    assert_eq!(matrix.iter().flatten().sum::<u64>(), 2000);
    let right: u64 = (0..10).map(|class| matrix[class][class]).sum();
    assert_eq!(object["test_accuracy"], right as f64 / 2000.0, "one and the same network");
    assert!(right > 600, "it has learned something: {right}");
    let classes = object["classes"].as_array().unwrap();
    assert_eq!(classes.iter().map(|class| class["support"].as_u64().unwrap()).sum::<u64>(), 2000);
    assert_eq!(classes[9]["name"], "Ankle boot");
    assert_eq!(classes[9]["recall"], matrix[9][9] as f64 / matrix[9].iter().sum::<u64>() as f64);
    assert!(object["macro_average"]["f1"].is_number());
    // The table and the object say the same.
    let row = stdout.lines().find(|line| line.starts_with("9 Ankle boot")).unwrap();
    let counts = row.split_whitespace().skip(3).map(|count| count.parse().unwrap_or(0));
    assert_eq!(counts.collect::<Vec<u64>>(), matrix[9], "{row}");

    let by_file =
        ["eval", "--device=cpu", "--json", "--model", text(&run.join("model.safetensors"))].map(str::to_owned);
    let by_file = lines(&succeeds(place.lenet(&by_file.each_ref().map(String::as_str)))).remove(0);
    assert_eq!(by_file, object);
}

#[test]
fn eval_says_what_it_lacks() {
    let (place, run) = trained(&[]);
    let model = run.join("model.safetensors");
    for args in [vec!["eval"], vec!["eval", text(&run), "--model", text(&model)]] {
        let refused = place.lenet(&args);
        assert_eq!(refused.code, 2, "{args:?}");
        assert!(refused.stderr.contains("RUN"), "{}", refused.stderr);
    }
    std::fs::create_dir(place.path("empty")).unwrap();
    let refused = place.lenet(&["eval", "--device=cpu", "--data", DATA, "empty"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(refused.stderr.starts_with("error: empty: ") && refused.stderr.contains("model.safetensors"));
    // Classes that no image is of, or none was taken for, have no score.
    let object = lines(&succeeds(place.lenet(&["eval", "--device=cpu", "--json", "--test-limit=1", text(&run)])));
    let nulls = object[0]["classes"].as_array().unwrap().iter().filter(|class| class["recall"] == Value::Null).count();
    assert_eq!(nulls, 9);
}
