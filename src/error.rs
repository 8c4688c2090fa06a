//! The library's one error type. Every variant says what was expected, what came instead and, where the message
//! alone does not make it plain, what to do. Nothing in the library panics on wrong input.

use std::path::{Path, PathBuf};

/// What the library's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong through no fault of the library's own. Its [`Debug`](std::fmt::Debug) is the message, since
/// that is what a program whose `main` returns a [`Result`] ends with.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation was given operands it cannot take: shapes, axes, data types or attributes.
    #[error("{op}: expected {expected}, got {got}")]
    Operand {
        /// The operation, by the name it has in plans and kernel labels.
        op: String,
        /// What the operation takes.
        expected: String,
        /// What it was given.
        got: String,
    },

    /// A name is not among a graph's or program's inputs, states, scalars or outputs.
    #[error("no {kind} is called \"{name}\"; there is: {}", list(known))]
    UnknownName {
        /// "input", "state", "scalar", "output" or "entry".
        kind: &'static str,
        /// The requested name.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },

    /// A name was declared twice with meanings that differ.
    #[error("\"{name}\" is declared twice: {first} and {second}; give one of them another name")]
    NameClash {
        /// The name.
        name: String,
        /// The first declaration.
        first: String,
        /// The second declaration.
        second: String,
    },

    /// A named tensor does not fit its destination: wrong shape or data type, or missing.
    #[error("tensor \"{name}\": expected {expected}, got {got}")]
    State {
        /// The tensor's name.
        name: String,
        /// The shape and data type of the destination.
        expected: String,
        /// What was offered.
        got: String,
    },

    /// A setting lies outside what it may be. The command line ends with exit code 2 on this.
    #[error("{setting}: expected {expected}, got {got}")]
    Setting {
        /// The setting, by its name in files (`optimizer.momentum`) or in the function's arguments.
        setting: String,
        /// What the setting takes.
        expected: String,
        /// What it was given.
        got: String,
    },

    /// A file of a data set or of weights does not hold what its format promises.
    #[error("{}: expected {expected}, got {got}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What the format requires.
        expected: String,
        /// What the file holds.
        got: String,
    },

    /// No mirror gave the whole of a file.
    #[error(
        "cannot download {file}\n  {}\nTry again later (what has come is kept) or from another mirror, or get the data set's files \
         elsewhere and put them into {}",
        attempts.join("\n  "),
        folder.display()
    )]
    Download {
        /// The file's name.
        file: String,
        /// Every URL that was tried, with its last result.
        attempts: Vec<String>,
        /// The folder that the files belong in.
        folder: PathBuf,
    },

    /// The operating system refused to read or write a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// "read", "write", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// No adapter was found, or none matches the request.
    #[error(
        "no GPU adapter matches \"{wanted}\"; found: {}. Use the CPU, or install a Vulkan, Metal or DirectX 12 driver",
        list(found)
    )]
    NoAdapter {
        /// The requested device.
        wanted: String,
        /// The adapters there are.
        found: Vec<String>,
    },

    /// A program needs more than the device allows.
    #[error("{what} needs {needed} {limit_name}, and {device} allows {limit}; {advice}")]
    Limit {
        /// The tensor, kernel or data set.
        what: String,
        /// How much it needs.
        needed: u64,
        /// How much the device allows.
        limit: u64,
        /// The limit's name and unit, such as "bytes in one binding".
        limit_name: &'static str,
        /// The adapter.
        device: String,
        /// What to change.
        advice: &'static str,
    },

    /// The host has no memory left for what a program needs.
    #[error("there is no memory for {needed} more bytes of {what}; {advice}")]
    Memory {
        /// The tensor, or what the program keeps.
        what: String,
        /// How much it needs, beyond what it has.
        needed: u64,
        /// What to change.
        advice: &'static str,
    },

    /// A kernel was rejected when its pipeline was made.
    #[error("kernel {kernel} was rejected by {adapter}: {message}")]
    Kernel {
        /// The kernel's label, `op.entry_point`.
        kernel: String,
        /// The adapter's name.
        adapter: String,
        /// What the driver or the shader compiler said.
        message: String,
    },

    /// The device stopped answering.
    #[error(
        "the device {adapter} was lost during {during}: {reason}; what was saved before is intact, start again from it or use the CPU"
    )]
    DeviceLost {
        /// The adapter's name.
        adapter: String,
        /// The operation in progress.
        during: String,
        /// What the driver said.
        reason: String,
    },

    /// An operation has no implementation for this device.
    #[error("{op} cannot run on {device}: {reason}")]
    Unsupported {
        /// The operation.
        op: String,
        /// The device.
        device: String,
        /// Why, and what to do.
        reason: String,
    },

    /// Another of the processes that work together has failed.
    #[error("rank {rank}: {message}")]
    Rank {
        /// The process, counted from 0.
        rank: usize,
        /// What it met.
        message: String,
    },

    /// Training produced a loss, a gradient or a weight that is infinite or not a number.
    #[error(
        "the {what} is not finite in epoch {epoch}, step {step}{}; lower the learning rate (it was {lr:?}), or check the input data",
        layer.as_ref().map_or(String::new(), |layer| format!(", first in {layer}"))
    )]
    NonFinite {
        /// "training loss", "validation loss", "norm of the gradients" or "norm of the weights".
        what: &'static str,
        /// The epoch, counted from 1.
        epoch: usize,
        /// The first step of the epoch with such a value, counted from 1; of weights and gradients, which are checked
        /// once an epoch, the epoch's last.
        step: usize,
        /// The learning rate of that step.
        lr: f64,
        /// The first tensor on the way from images to gradients that is not finite, such as "activation conv2 of step
        /// 7", if the session records diagnostics.
        layer: Option<String>,
    },

    /// Training was asked to stop before its end.
    #[error(
        "training was interrupted after {}; {}",
        so_far(*epochs, *batches),
        saved.as_ref().map_or("it is not saved".to_owned(), |path| format!("it is saved in {}", path.display()))
    )]
    Interrupted {
        /// Epochs that were done.
        epochs: u64,
        /// Completed batches of the epoch after those.
        batches: usize,
        /// The checkpoint to resume from.
        saved: Option<PathBuf>,
    },
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Error {
    pub(crate) fn operand(op: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Error::Operand { op: op.into(), expected: expected.into(), got: got.into() }
    }

    pub(crate) fn memory(what: impl Into<String>, needed: usize) -> Self {
        let advice = "use a smaller batch or network, or a machine with more memory";
        Error::Memory { what: what.into(), needed: needed as u64, advice }
    }

    pub(crate) fn setting(
        setting: impl Into<String>,
        expected: impl Into<String>,
        got: impl std::fmt::Display,
    ) -> Self {
        Error::Setting { setting: setting.into(), expected: expected.into(), got: got.to_string() }
    }

    pub(crate) fn data(path: &Path, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Error::Data { path: path.to_owned(), expected: expected.into(), got: got.into() }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }

    /// Whether the mistake is in how a command was called (exit code 2) rather than in what it met (exit code 1).
    pub fn is_usage(&self) -> bool {
        matches!(self, Error::Setting { .. })
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Progress as text: whole epochs, and batches of the next.
pub(crate) fn so_far(epochs: u64, batches: usize) -> String {
    let count = |number: u64, one: &str, many: &str| match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    };
    let batches = batches as u64;
    match (epochs, batches) {
        (0, 1..) => count(batches, "batch", "batches"),
        (_, 0) => count(epochs, "epoch", "epochs"),
        (_, _) => format!("{} and {}", count(epochs, "epoch", "epochs"), count(batches, "batch", "batches")),
    }
}

/// Names as a choice between them: "adam, adamw or lion".
pub fn alternatives(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.as_slice() {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}
