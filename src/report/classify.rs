//! How well classes are told apart: the confusion matrix, and precision, recall and F1 of each class, as
//! scikit-learn's `confusion_matrix` and `precision_recall_fscore_support` define them.

use serde::Serialize;

use crate::{Error, Result};

/// How often images of one class were taken for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    num_classes: usize,
    /// Row by row: the true class is the row, the predicted one the column.
    counts: Vec<u64>,
}

/// Metrics of one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassScores {
    /// Of the images taken for this class, the share that are of it; `None` where none was.
    pub precision: Option<f64>,
    /// Of the images of this class, the share that were taken for it; `None` where there are none.
    pub recall: Option<f64>,
    /// The harmonic mean of the two, 2·TP / (2·TP + FP + FN); `None` where the class neither occurs nor is predicted.
    pub f1: Option<f64>,
    /// Images of this class.
    pub support: u64,
}

impl Confusion {
    /// Counts (label, prediction) pairs.
    ///
    /// # Errors
    /// [`Error::Operand`] where a label or prediction is not below `num_classes`.
    pub fn of(num_classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Result<Confusion> {
        let mut counts = vec![0; num_classes * num_classes];
        for (label, predicted) in pairs {
            if label >= num_classes || predicted >= num_classes {
                let got = format!("label {label}, prediction {predicted}");
                return Err(Error::operand("confusion", format!("classes below {num_classes}"), got));
            }
            counts[label * num_classes + predicted] += 1;
        }
        Ok(Confusion { num_classes, counts })
    }

    /// The number of classes.
    pub fn num_classes(&self) -> usize {
        self.num_classes
    }

    /// Images of class `label` that were taken for `predicted`; 0 for classes that do not exist.
    pub fn count(&self, label: usize, predicted: usize) -> u64 {
        if label < self.num_classes && predicted < self.num_classes {
            self.counts[label * self.num_classes + predicted]
        } else {
            0
        }
    }

    /// The counts, a row for each true class and in it a column for each predicted one.
    pub fn rows(&self) -> impl Iterator<Item = &[u64]> {
        self.counts.chunks(self.num_classes.max(1))
    }

    /// All images.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The share of images that were classified correctly; 0 where there are none.
    pub fn accuracy(&self) -> f64 {
        let correct: u64 = (0..self.num_classes).map(|class| self.count(class, class)).sum();
        ratio(correct, self.total()).unwrap_or(0.0)
    }

    /// The metrics of each class.
    pub fn scores(&self) -> Vec<ClassScores> {
        let class_scores = |class: usize| {
            let correct = self.count(class, class);
            let support = (0..self.num_classes).map(|predicted| self.count(class, predicted)).sum();
            let predicted = (0..self.num_classes).map(|label| self.count(label, class)).sum();
            ClassScores {
                precision: ratio(correct, predicted),
                recall: ratio(correct, support),
                f1: ratio(2 * correct, support + predicted),
                support,
            }
        };
        (0..self.num_classes).map(class_scores).collect()
    }

    /// Means over the classes that occur or were predicted, weighted equally (macro average); support is the sum. As in
    /// scikit-learn, what is undefined for one of them counts as 0: precision where nothing was taken for the class,
    /// recall where no image is of it. Left out, a class that is never predicted would raise the mean.
    pub fn macro_average(&self) -> ClassScores {
        let mut scores = self.scores();
        scores.retain(|scores| scores.f1.is_some());
        let mean = |score: fn(&ClassScores) -> Option<f64>| {
            let sum: f64 = scores.iter().map(|scores| score(scores).unwrap_or(0.0)).sum();
            (!scores.is_empty()).then(|| sum / scores.len() as f64)
        };
        ClassScores {
            precision: mean(|scores| scores.precision),
            recall: mean(|scores| scores.recall),
            f1: mean(|scores| scores.f1),
            support: self.total(),
        }
    }

    /// A table for a terminal: class, precision, recall, F1 and support, with the macro average below.
    pub fn table(&self, class_names: &[&str]) -> String {
        let name = |class: usize| class_names.get(class).map_or(class.to_string(), |name| (*name).to_owned());
        let width = (0..self.num_classes)
            .map(|class| name(class).chars().count())
            .max()
            .unwrap_or(0)
            .max("macro average".len());
        let mut text = format!("{:width$}  precision  recall      F1  images\n", "class");
        let mut row = |name: &str, scores: ClassScores| {
            let [precision, recall, f1] = [scores.precision, scores.recall, scores.f1].map(percent);
            text += &format!("{name:width$}  {precision:>9}  {recall:>6}  {f1:>6}  {:>6}\n", scores.support);
        };
        self.scores().into_iter().enumerate().for_each(|(class, scores)| row(&name(class), scores));
        row("macro average", self.macro_average());
        text
    }

    /// The counts for a terminal, a row for each true class. Columns are headed by the class's name where all names
    /// are short, else by its number, which then stands in front of the rows' names too; a dot is a count of 0.
    pub fn matrix(&self, class_names: &[&str]) -> String {
        const CORNER: &str = "true \\ predicted";
        let name = |class: usize| class_names.get(class).map_or(class.to_string(), |name| (*name).to_owned());
        let is_short = (0..self.num_classes).all(|class| name(class).chars().count() <= 4);
        let digits = self.num_classes.saturating_sub(1).to_string().len();
        let row_name = |class: usize| if is_short { name(class) } else { format!("{class:>digits$} {}", name(class)) };
        let column_name = |class: usize| if is_short { name(class) } else { class.to_string() };
        let rows: Vec<String> = (0..self.num_classes).map(row_name).collect();
        let columns: Vec<String> = (0..self.num_classes).map(column_name).collect();
        let widest = |texts: &[String]| texts.iter().map(|text| text.chars().count()).max().unwrap_or(0);
        let largest = self.counts.iter().max().map_or(0, |count| count.to_string().len());
        let (left, width) = (widest(&rows).max(CORNER.len()), widest(&columns).max(largest) + 2);
        let mut text = format!("{CORNER:left$}");
        columns.iter().for_each(|column| text += &format!("{column:>width$}"));
        for (name, counts) in rows.iter().zip(self.rows()) {
            text += &format!("\n{name:left$}");
            for &count in counts {
                let count = if count == 0 { "·".to_owned() } else { count.to_string() };
                text += &format!("{count:>width$}");
            }
        }
        text + "\n"
    }
}

/// A share as it is printed: percent with one decimal, or a dash.
pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or("–".to_owned(), |share| format!("{:.1}%", 100.0 * share))
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    // Counts of images are far below 2^53.
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_textbook() {
        // scikit-learn: y_true = [0,0,0,1,1,2], y_pred = [0,0,1,1,1,0].
        let pairs = [(0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (2, 0)];
        let confusion = Confusion::of(4, pairs).expect("classes fit");
        let scores = confusion.scores();
        assert_eq!(
            scores[0],
            ClassScores { precision: Some(2.0 / 3.0), recall: Some(2.0 / 3.0), f1: Some(4.0 / 6.0), support: 3 }
        );
        assert_eq!(scores[1], ClassScores { precision: Some(2.0 / 3.0), recall: Some(1.0), f1: Some(0.8), support: 2 });
        assert_eq!(scores[2], ClassScores { precision: None, recall: Some(0.0), f1: Some(0.0), support: 1 });
        assert_eq!(scores[3], ClassScores { precision: None, recall: None, f1: None, support: 0 });
        assert_eq!(confusion.accuracy(), 4.0 / 6.0);
        assert_eq!(confusion.count(2, 0), 1);
    }

    /// Labels and predictions, their macro averages, and what is undefined.
    type Case<'a> = (&'a [(usize, usize)], [f64; 3], &'a str);

    #[test]
    fn a_macro_average_counts_what_is_undefined_as_0() {
        // The values are those of scikit-learn's precision_recall_fscore_support(average="macro", zero_division=0).
        let thirds = |sum: f64| sum / 3.0;
        let cases: [Case; 3] = [
            (
                &[(0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (2, 0)],
                [thirds(4.0 / 3.0), thirds(5.0 / 3.0), thirds(4.0 / 6.0 + 0.8)],
                "class 2 is never predicted, and class 3 is not there at all",
            ),
            (&[(0, 0), (0, 1), (1, 1)], [0.75, 0.75, 4.0 / 6.0], "two of four classes"),
            (&[(0, 0), (0, 1)], [0.5, 0.25, 1.0 / 3.0], "class 1 is predicted, but has no images"),
        ];
        for (pairs, want, why) in cases {
            let average = Confusion::of(4, pairs.iter().copied()).expect("classes fit").macro_average();
            for (got, want) in [average.precision, average.recall, average.f1].into_iter().zip(want) {
                let got = got.expect("classes");
                assert!((got - want).abs() < 1e-12, "{why}: {got}, not {want}");
            }
            assert_eq!(average.support, pairs.len() as u64);
        }
        assert_eq!(Confusion::of(3, []).expect("nothing").macro_average().precision, None, "no class is there");
    }

    #[test]
    fn the_table_lines_up() {
        let confusion = Confusion::of(2, [(0, 0), (0, 1), (1, 1)]).expect("classes fit");
        let table = confusion.table(&["cat", "dog"]);
        let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
        assert!(table.contains("cat               100.0%   50.0%   66.7%       2"), "{table}");
    }

    #[test]
    fn the_matrix_lines_up_and_has_numbers_where_names_are_long() {
        let confusion = Confusion::of(2, [(0, 0), (0, 1), (1, 1), (1, 1)]).expect("classes fit");
        let words = |matrix: &str| -> Vec<Vec<String>> {
            let widths: Vec<usize> = matrix.lines().map(|line| line.chars().count()).collect();
            assert!(widths.iter().all(|width| *width == widths[0]), "{matrix}");
            matrix.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
        };
        let short = words(&confusion.matrix(&["cat", "dog"]));
        assert_eq!(short, [&["true", "\\", "predicted", "cat", "dog"][..], &["cat", "1", "1"], &["dog", "·", "2"]]);
        let long = words(&confusion.matrix(&["aeroplane", "automobile"]));
        let rows = [&["0", "aeroplane", "1", "1"][..], &["1", "automobile", "·", "2"]];
        assert_eq!(long, [&["true", "\\", "predicted", "0", "1"][..], rows[0], rows[1]]);
    }

    #[test]
    fn classes_that_do_not_exist_are_refused() {
        assert!(Confusion::of(2, [(0, 2)]).is_err());
        assert!(Confusion::of(2, [(2, 0)]).is_err());
        assert_eq!(Confusion::of(0, []).expect("nothing").accuracy(), 0.0);
    }
}
