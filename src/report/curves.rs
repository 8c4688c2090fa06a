//! Pictures of one run's numbers over its epochs, and of a schedule over its steps.

use super::axes::number;
use super::plots::{LinePlot, Mark, Picture, Series, line_plot, stacked_plots};
use crate::train::{DiagnosticKind, DiagnosticsReport, EpochReport, History, LrFind, LrPoint};

/// Loss and accuracy of a run over its epochs with the best one marked, and the learning rate below.
pub fn training_curves(run: &History) -> Picture {
    let series = |name: &str, value: fn(&EpochReport) -> f64| Series {
        name: name.to_owned(),
        points: run.epochs.iter().map(|epoch| (epoch.epoch as f64, value(epoch))).collect(),
    };
    let best = run.best();
    let mark = |y: f64, text: String| Mark { x: best.epoch as f64, y, text };
    let base = LinePlot { x_label: "epoch".to_owned(), whole_x: true, ..LinePlot::default() };
    let loss = LinePlot {
        title: "Loss".to_owned(),
        y_label: "loss".to_owned(),
        series: vec![series("training", |epoch| epoch.train_loss), series("validation", |epoch| epoch.val_loss)],
        marks: vec![mark(best.val_loss, format!("best: epoch {}, {:.4}", best.epoch, best.val_loss))],
        ..base.clone()
    };
    let accuracy = LinePlot {
        title: "Accuracy".to_owned(),
        y_label: "share right".to_owned(),
        series: vec![
            series("training", |epoch| epoch.train_accuracy),
            series("validation", |epoch| epoch.val_accuracy),
        ],
        marks: vec![mark(best.val_accuracy, format!("epoch {}: {:.2}%", best.epoch, 100.0 * best.val_accuracy))],
        ..base.clone()
    };
    let rates = || run.epochs.iter().map(|epoch| epoch.lr).filter(|lr| *lr > 0.0);
    let (low, high) = rates().fold((f64::INFINITY, 0.0_f64), |(low, high), lr| (low.min(lr), high.max(lr)));
    let lr = LinePlot {
        title: format!("Learning rate, from {}", number(run.epochs[0].lr)),
        y_label: "rate".to_owned(),
        series: vec![Series { name: String::new(), ..series("", |epoch| epoch.lr) }],
        log_y: high > 20.0 * low,
        stepped: true,
        ..base
    };
    stacked_plots(&[(&loss, 270.0), (&accuracy, 270.0), (&lr, 130.0)])
}

/// How training went inside the network, over the epochs: the norm of each weight's gradient, how much a step changes
/// each weight, and the share of dead units. `None` for a run without diagnostics.
pub fn diagnostic_curves(run: &History) -> Option<Picture> {
    let first = &run.diagnostics.first()?.report;
    // Biases follow their layer's weights, and twice as many lines would be too many.
    let names = |kind| first.of_kind(kind).map(|row| row.name.clone()).filter(|name| !name.ends_with(".bias"));
    let series = |name: String, value: &dyn Fn(&DiagnosticsReport) -> Option<f64>| Series {
        points: run.diagnostics.iter().filter_map(|at| Some((at.epoch as f64, value(&at.report)?))).collect(),
        name,
    };
    let norm = |name: String| {
        series(name.clone(), &|report| Some(report.get(DiagnosticKind::Gradient, &name)?.summary.l2_norm))
    };
    let ratio = |name: String| series(name.clone(), &|report| report.update_ratio(&name));
    let dead = |name: String| series(name.clone(), &|report| report.dead_share(&name));
    let base = LinePlot { x_label: "epoch".to_owned(), whole_x: true, ..LinePlot::default() };
    let norms = LinePlot {
        title: "Norm of the gradient".to_owned(),
        y_label: "norm".to_owned(),
        series: names(DiagnosticKind::Parameter).map(norm).collect(),
        log_y: true,
        ..base.clone()
    };
    let ratios = LinePlot {
        title: "Change of a weight in one step, relative to the weight".to_owned(),
        y_label: "relative change".to_owned(),
        series: names(DiagnosticKind::Parameter).map(ratio).collect(),
        log_y: true,
        ..base.clone()
    };
    let dead_units = LinePlot {
        title: "Dead units: after a ReLU, 0 for every image of the batch".to_owned(),
        y_label: "share".to_owned(),
        series: names(DiagnosticKind::Unit).map(dead).collect(),
        ..base
    };
    Some(stacked_plots(&[(&norms, 230.0), (&ratios, 230.0), (&dead_units, 180.0)]))
}

/// The learning rate, and momentum where it cycles, at each step.
pub fn schedule_plot(title: &str, x_label: &str, rates: &[(f64, Option<f64>)]) -> Picture {
    let base = LinePlot { x_label: x_label.to_owned(), whole_x: true, ..LinePlot::default() };
    let lr = LinePlot {
        title: title.to_owned(),
        y_label: "learning rate".to_owned(),
        stepped: true,
        series: vec![Series::counted("", 0, rates.iter().map(|(lr, _)| *lr))],
        ..base.clone()
    };
    if rates.iter().all(|(_, momentum)| momentum.is_none()) {
        return stacked_plots(&[(&lr, 300.0)]);
    }
    let momentum = LinePlot {
        title: "Momentum".to_owned(),
        y_label: "momentum".to_owned(),
        stepped: true,
        series: vec![Series::counted("", 0, rates.iter().map(|(_, momentum)| momentum.unwrap_or(f64::NAN)))],
        ..base
    };
    stacked_plots(&[(&lr, 300.0), (&momentum, 180.0)])
}

/// The loss of a learning-rate range test over the rate, with the suggested rates marked. The lines leave the frame
/// where the loss is so high above the first ones that the way down would have no room.
pub fn lr_find_plot(found: &LrFind) -> Picture {
    let line = |name: &str, loss: fn(&LrPoint) -> f64| Series {
        name: name.to_owned(),
        points: found.points.iter().map(|point| (point.lr.log10(), loss(point))).collect(),
    };
    let mark = |lr: f64, text: &str| {
        let nearest = |a: &&LrPoint, b: &&LrPoint| (a.lr / lr).ln().abs().total_cmp(&(b.lr / lr).ln().abs());
        let at = found.points.iter().min_by(nearest)?;
        Some(Mark { x: at.lr.log10(), y: at.smoothed, text: format!("{text}, {lr:.1e}") })
    };
    let suggested = [(found.steepest, "steepest"), (found.minimum_over_10, "minimum / 10")];
    line_plot(&LinePlot {
        title: "Learning-rate range test".to_owned(),
        x_label: "learning rate, as a power of ten".to_owned(),
        y_label: "training loss".to_owned(),
        series: vec![line("smoothed", |point| point.smoothed), line("each step", |point| point.loss)],
        marks: suggested.into_iter().filter_map(|(lr, text)| mark(lr?, text)).collect(),
        highest: highest_shown(&found.points),
        ..LinePlot::default()
    })
}

/// The highest loss in view: of those up to the lowest, and as much above as a third of the way down.
fn highest_shown(points: &[LrPoint]) -> Option<f64> {
    let lowest = (0..points.len()).min_by(|&a, &b| points[a].smoothed.total_cmp(&points[b].smoothed))?;
    let before = points[..=lowest].iter();
    let highest = before.clone().fold(f64::NEG_INFINITY, |highest, point| highest.max(point.smoothed));
    let varies = before.map(|point| point.loss - point.smoothed).fold(0.0, f64::max);
    let margin = ((highest - points[lowest].smoothed) / 3.0).max(varies);
    // A loss that climbs from the first rate on is lowest there, and is worth seeing to its double.
    Some(if lowest == 0 { 2.0 * highest } else { highest + margin })
}
