//! What the device's table of metrics says once it has been read.

use crate::ops::data::metrics::COLUMNS;

/// Loss and accuracy over a set of images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// The mean loss an image: a short last batch counts by its size.
    pub loss: f64,
    /// The share of images whose largest logit is their label's, 0 to 1.
    pub accuracy: f64,
    /// Logits that were infinite or NaN.
    pub num_non_finite: u64,
    /// The first batch, counted from 0, with such a logit or loss.
    pub first_non_finite: Option<usize>,
    /// Images seen.
    pub num_images: u64,
}

impl Metrics {
    /// Sums up rows (loss · N, correct, non-finite, N), one for each batch.
    pub(crate) fn from_rows(rows: &[f64]) -> Metrics {
        let rows: Vec<&[f64]> = rows.chunks_exact(COLUMNS).collect();
        let total = |column: usize| rows.iter().map(|row| row[column]).sum::<f64>();
        let num_images = total(3);
        Metrics {
            loss: total(0) / num_images,
            accuracy: total(1) / num_images,
            // Counts are whole numbers far below 2^53.
            num_non_finite: total(2) as u64,
            first_non_finite: rows.iter().position(|row| !row[0].is_finite() || row[2] > 0.0),
            num_images: num_images as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_last_batch_counts_by_its_size() {
        let metrics = Metrics::from_rows(&[64.0 * 2.0, 32.0, 0.0, 64.0, 16.0 * 1.0, 16.0, 0.0, 16.0]);
        assert_eq!(metrics.loss, (128.0 + 16.0) / 80.0);
        assert_eq!(metrics.accuracy, 48.0 / 80.0);
        assert_eq!((metrics.first_non_finite, metrics.num_images), (None, 80));
    }

    #[test]
    fn the_first_batch_that_is_not_finite_is_named() {
        let metrics = Metrics::from_rows(&[1.0, 1.0, 0.0, 1.0, f64::NAN, 0.0, 10.0, 1.0, f64::NAN, 0.0, 10.0, 1.0]);
        assert_eq!((metrics.first_non_finite, metrics.num_non_finite), (Some(1), 20));
    }
}
