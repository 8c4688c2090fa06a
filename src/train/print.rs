//! Epochs as text: the rows of a table, and the observer that prints them.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use super::{EpochReport, Event, Observer};
use crate::{Error, Result};

impl EpochReport {
    /// What stands above the reports of a run, printed one below the other.
    pub const HEADER: &'static str = "epoch  train loss  train acc  val loss  val acc        lr   images/s";
}

impl fmt::Display for EpochReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EpochReport { epoch, train_loss, train_accuracy, val_loss, val_accuracy, lr, images_per_second, is_best } =
            self;
        // Four digits tell learning rates apart.
        let lr: f64 = format!("{lr:.3e}").parse().unwrap_or(*lr);
        let [train_accuracy, val_accuracy] =
            [train_accuracy, val_accuracy].map(|share| format!("{:.2}%", 100.0 * share));
        let best = if *is_best { "  best" } else { "" };
        write!(
            f,
            "{epoch:>5}  {train_loss:>10.4}  {train_accuracy:>9}  {val_loss:>8.4}  {val_accuracy:>7}  {:>8}  {:>9}{best}",
            // Unlike `Display`, `Debug` writes very small numbers with an exponent.
            format!("{lr:?}"),
            grouped(*images_per_second),
        )
    }
}

/// A number without its fraction, with a comma between groups of three digits.
fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let comma = |index: usize| index > 0 && (digits.len() - index).is_multiple_of(3);
    let parts = digits.chars().enumerate().map(
        |(index, digit)| {
            if comma(index) { format!(",{digit}") } else { digit.to_string() }
        },
    );
    parts.collect()
}

/// An observer that prints a row for each epoch, and what else there is to say of the run: for
/// [`fit`](super::fit()), which prints nothing of its own accord.
///
/// ```text
/// epoch  train loss  train acc  val loss  val acc        lr   images/s
///     1      0.7587     71.68%    0.4353   84.43%      0.01     20,355  best
/// ```
#[derive(Debug)]
pub struct PrintEpochs<W = io::Stdout> {
    writer: W,
    has_header: bool,
}

impl PrintEpochs {
    /// To standard output.
    pub fn new() -> Self {
        PrintEpochs::to(io::stdout())
    }
}

impl Default for PrintEpochs {
    fn default() -> Self {
        PrintEpochs::new()
    }
}

impl<W: Write> PrintEpochs<W> {
    /// To a file or a buffer.
    pub fn to(writer: W) -> Self {
        PrintEpochs { writer, has_header: false }
    }

    /// A pipe that nobody reads any more does not end training.
    fn line(&mut self, text: impl fmt::Display) -> Result<()> {
        match writeln!(self.writer, "{text}").and_then(|()| self.writer.flush()) {
            Err(source) if source.kind() != ErrorKind::BrokenPipe => {
                Err(Error::Io { action: "write", path: "the epochs' output".into(), source })
            }
            _ => Ok(()),
        }
    }
}

impl<W: Write> Observer for PrintEpochs<W> {
    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        if !self.has_header {
            self.has_header = true;
            self.line(EpochReport::HEADER)?;
        }
        self.line(report)
    }

    fn event(&mut self, event: &Event) {
        // What is wrong with the output shows at the next epoch.
        self.line(event).unwrap_or_default();
    }

    fn warn(&mut self, message: &str) {
        self.line(format_args!("warning: {message}")).unwrap_or_default();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;

    #[test]
    fn epochs_events_and_warnings_are_lines_under_one_header() {
        let report = EpochReport {
            epoch: 1,
            train_loss: 0.75868,
            train_accuracy: 0.71678,
            val_loss: 0.43532,
            val_accuracy: 0.84433,
            lr: 0.1f64.powi(5),
            images_per_second: 1_020_355.4,
            is_best: true,
        };
        let mut text = Vec::new();
        let mut printer = PrintEpochs::to(&mut text);
        printer.epoch(&report).unwrap();
        printer.event(&Event::RateReduced { epoch: 1, lr: 0.001 });
        printer.epoch(&EpochReport { epoch: 2, is_best: false, images_per_second: 999.0, ..report }).unwrap();
        printer.warn("fc1 died");
        let want = "\
epoch  train loss  train acc  val loss  val acc        lr   images/s
    1      0.7587     71.68%    0.4353   84.43%      1e-5  1,020,355  best
learning rate reduced to 0.001 after epoch 1
    2      0.7587     71.68%    0.4353   84.43%      1e-5        999
warning: fc1 died
";
        assert_eq!(String::from_utf8(text).unwrap(), want);
    }
}
