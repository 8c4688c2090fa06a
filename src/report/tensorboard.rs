//! Event files that TensorBoard reads: TFRecord frames around `Event` messages (tensorflow/core/util/event.proto and
//! tensorflow/core/framework/summary.proto), encoded by hand, since five messages do not need a protobuf compiler.
//!
//! Unlike other files of a run they are appended to: TensorBoard follows an open file during training, and its
//! frames carry checksums, so that a truncated end is recognised and skipped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use web_time::{SystemTime, UNIX_EPOCH};

use super::picture::Picture;
use crate::ops::histogram_edges;
use crate::train::{DiagnosticKind, DiagnosticRow, DiagnosticsReport, EpochReport};
use crate::{Error, Result, files};

/// Writes one event file.
#[derive(Debug)]
pub struct EventWriter {
    file: files::Appended,
    path: PathBuf,
}

impl EventWriter {
    /// A writer for a run that resumes at `step`: TensorBoard then ignores later steps in the folder's older files.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume(folder: &Path, step: u64) -> Result<EventWriter> {
        let mut writer = EventWriter::create(folder)?;
        writer.append(&event(now(), step, Field::SessionStart))?;
        Ok(writer)
    }

    /// Makes `<folder>/events.out.tfevents.<seconds>.<process>.wgrad`, and the folder where it is missing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: &Path) -> Result<EventWriter> {
        files::create_dir_all(folder).map_err(Error::io("create", folder))?;
        // A whole number of seconds, as TensorBoard's own writers name files; the process keeps runs apart.
        let name = format!("events.out.tfevents.{:.0}.{}.wgrad", now().floor(), files::process_id());
        let mut path = folder.join(&name);
        for attempt in 2.. {
            match files::append_to_new(&path) {
                Ok(file) => {
                    let mut writer = EventWriter { file, path };
                    writer.append(&event(now(), 0, Field::Version))?;
                    return Ok(writer);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    path = folder.join(format!("{name}.{attempt}"));
                }
                Err(error) => return Err(Error::io("create", &path)(error)),
            }
        }
        unreachable!("attempts continue until one ends the loop")
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number at a step, such as `loss/train` at an epoch. TensorBoard groups tags by what stands before the slash.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        let mut summary = Message::default();
        // Narrowing: the format holds 32-bit floats.
        summary.float(2, value as f32);
        self.append(&event(now(), step, Field::Summary(tag, summary)))
    }

    /// The distribution of numbers at a step. Those that are not finite are left out; where none is finite, nothing is
    /// written.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn histogram(&mut self, tag: &str, step: u64, values: &[f32]) -> Result<()> {
        self.append_histogram(tag, step, histogram(values))
    }

    fn append_histogram(&mut self, tag: &str, step: u64, histogram: Option<Message>) -> Result<()> {
        let Some(histogram) = histogram else { return Ok(()) };
        let mut summary = Message::default();
        summary.message(5, &histogram);
        self.append(&event(now(), step, Field::Summary(tag, summary)))
    }

    /// A picture at a step.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn image(&mut self, tag: &str, step: u64, picture: &Picture) -> Result<()> {
        let mut image = Message::default();
        image.varint(1, u64::from(picture.height()));
        image.varint(2, u64::from(picture.width()));
        // Colour space 3 is RGB.
        image.varint(3, 3);
        image.bytes(4, &picture.png());
        let mut summary = Message::default();
        summary.message(4, &image);
        self.append(&event(now(), step, Field::Summary(tag, summary)))
    }

    /// Losses, accuracies, learning rate and speed of an epoch.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        let scalars = [
            ("loss/train", report.train_loss),
            ("loss/validation", report.val_loss),
            ("accuracy/train", report.train_accuracy),
            ("accuracy/validation", report.val_accuracy),
            ("learning_rate", report.lr),
            ("images_per_second", report.images_per_second),
        ];
        scalars.into_iter().try_for_each(|(tag, value)| self.scalar(tag, report.epoch, value))
    }

    /// The diagnostics at the end of an epoch: gradient norms, update-to-weight ratios, shares of dead units, means and
    /// standard deviations of activations, and histograms of parameters and gradients if there are any.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn diagnostics(&mut self, epoch: u64, report: &DiagnosticsReport) -> Result<()> {
        self.scalar("gradient_norm/all", epoch, report.gradient_norm())?;
        for row in &report.rows {
            let DiagnosticRow { kind, name, summary, histogram } = row;
            match kind {
                DiagnosticKind::Gradient => self.scalar(&format!("gradient_norm/{name}"), epoch, summary.l2_norm)?,
                DiagnosticKind::Unit => self.scalar(&format!("dead_units/{name}"), epoch, summary.zeros)?,
                DiagnosticKind::Activation => {
                    self.scalar(&format!("activation_mean/{name}"), epoch, summary.mean)?;
                    self.scalar(&format!("activation_std/{name}"), epoch, summary.std)?;
                }
                DiagnosticKind::Parameter => {
                    if let Some(ratio) = report.update_ratio(name) {
                        self.scalar(&format!("update_ratio/{name}"), epoch, ratio)?;
                    }
                }
                DiagnosticKind::Images | DiagnosticKind::Loss | DiagnosticKind::Update => {}
            }
            if let Some(counts) = histogram {
                let group = if *kind == DiagnosticKind::Gradient { "gradients" } else { "weights" };
                self.append_histogram(&format!("{group}/{name}"), epoch, counted_histogram(counts, row))?;
            }
        }
        Ok(())
    }

    /// Sees that what was written is on the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("write", &self.path))
    }

    fn append(&mut self, event: &Message) -> Result<()> {
        // One write per frame: a concurrent reader sees at most one truncated frame.
        self.file.write_all(&record(&event.bytes)).map_err(Error::io("write", &self.path))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A TFRecord frame: the length in 8 bytes, its checksum, the data, its checksum, all little endian.
pub(super) fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut frame = Vec::with_capacity(data.len() + 16);
    frame.extend(length);
    frame.extend(masked_crc(&length).to_le_bytes());
    frame.extend(data);
    frame.extend(masked_crc(data).to_le_bytes());
    frame
}

/// The checksum as TFRecord stores it: turned right by 15 bits, plus a constant, so that data which contains its own
/// checksum does not weaken it (tensorflow/core/lib/hash/crc32c.h).
pub(super) fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli): the reflected polynomial 0x82f63b78, as iSCSI uses it (RFC 3720, B.4).
pub(super) fn crc32c(data: &[u8]) -> u32 {
    static TABLE: LazyLock<[u32; 256]> = LazyLock::new(|| {
        std::array::from_fn(|byte| {
            // An index of 256 entries fits a byte.
            (0..8).fold(byte as u32, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
        })
    });
    !data.iter().fold(!0, |crc, byte| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

/// A protobuf message under construction.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            // The low seven bits, with the bit that says more follow.
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.raw_varint(field << 3 | wire_type);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.bytes.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.bytes.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.raw_varint(bytes.len() as u64);
        self.bytes.extend(bytes);
    }

    fn message(&mut self, field: u64, message: &Message) {
        self.bytes(field, &message.bytes);
    }

    fn packed_doubles(&mut self, field: u64, values: &[f64]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(field, &bytes);
    }
}

enum Field<'a> {
    /// What every file starts with.
    Version,
    /// The event that a run resumes at this step.
    SessionStart,
    /// A value under a tag.
    Summary(&'a str, Message),
}

/// `Event { wall_time = 1, step = 2, file_version = 3 | summary = 5 | session_log = 7 }`; a summary holds values (1), a
/// value its tag (1).
fn event(wall_time: f64, step: u64, field: Field<'_>) -> Message {
    let mut event = Message::default();
    event.double(1, wall_time);
    event.varint(2, step);
    match field {
        Field::Version => event.bytes(3, b"brain.Event:2"),
        Field::SessionStart => {
            // SessionLog.status (1) is START (1).
            let mut log = Message::default();
            log.varint(1, 1);
            event.message(7, &log);
        }
        Field::Summary(tag, content) => {
            let mut value = Message::default();
            value.bytes(1, tag.as_bytes());
            value.bytes.extend(content.bytes);
            let mut summary = Message::default();
            summary.message(1, &value);
            event.message(5, &summary);
        }
    }
    event
}

/// `HistogramProto { min = 1, max = 2, num = 3, sum = 4, sum_squares = 5, bucket_limit = 6, bucket = 7 }` with 60
/// buckets of equal width: TensorBoard draws about 30 of its own from them.
fn histogram(values: &[f32]) -> Option<Message> {
    const BUCKETS: usize = 60;
    let finite = || values.iter().filter(|value| value.is_finite()).map(|&value| f64::from(value));
    let (min, max) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), v| (min.min(v), max.max(v)));
    if min > max {
        return None;
    }
    // A constant has one bucket with room on both sides.
    let width = if max > min { (max - min) / BUCKETS as f64 } else { min.abs().max(1.0) * 1e-3 };
    let (start, count) = if max > min { (min, BUCKETS) } else { (min - width / 2.0, 1) };
    let mut buckets = vec![0.0; count];
    for value in finite() {
        buckets[(((value - start) / width) as usize).min(count - 1)] += 1.0;
    }
    let mut limits: Vec<f64> = (1..=count).map(|bucket| start + width * bucket as f64).collect();
    // The first limit is where the first bucket starts: a bucket lies between its limit and the one before.
    limits.insert(0, start);
    buckets.insert(0, 0.0);
    let mut message = Message::default();
    message.double(1, min);
    message.double(2, max);
    message.double(3, finite().count() as f64);
    message.double(4, finite().sum());
    message.double(5, finite().map(|value| value * value).sum());
    message.packed_doubles(6, &limits);
    message.packed_doubles(7, &buckets);
    Some(message)
}

/// A histogram that the device counted, without the empty bins at its ends.
fn counted_histogram(counts: &[u64], row: &DiagnosticRow) -> Option<Message> {
    let (first, last) = (counts.iter().position(|&count| count > 0)?, counts.iter().rposition(|&count| count > 0)?);
    let (summary, edges) = (&row.summary, histogram_edges());
    let num_finite = (summary.num_elems - summary.num_non_finite) as f64;
    // As in `histogram`, the first limit is where the first bin starts. The outermost bins end at f32's range.
    let within = |edge: f64| edge.clamp(summary.min, summary.max);
    let mut limits = vec![within(edges[first])];
    limits.extend(edges[first + 1..=last + 1].iter().map(|&edge| within(edge)));
    let mut buckets = vec![0.0];
    buckets.extend(counts[first..=last].iter().map(|&count| count as f64));
    let mut message = Message::default();
    message.double(1, summary.min);
    message.double(2, summary.max);
    message.double(3, num_finite);
    message.double(4, summary.mean * num_finite);
    message.double(5, summary.l2_norm * summary.l2_norm);
    message.packed_doubles(6, &limits);
    message.packed_doubles(7, &buckets);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4, and the check value of the CRC catalogue.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn varints_are_those_of_the_protobuf_manual() {
        let mut message = Message::default();
        message.varint(1, 150);
        assert_eq!(message.bytes, [0x08, 0x96, 0x01]);
        message.bytes(2, b"testing");
        assert_eq!(&message.bytes[3..], b"\x12\x07testing");
    }

    #[test]
    fn a_histogram_counts_every_finite_number() {
        assert!(histogram(&[]).is_none());
        assert!(histogram(&[f32::NAN, f32::INFINITY]).is_none());
        assert!(histogram(&[2.0, 2.0]).is_some());
    }
}
