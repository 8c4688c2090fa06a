//! `lenet plan --ranks`: how fast training would be on several machines, from a step measured here.

use std::process::ExitCode;

use wgrad::dist::scaling::{Bucket, Machine};
use wgrad::exec::profile::OpTime;
use wgrad::report::plots::{LinePlot, Mark, Series, line_plot};
use wgrad::run::{RunConfig, RunData, setup};
use wgrad::{Device, Result};

use crate::console;
use crate::options::{PlanOptions, usage};

/// Runs of the step that the medians are over.
const REPEATS: usize = 20;

pub fn run(options: PlanOptions, ranks: usize) -> Result<ExitCode> {
    let mut config = options.step.config("cpu")?;
    // The sums that ranks exchange are there only under accumulation.
    config.gradients.accumulate = config.gradients.accumulate.max(2);
    let (latency, overhead, bandwidth) = (options.network_latency, options.message_overhead, options.bandwidth);
    for (flag, value) in [("--network-latency", latency), ("--message-overhead", overhead), ("--bandwidth", bandwidth)]
    {
        if !(value > 0.0 && value.is_finite()) {
            return Err(usage(flag, "a number above 0", &value.to_string()));
        }
    }
    let machine = Machine {
        latency_seconds: latency * 1e-6,
        overhead_seconds: overhead * 1e-6,
        bytes_per_second: bandwidth * 1e9,
        ..measure(&config)?
    };
    let per_rank = config.batch_size;
    let batch = per_rank * config.gradients.accumulate;
    introduce(&config, &machine, &options)?;
    console::line(table(&machine, batch, per_rank, ranks))?;
    let (pays, efficient) = (machine.pays_up_to(batch, ranks), machine.efficient_up_to(per_rank, ranks));
    let of_ranks = |number: usize| if number == 1 { "1 rank".to_owned() } else { format!("{number} ranks") };
    let beyond = |number: usize, what: &str| {
        if 2 * number > ranks { String::new() } else { format!("; beyond, {what}") }
    };
    let twice = beyond(pays, "twice as many make a step less than 1.2 times as fast");
    console::line(format!("strong    steps of {batch} images pay up to {}{twice}", of_ranks(pays)))?;
    let half = beyond(efficient, "a rank has less than half its speed");
    console::line(format!("weak      {per_rank} images a rank pay up to {}{half}", of_ranks(efficient)))?;
    if let Some(path) = &options.picture {
        picture(&machine, &config, batch, ranks).save(path)?;
        console::line(format!("picture   {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Times a step op by op on black images, and divides it into what each image costs and what each sum does.
fn measure(config: &RunConfig) -> Result<Machine> {
    let (device, reason) = Device::select_with_reason(&config.device)?;
    console::line(format!("device    {device}: {reason}"))?;
    let mut data = RunData::blank(config)?;
    data.train.limit(2 * config.batch_size);
    let plans = setup::plans(config)?;
    let mut session = setup::session(config, &device, &data)?;
    let buckets = session.time_buckets(&plans[0], REPEATS)?;
    let times = session.profile(REPEATS)?;
    let seconds = |of: &dyn Fn(&OpTime) -> bool| -> f64 {
        times.iter().filter(|op| of(op)).map(|op| op.median.as_secs_f64()).sum()
    };
    let sums = times.iter().filter(|op| op.label.ends_with("accumulate")).map(|op| op.median.as_secs_f64());
    let is_update = |op: &OpTime| op.label.starts_with("optimizer");
    Ok(Machine {
        image_seconds: seconds(&|op| !is_update(op)) / config.batch_size as f64,
        update_seconds: seconds(&|op| is_update(op) && !op.label.ends_with("accumulate")),
        merge_seconds: sums.fold(0.0, f64::max),
        batch_images: config.batch_size,
        buckets,
        latency_seconds: 0.0,
        overhead_seconds: 0.0,
        bytes_per_second: f64::INFINITY,
    })
}

fn introduce(config: &RunConfig, machine: &Machine, options: &PlanOptions) -> Result<()> {
    console::line(format!(
        "measured  {} on {}: {:.3} ms an image, {:.3} ms to merge a sum of {:.2} MB, {:.3} ms to update",
        config.network.name(),
        config.dataset,
        machine.image_seconds * 1e3,
        machine.merge_seconds * 1e3,
        machine.sum_bytes() / 1e6,
        machine.update_seconds * 1e3
    ))?;
    let bucket = |bucket: &Bucket| {
        let left = bucket.seconds_left * config.batch_size as f64 * 1e3;
        format!("{:.2} MB {left:.1} ms", bucket.bytes / 1e6)
    };
    let buckets: Vec<String> = machine.buckets.iter().map(bucket).collect();
    console::line(format!("exchanged {} before a batch ends", buckets.join(", ")))?;
    let PlanOptions { network_latency, message_overhead, bandwidth, .. } = options;
    console::line(format!(
        "network   {network_latency} µs latency, {bandwidth} GB/s from each rank, {message_overhead} µs of a CPU a message"
    ))?;
    console::line(
        "assumed   each rank has a CPU and a link of its own, all are equally fast, an image takes as long in a small",
    )?;
    console::line("          batch, and sums are exchanged as a rank's last batch completes them\n")
}

/// Numbers of ranks in the table and the picture.
fn counts(most: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |ranks| Some(2 * ranks)).take_while(move |ranks| *ranks <= most)
}

fn table(machine: &Machine, batch: usize, per_rank: usize, most: usize) -> String {
    let mut text =
        format!("ranks  ms a step of {batch}  exchange  speedup  efficiency with {per_rank} images a rank\n");
    for ranks in counts(most) {
        let step = machine.step(batch, ranks);
        let exchange = (step.exchanging + step.applying) / step.total();
        let width = format!("ms a step of {batch}").len();
        text += &format!(
            "{ranks:>5}  {:>width$.3}  {:>8}  {:>7.2}  {:>10}\n",
            step.total() * 1e3,
            console::percent(exchange),
            machine.speedup(batch, ranks),
            console::percent(machine.efficiency(per_rank, ranks)),
        );
    }
    text
}

fn picture(machine: &Machine, config: &RunConfig, batch: usize, most: usize) -> wgrad::report::plots::Picture {
    let line = |name: String, value: &dyn Fn(usize) -> f64| Series {
        name,
        points: counts(most).map(|ranks| (ranks as f64, value(ranks))).collect(),
    };
    let per_rank = config.batch_size;
    let (pays, efficient) = (machine.pays_up_to(batch, most), machine.efficient_up_to(per_rank, most));
    let weak = |ranks: usize| ranks as f64 * machine.efficiency(per_rank, ranks);
    // The legend says what they are.
    let mark = |ranks: usize, y: f64| Mark { x: ranks as f64, y, text: String::new() };
    let [latency, overhead] = [machine.latency_seconds, machine.overhead_seconds].map(|seconds| seconds * 1e6);
    let bandwidth = machine.bytes_per_second * 1e-9;
    line_plot(&LinePlot {
        title: format!(
            "{} on ranks of this machine, predicted for {latency:.1} µs, {bandwidth:.2} GB/s and {overhead:.1} µs a message",
            config.network.name()
        ),
        x_label: "ranks".to_owned(),
        y_label: "times as fast as one rank".to_owned(),
        series: vec![
            line("ideal".to_owned(), &|ranks| ranks as f64),
            line(format!("{batch} images a step, which pays up to {pays}"), &|ranks| machine.speedup(batch, ranks)),
            line(format!("{per_rank} images a rank, which pays up to {efficient}"), &weak),
        ],
        marks: vec![mark(pays, machine.speedup(batch, pays)), mark(efficient, weak(efficient))],
        log_x: true,
        log_y: true,
        ..LinePlot::default()
    })
}
