//! Output for people and scripts: results on standard output, problems on standard error. A closed pipe
//! (`lenet plan | head -1`) is not an error: further output is dropped, and a run continues to its end.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};
use serde::{Serialize, Serializer};
use wgrad::train::{EpochReport, Event};
use wgrad::{Error, Result};

use crate::bars;

/// Prints a line. Control characters in it, which names of files and classes may have, come out as `\u{1b}`: a terminal
/// would obey them.
///
/// # Errors
/// [`Error::Io`] where standard output takes no more, except that nobody reads it.
pub fn line(text: impl Display) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", escaped(&text.to_string(), |c| c != '\n')).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::Io { action: "write", path: "standard output".into(), source: error })
        }
        _ => Ok(()),
    }
}

/// Prints a JSON object on a line of its own.
///
/// # Errors
/// As [`line()`].
pub fn json(object: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(object).map_err(io::Error::from);
    line(text.map_err(|source| Error::Io { action: "write", path: "the result as JSON".into(), source })?)
}

/// Writes a path as a text in JSON, for `serialize_with`; what of it is not UTF-8 becomes �, as where it is printed.
pub fn path<S: Serializer>(path: &impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.as_ref().display())
}

/// A name as it is printed, without control characters.
pub fn printable(name: impl Display) -> String {
    escaped(&name.to_string(), |_| true)
}

fn escaped(text: &str, escapes: impl Fn(char) -> bool) -> String {
    let mut printed = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && escapes(c) {
            true => printed.extend(c.escape_default()),
            false => printed.push(c),
        }
    }
    printed
}

/// On which side the words of a table's column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// Prints rows in columns that are as wide as what they hold.
///
/// # Errors
/// As [`line()`].
pub fn table<const N: usize>(sides: [Side; N], rows: &[[String; N]]) -> Result<()> {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(printable)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(sides).zip(widths).map(|((text, side), width)| match side {
            Side::Left => format!("{text:<width$}"),
            Side::Right => format!("{text:>width$}"),
        });
        line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Prints a message on standard error. Failure to do so is ignored.
pub fn complain(kind: &str, message: &str) {
    let _ = writeln!(io::stderr(), "{kind}: {}", escaped(message, |c| c != '\n'));
}

/// How much is shown while training runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The table of epochs and, on a terminal, how far the current one is.
    Full,
    /// The result.
    Quiet,
    /// The reports as JSON.
    Json,
}

/// The table of epochs with a progress bar below it.
pub struct Console {
    detail: Detail,
    /// The bar of the current epoch; hidden unless standard output is a terminal.
    bar: ProgressBar,
    /// The epoch that the bar is of.
    epoch: u64,
    num_epochs: u64,
    has_header: bool,
}

impl Console {
    /// A console for a run of at most `num_epochs`.
    pub fn new(detail: Detail, num_epochs: u64) -> Console {
        Console { detail, bar: ProgressBar::hidden(), epoch: 0, num_epochs, has_header: false }
    }

    /// How much it shows.
    pub fn detail(&self) -> Detail {
        self.detail
    }

    /// Prints something about the run that is neither an epoch nor the result.
    ///
    /// # Errors
    /// As [`line()`].
    pub fn info(&self, text: impl Display) -> Result<()> {
        if self.detail == Detail::Full { line(text) } else { Ok(()) }
    }

    /// Shows how far the epoch is.
    pub fn progress(&mut self, epoch: u64, images_done: usize, images: usize) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.bar = self.new_bar(images);
        }
        // A count of images in memory.
        self.bar.set_position(images_done as u64);
    }

    /// Adds the epoch's row to the table.
    ///
    /// # Errors
    /// As [`line()`].
    pub fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.bar.finish_and_clear();
        match self.detail {
            Detail::Quiet => Ok(()),
            Detail::Json => json(report),
            Detail::Full => {
                if !self.has_header {
                    self.has_header = true;
                    line(EpochReport::HEADER)?;
                }
                line(report)
            }
        }
    }

    /// Says what the run has done to its own course.
    pub fn event(&self, event: &Event) {
        if self.detail == Detail::Full {
            // A reader that has gone away ends no run, and what else is wrong with the output shows at the next epoch.
            self.bar.suspend(|| line(event).unwrap_or_default());
        }
    }

    /// Says something that the user should know.
    pub fn warn(&self, message: &str) {
        self.bar.suspend(|| complain("warning", message));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn new_bar(&self, images: usize) -> ProgressBar {
        if self.detail != Detail::Full || !io::stdout().is_terminal() {
            return ProgressBar::hidden();
        }
        let started = Instant::now();
        let rate = move |state: &ProgressState, f: &mut dyn std::fmt::Write| {
            // Nothing can be done about a terminal that takes no text.
            let _ = write!(f, "{}", HumanCount(images_per_second(state.pos(), started)));
        };
        let style = ProgressStyle::with_template(
            "epoch {prefix}  {bar:24}  {human_pos} of {human_len} images  {rate} images/s  {eta} left",
        );
        let style = style.expect("the template is a constant that tests show").with_key("rate", rate);
        let bar = ProgressBar::with_draw_target(Some(images as u64), bars::target()).with_style(style);
        bar.with_prefix(format!("{} of {}", self.epoch, self.num_epochs))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A share as people read it.
pub fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

/// A number of things as people read it.
pub fn count(number: usize) -> HumanCount {
    HumanCount(number as u64)
}

/// The same of a number that is counted in 64 bits.
pub fn big_count(number: u64) -> HumanCount {
    HumanCount(number)
}

/// A number to four digits, without those that say nothing.
pub fn short(number: f64) -> String {
    let rounded: f64 = format!("{number:.3e}").parse().unwrap_or(number);
    // Unlike `Display`, this writes very large and very small numbers with an exponent.
    format!("{rounded:?}")
}

fn images_per_second(images: u64, started: Instant) -> u64 {
    let seconds = started.elapsed().as_secs_f64();
    // Both far below 2^53.
    if seconds > 0.0 { (images as f64 / seconds) as u64 } else { 0 }
}
