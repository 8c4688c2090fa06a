//! The loss over a grid of lines, and its minimum.

use wgrad::data::TensorBatch;
use wgrad::report::plots::{ContourPlot, Picture, Series, contour_plot};
use wgrad::{Device, Error, Result, Tensor, evaluate};

use crate::line::{Line, pairs};

/// Values of w and of b.
const GRID: usize = 81;

/// The loss over some points for a grid of w (columns) and b (rows).
pub struct Surface {
    w: Vec<f64>,
    b: Vec<f64>,
    losses: Vec<f64>,
    minimum: Option<Line>,
}

impl Surface {
    /// Over w and b from −10 to 10, and further where a path leads out of that.
    pub fn new(device: &Device, points: &TensorBatch, paths: &[&[Line]]) -> Result<Surface> {
        let axis = |pick: fn(&Line) -> f64| {
            let values = || paths.iter().flat_map(|path| path.iter()).map(pick);
            let (low, high) = (values().fold(-10.0, f64::min), values().fold(10.0, f64::max));
            // A little more than the path, so that none of it lies under the frame.
            (if low < -10.0 { low - 0.5 } else { low }, if high > 10.0 { high + 0.5 } else { high })
        };
        Surface::over(device, points, axis(|line| line.w), axis(|line| line.b))
    }

    /// Around some lines.
    pub fn around(device: &Device, points: &TensorBatch, lines: &[Line]) -> Result<Surface> {
        let axis = |pick: fn(&Line) -> f64| {
            let values = || lines.iter().map(pick);
            let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
            (low - 0.5, high + 0.5)
        };
        Surface::over(device, points, axis(|line| line.w), axis(|line| line.b))
    }

    /// Every line of the grid against every point, by broadcasting (b, w, point).
    fn over(device: &Device, points: &TensorBatch, w: (f64, f64), b: (f64, f64)) -> Result<Surface> {
        let axis = |(low, high): (f64, f64)| -> Vec<f64> {
            (0..GRID).map(|index| low + (high - low) * index as f64 / (GRID - 1) as f64).collect()
        };
        let (w, b) = (axis(w), axis(b));
        let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        let num_points = points.get("x")?.shape().num_elems();
        let inputs = [
            Tensor::f32([1, GRID, 1], narrow(&w))?,
            Tensor::f32([GRID, 1, 1], narrow(&b))?,
            Tensor::f32([1, 1, num_points], points.get("x")?.to_f32_vec())?,
            Tensor::f32([1, 1, num_points], points.get("y")?.to_f32_vec())?,
        ];
        let losses = evaluate(device, &inputs, |graph, values| {
            let [w, b, x, y] = [values[0], values[1], values[2], values[3]];
            let scaled = graph.mul(w, x)?;
            let predicted = graph.add(scaled, b)?;
            let error = graph.sub(predicted, y)?;
            let squares = graph.square(error)?;
            Ok(vec![graph.mean(squares, &[2], false)?])
        })?;
        Ok(Surface { w, b, losses: losses[0].to_f64_vec(), minimum: minimum(points).ok() })
    }

    /// The surface with its minimum as a star, and paths across it.
    pub fn plot(&self, title: &str, paths: Vec<Series>) -> ContourPlot {
        ContourPlot {
            title: title.to_owned(),
            x_label: "w".to_owned(),
            y_label: "b".to_owned(),
            xs: self.w.clone(),
            ys: self.b.clone(),
            // A single point has lines of no loss at all, which a logarithm cannot show.
            values: self.losses.iter().map(|loss| loss.max(0.1)).collect(),
            paths,
            minimum: self.minimum.map(|line| (line.w, line.b)),
            log_levels: true,
        }
    }

    pub fn draw(&self, title: &str, paths: Vec<Series>) -> Result<Picture> {
        contour_plot(&self.plot(title, paths))
    }
}

/// The line of least squares through the points.
///
/// # Errors
/// [`Error::Operand`] where all have the same x, as a single point: any line through that one has the least loss.
pub fn minimum(points: &TensorBatch) -> Result<Line> {
    let pairs = pairs(points)?;
    let mean = |pick: fn(&(f64, f64)) -> f64| pairs.iter().map(pick).sum::<f64>() / pairs.len() as f64;
    let (mean_x, mean_y) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let covariance: f64 = pairs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = pairs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if variance == 0.0 {
        let (op, expected) = ("least squares".to_owned(), "points of two different x".to_owned());
        return Err(Error::Operand { op, expected, got: format!("{} of one x", pairs.len()) });
    }
    let w = covariance / variance;
    Ok(Line { w, b: mean_y - w * mean_x })
}
