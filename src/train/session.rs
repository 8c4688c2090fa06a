//! A model on a device, with the data it is trained and judged on: the graphs of a training step and of evaluation,
//! compiled together so that they share the weights, and the data sets resident beside them.
//!
//! A last batch that is shorter has graphs of its own, of exactly its size. So every op means what it says (a mean is
//! over the batch, batch statistics are of the batch) and no kernel has to know of rows that do not count.

use std::time::{Duration, Instant};

use super::metrics::Metrics;
use crate::data::{ChannelStats, DataLoader, Dataset};
use crate::exec::{Device, MODEL_KINDS, Program, StateDict, StepTable};
use crate::graph::Graph;
use crate::graph::plan::Plan;
use crate::nn::{Mode, Model};
use crate::ops::metrics::COLUMNS;
use crate::ops::{BatchSource, CrossEntropy, GatherBatch};
use crate::optim::Optimizer;
use crate::tensor::{DType, Tensor, TensorType};
use crate::{Error, Result};

/// The least binding that every WebGPU device takes; a data set beyond it lies in two.
const MAX_SHARD_BYTES: usize = 128 << 20;

/// The state that batches write their metrics to.
const TABLE: &str = "metrics";

/// What a session is made of.
pub struct SessionOptions<'a> {
    /// The network.
    pub model: &'a dyn Model,
    /// The images to learn from.
    pub train: &'a Dataset,
    /// The images that decide which weights are best; `None` takes the test images.
    pub validation: Option<&'a Dataset>,
    /// The images to judge the result by.
    pub test: &'a Dataset,
    /// Images in a step.
    pub batch_size: usize,
    /// Images in a step of evaluation.
    pub eval_batch_size: usize,
    /// What is subtracted from pixels, and what they are divided by.
    pub normalize: ChannelStats,
    /// How parameters follow their gradients.
    pub optimizer: Optimizer,
    /// Whether every epoch has an order of its own.
    pub shuffle: bool,
    /// The key of initial weights, orders and dropout.
    pub seed: u64,
}

/// Learning rate and, where a schedule cycles it, momentum of a step.
pub type Rates<'a> = &'a dyn Fn(u64) -> (f64, Option<f64>);

/// What one epoch gave.
#[derive(Clone, Copy, Debug)]
pub struct EpochMetrics {
    /// Over the training images, while the weights changed.
    pub train: Metrics,
    /// Over the validation images, under the weights at the end.
    pub validation: Metrics,
    /// How long training took, without validation.
    pub train_time: Duration,
}

/// One set of images on the device and the entries that go over it.
struct Part {
    name: &'static str,
    loader: DataLoader,
    /// The first row of the metrics table that its batches write.
    first_row: usize,
}

/// A model on a device. See the [module](self).
pub struct Session {
    program: Program,
    train: Part,
    validation: Part,
    test: Part,
    optimizer: Optimizer,
}

impl Part {
    fn new(name: &'static str, data: &Dataset, batch_size: usize, first_row: usize) -> Result<Part> {
        let size =
            |option: &str, size: usize| u32::try_from(size).map_err(|_| Error::config(option, "less than 2^32", size));
        let loader = DataLoader::new(size("images", data.len())?, size("--batch-size", batch_size)?)?;
        Ok(Part { name, loader, first_row })
    }

    fn num_rows(&self) -> usize {
        self.loader.num_batches() as usize
    }

    fn state(&self, what: &str) -> String {
        format!("{}.{what}", self.name)
    }

    /// The entries of whole batches and of the last one, as (name, batch size, first batch, batches); none is empty.
    fn entries(&self) -> Vec<(String, usize, usize, usize)> {
        let (images, batch) = (self.loader.num_images() as usize, self.loader.batch_size() as usize);
        let (whole, rest) = (images / batch, images % batch);
        let all = [(self.name.to_owned(), batch, 0, whole), (format!("{}.tail", self.name), rest, whole, 1)];
        all.into_iter().filter(|&(_, size, _, count)| size > 0 && count > 0).collect()
    }
}

impl Session {
    /// Builds the graphs, compiles them, puts the data on the device and draws initial weights.
    ///
    /// # Errors
    /// [`Error::Config`] for sizes that cannot be; [`Error::Operand`] where the model does not take the images;
    /// [`Error::Limit`] where a data set or a batch is too large for the device.
    pub fn new(device: &Device, options: &SessionOptions<'_>) -> Result<Session> {
        let mut train = Part::new("train", options.train, options.batch_size, 0)?;
        if options.shuffle {
            train.loader = train.loader.shuffled(options.seed);
        }
        let eval_row = train.num_rows();
        let test = Part::new("test", options.test, options.eval_batch_size, eval_row)?;
        let validation = match options.validation {
            Some(data) => Part::new("validation", data, options.eval_batch_size, eval_row)?,
            None => Part::new("test", options.test, options.eval_batch_size, eval_row)?,
        };
        let num_rows = eval_row + test.num_rows().max(validation.num_rows());
        let mut sets = vec![(&train, options.train), (&test, options.test)];
        sets.extend(options.validation.map(|data| (&validation, data)));
        let mut plans = Vec::new();
        for (part, data) in &sets {
            for (entry, batch_size, ..) in part.entries() {
                plans.push(plan(&entry, part, data, batch_size, num_rows, options)?);
            }
        }
        let mut program = Program::compile(device, plans, options.seed)?;
        for (part, data) in &sets {
            upload(&mut program, part, data)?;
        }
        // Also makes the memory that later copies go to.
        program.keep_model()?;
        Ok(Session { program, train, validation, test, optimizer: options.optimizer })
    }

    /// Trains on all images once and judges the validation images; one readback. `rates` is asked for every step,
    /// counted over all epochs from 0, and `progress` is told the number of training images done.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn run_epoch(&mut self, epoch: u64, rates: Rates<'_>, progress: &mut dyn FnMut(usize)) -> Result<EpochMetrics> {
        let order = self.train.loader.order(epoch);
        self.program.write(&self.train.state("order"), &Tensor::u32([order.len()], order)?)?;
        let started = Instant::now();
        let steps_before = epoch * u64::from(self.train.loader.num_batches());
        let optimizer = self.optimizer;
        for (entry, batch_size, first, count) in self.train.entries() {
            let mut table = batches(&self.train, batch_size, first, count)
                .column("step", |step| (steps_before + (first + step) as u64) as f64);
            for (place, (name, _)) in optimizer.step_scalars(0, 0.0, None).into_iter().enumerate() {
                table = table.column(name, |step| {
                    let step = steps_before + (first + step) as u64;
                    let (lr, momentum) = rates(step);
                    optimizer.step_scalars(step, lr, momentum)[place].1
                });
            }
            let done_before = first * self.train.loader.batch_size() as usize;
            let mut report = |steps: usize| progress(done_before + steps * batch_size);
            self.program.run_with_progress(&entry, &table, &mut report)?;
        }
        let train_time = started.elapsed();
        run_part(&mut self.program, &self.validation)?;
        let rows = self.program.read(TABLE)?.to_f64_vec();
        Ok(EpochMetrics {
            train: metrics_of(&rows, &self.train),
            validation: metrics_of(&rows, &self.validation),
            train_time,
        })
    }

    /// Judges the test images under the weights as they are.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn test(&mut self) -> Result<Metrics> {
        run_part(&mut self.program, &self.test)?;
        Ok(metrics_of(&self.program.read(TABLE)?.to_f64_vec(), &self.test))
    }

    /// Steps in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.train.num_rows()
    }

    /// Training images in an epoch.
    pub fn images_per_epoch(&self) -> usize {
        self.train.loader.num_visited() as usize
    }

    /// Losses of the steps of the last epoch, each the mean of its batch.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn step_losses(&mut self) -> Result<Vec<f64>> {
        let rows = self.program.read(TABLE)?.to_f64_vec();
        Ok(rows.chunks_exact(COLUMNS).take(self.train.num_rows()).map(|row| row[0] / row[3]).collect())
    }

    /// The model: parameters and running statistics.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn model(&mut self) -> Result<StateDict> {
        self.program.state_dict(&MODEL_KINDS)
    }

    /// Overwrites the model.
    ///
    /// # Errors
    /// [`Error::State`] where tensors are missing, unknown or of another shape; nothing is changed then.
    pub fn load_model(&mut self, model: &StateDict) -> Result<()> {
        self.program.load_state_dict(model, &MODEL_KINDS)
    }

    /// The program behind it.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// The plan of one entry: a training step, or evaluation of a batch.
fn plan(
    entry: &str,
    part: &Part,
    data: &Dataset,
    batch_size: usize,
    num_rows: usize,
    options: &SessionOptions<'_>,
) -> Result<Plan> {
    let mut graph = Graph::new(entry);
    let [channels, height, width] = data.shape;
    let mut images = Vec::new();
    for (index, len) in shards(data)?.into_iter().enumerate() {
        images.push(
            graph.input(&part.state(&format!("images.{index}")), TensorType::u8([len, channels, height, width]))?,
        );
    }
    let labels = graph.input(&part.state("labels"), TensorType::u32([data.len()]))?;
    let permutation = graph.input(&part.state("order"), TensorType::u32([data.len()]))?;
    let start = graph.scalar("start", DType::U32)?;
    let source = BatchSource { images: &images, labels, permutation, start, batch_size };
    let normalize = GatherBatch { mean: options.normalize.mean.clone(), std: options.normalize.std.clone() };
    let (images, labels) = graph.gather_batch(normalize, source)?;
    let is_training = part.name == "train";
    let mode = if is_training {
        Mode::Train { seed: options.seed, step: graph.scalar("step", DType::U32)? }
    } else {
        Mode::Eval
    };
    let logits = options.model.logits(&mut graph, images, mode)?;
    let loss = graph.cross_entropy(logits, labels, None, CrossEntropy::default())?;
    let row = graph.scalar("row", DType::U32)?;
    graph.metrics(TABLE, num_rows, row, loss, logits, labels)?;
    if is_training {
        let grads = graph.backward(loss)?;
        options.optimizer.append(&mut graph, &grads)?;
    }
    Plan::new(&graph)
}

/// Images in each binding that the data set is spread over.
fn shards(data: &Dataset) -> Result<Vec<usize>> {
    let per_shard = MAX_SHARD_BYTES / data.image_len_bytes().max(1);
    match data.len().div_ceil(per_shard.max(1)) {
        0 | 1 => Ok(vec![data.len()]),
        2 => Ok(vec![per_shard, data.len() - per_shard]),
        _ => Err(Error::Limit {
            what: format!("the {} images of {}", data.split, data.name),
            needed: data.images.len() as u64,
            limit: 2 * MAX_SHARD_BYTES as u64,
            limit_name: "bytes in two bindings",
            device: "every device".to_owned(),
            advice: "take fewer images with --train-limit",
        }),
    }
}

fn upload(program: &mut Program, part: &Part, data: &Dataset) -> Result<()> {
    let [channels, height, width] = data.shape;
    let mut rest = data.images.as_slice();
    for (index, len) in shards(data)?.into_iter().enumerate() {
        let (shard, behind) = rest.split_at(len * data.image_len_bytes());
        let tensor = Tensor::u8([len, channels, height, width], shard.to_vec())?;
        program.write(&part.state(&format!("images.{index}")), &tensor)?;
        rest = behind;
    }
    let labels = data.labels.iter().map(|&label| u32::from(label)).collect();
    program.write(&part.state("labels"), &Tensor::u32([data.len()], labels)?)?;
    let order = (0..part.loader.num_images()).collect();
    program.write(&part.state("order"), &Tensor::u32([data.len()], order)?)
}

/// The columns that say which batch a step takes and where its metrics go.
fn batches(part: &Part, batch_size: usize, first: usize, count: usize) -> StepTable {
    let whole = part.loader.batch_size() as usize;
    debug_assert!(batch_size <= whole);
    StepTable::new(count)
        .column("start", |step| ((first + step) * whole) as f64)
        .column("row", |step| (part.first_row + first + step) as f64)
}

fn run_part(program: &mut Program, part: &Part) -> Result<()> {
    for (entry, batch_size, first, count) in part.entries() {
        program.run(&entry, &batches(part, batch_size, first, count))?;
    }
    Ok(())
}

fn metrics_of(rows: &[f64], part: &Part) -> Metrics {
    Metrics::from_rows(&rows[part.first_row * COLUMNS..(part.first_row + part.num_rows()) * COLUMNS])
}
