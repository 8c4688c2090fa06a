//! A checkpoint: everything needed to resume a run bit-identically, in one file.
//!
//! It is a safetensors file, so other programs can read it: tensors `current/…` are the model, the optimizer's
//! states and the metrics of the epoch's batches so far, `best/…` is the best model so far. The rest (where the run
//! stands, what schedule and early stopping have seen, the run's settings) is JSON in the file's metadata, with a
//! checksum over everything, since safetensors has none. Random numbers need no state: each is a function of the seed
//! and of the number of the step.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Session;
use super::early_stop::{BestSoFar, EarlyStopState};
use crate::exec::{Snapshot, StateDict};
use crate::nn::weights;
use crate::schedule::PlateauState;
use crate::tensor::{Tensor, TensorData};
use crate::{Error, Result};

/// The format that this version writes and reads. It changes when an older reader would misunderstand a file.
const FORMAT: &str = "wgrad checkpoint 2";

const CURRENT: &str = "current/";
const BEST: &str = "best/";

/// Where [`fit`](super::fit) saves checkpoints, and how often.
#[derive(Clone, Debug)]
pub struct CheckpointOptions {
    /// The file. It is written whole at the end of every epoch and when training is interrupted.
    pub path: PathBuf,
    /// The interval between saves within an epoch.
    pub every: Duration,
    /// Anything to keep in the file, such as the run's settings as TOML; see [`Checkpoint::settings`].
    pub settings: String,
}

impl CheckpointOptions {
    /// Saves to `path` at the end of every epoch, and in long ones once a minute.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        CheckpointOptions { path: path.into(), every: Duration::from_secs(60), settings: String::new() }
    }
}

/// Where a run stands between two batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Completed epochs.
    pub epochs: u64,
    /// Completed batches of the epoch after those.
    pub batches: usize,
    /// How long those batches took, in seconds.
    pub train_seconds: f64,
    /// What the schedule's plateaus have seen.
    pub plateaus: Vec<PlateauState>,
    /// What early stopping has seen; `None` for a run without.
    pub early_stopping: Option<EarlyStopState>,
    /// The best epoch so far.
    pub best: BestSoFar,
    /// The training images, in a word: their number and a checksum.
    pub images: String,
}

impl RunState {
    /// Progress as text: "3 epochs and 2 batches".
    pub fn so_far(&self) -> String {
        crate::error::so_far(self.epochs, self.batches)
    }

    /// Checks that the session has the images that the run began with.
    ///
    /// # Errors
    /// [`Error::Setting`] where they are others.
    pub(crate) fn check_images(&self, session: &Session) -> Result<()> {
        if self.images == session.fingerprint() {
            return Ok(());
        }
        let expected = format!("{}, which the run began with", self.images);
        Err(Error::setting("training images", expected, session.fingerprint()))
    }
}

/// A run between two batches.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Where it stands.
    pub state: RunState,
    /// What the device holds.
    pub snapshot: Snapshot,
    /// What [`CheckpointOptions::settings`] gave it to keep.
    pub settings: String,
}

/// What a checkpoint holds beside tensors.
#[derive(Serialize, Deserialize)]
struct Metadata {
    format: String,
    /// CRC-32 of everything else.
    checksum: String,
    state: RunState,
    settings: String,
}

/// What every version can read of another's metadata.
#[derive(Deserialize)]
struct Header {
    format: String,
}

impl Checkpoint {
    /// Writes the file, in place of one that is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let named = |prefix: &'static str, dict: &StateDict| -> Vec<(String, Tensor)> {
            dict.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())).collect()
        };
        let mut tensors = StateDict::new();
        tensors.extend(named(CURRENT, &self.snapshot.current));
        tensors.extend(named(BEST, &self.snapshot.kept));
        let checksum = checksum(&tensors, &self.state, &self.settings);
        let (format, state, settings) = (FORMAT.to_owned(), self.state.clone(), self.settings.clone());
        let metadata = json(&Metadata { format, checksum, state, settings });
        weights::write(path, &tensors, metadata)
    }

    /// Reads a file that [`Checkpoint::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] where the file is no checkpoint, of another version, or damaged.
    pub fn load(path: &Path) -> Result<Checkpoint> {
        Checkpoint::from_bytes(path, &weights::read_bytes(path)?)
    }

    /// [`Checkpoint::load`] from bytes already in memory; `path` is for messages only. Errors as there.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Checkpoint> {
        let (tensors, metadata) = weights::parse(path, bytes)?;
        let damaged = |got: String| Error::data(path, "a whole checkpoint", got);
        let metadata = metadata.ok_or_else(|| damaged("a safetensors file without a run's state".to_owned()))?;
        let Header { format } = serde_json::from_str(&metadata)
            .map_err(|_| damaged("a safetensors file whose metadata is not a run's state".to_owned()))?;
        if format != FORMAT {
            return Err(Error::data(path, format!("\"{FORMAT}\", which this version reads"), format!("\"{format}\"")));
        }
        let Metadata { checksum: expected, state, settings, .. } = serde_json::from_str(&metadata)
            .map_err(|error| damaged(format!("a run's state that is damaged: {error}")))?;
        let got = checksum(&tensors, &state, &settings);
        if got != expected {
            return Err(damaged(format!("one that was altered: its checksum is {got} instead of {expected}")));
        }
        let part = |prefix: &str| -> StateDict {
            let strip =
                |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()));
            tensors.iter().filter_map(strip).collect()
        };
        Ok(Checkpoint { state, snapshot: Snapshot { current: part(CURRENT), kept: part(BEST) }, settings })
    }
}

/// CRC-32 over names, shapes and elements of all tensors, and the rest.
fn checksum(tensors: &StateDict, state: &RunState, settings: &str) -> String {
    let mut hasher = crc32fast::Hasher::new();
    for (name, tensor) in tensors {
        hasher.update(name.as_bytes());
        hasher.update(tensor.ty().to_string().as_bytes());
        match tensor.data() {
            TensorData::F32(values) => hasher.update(bytemuck::cast_slice(values)),
            TensorData::F64(values) => hasher.update(bytemuck::cast_slice(values)),
            TensorData::U32(values) => hasher.update(bytemuck::cast_slice(values)),
            TensorData::U8(values) => hasher.update(values),
        }
    }
    hasher.update(json(state).as_bytes());
    hasher.update(settings.as_bytes());
    format!("{:08x}", hasher.finalize())
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a state has string keys and JSON has a form for all its values")
}
