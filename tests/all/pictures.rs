//! That pictures show the numbers they are given: where a line's pixels lie, how large an image's pixels are drawn.

use wgrad::report::grids::{ImageSample, confusion_matrix, sample_grid};
use wgrad::report::plots::{ContourPlot, LinePlot, Series, contour_plot, line_plot};
use wgrad::report::{Confusion, Picture};

/// The color of a plot's first line.
const BLUE: [u8; 3] = [0x00, 0x72, 0xb2];

/// The color of a surface's first path.
const RED: [u8; 3] = [0xd4, 0x1f, 0x1f];

/// Strokes are 2.2 pixels wide, dots at the points 6, and both are anti-aliased: half of that, rounded up.
const TOLERANCE: f64 = 4.0;

/// Where a picture has exactly this color.
fn pixels_of(picture: &Picture, color: [u8; 3]) -> Vec<(f64, f64)> {
    let width = picture.width() as usize;
    let pixels = picture.rgb().as_chunks::<3>().0.iter().enumerate().filter(|(_, pixel)| **pixel == color);
    let found: Vec<(f64, f64)> = pixels.map(|(index, _)| ((index % width) as f64, (index / width) as f64)).collect();
    assert!(!found.is_empty(), "nothing has the color {color:?}");
    found
}

/// Left, top, right and bottom of some pixels.
fn bounds(pixels: &[(f64, f64)]) -> [f64; 4] {
    let start = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    pixels.iter().fold(start, |[l, t, r, b], &(x, y)| [l.min(x), t.min(y), r.max(x), b.max(y)])
}

/// A line without a name, so that no legend shows its color.
fn line(points: Vec<(f64, f64)>, log_y: bool) -> Picture {
    let series = vec![Series { name: String::new(), points }];
    line_plot(&LinePlot { series, log_y, ..LinePlot::default() })
}

/// How far pixels lie from the straight line between the first and the last of them, in pixels.
fn bend(pixels: &[(f64, f64)]) -> f64 {
    let by_x = |a: &&(f64, f64), b: &&(f64, f64)| a.0.total_cmp(&b.0);
    let (first, last) = (pixels.iter().min_by(by_x).expect("some"), pixels.iter().max_by(by_x).expect("some"));
    let slope = (last.1 - first.1) / (last.0 - first.0);
    pixels.iter().map(|&(x, y)| (y - first.1 - slope * (x - first.0)).abs()).fold(0.0, f64::max)
}

#[test]
fn a_peak_is_drawn_where_it_is() {
    let pixels = pixels_of(&line(vec![(0.0, 0.0), (30.0, 3.0), (120.0, 0.0)], false), BLUE);
    let [left, top, right, bottom] = bounds(&pixels);
    let peak = bounds(&pixels.iter().copied().filter(|pixel| pixel.1 < top + 2.0).collect::<Vec<_>>());
    let at = left + (right - left) * 30.0 / 120.0;
    assert!(((peak[0] + peak[2]) / 2.0 - at).abs() < TOLERANCE, "peak at {peak:?}, expected x = {at}");
    // Half-way up the left flank is x = 15.
    let half: Vec<f64> = pixels
        .iter()
        .filter(|pixel| pixel.0 < at && (pixel.1 - (top + bottom) / 2.0).abs() < 1.0)
        .map(|p| p.0)
        .collect();
    let mean = half.iter().sum::<f64>() / half.len() as f64;
    let expected = left + (right - left) * 15.0 / 120.0;
    assert!((mean - expected).abs() < TOLERANCE, "half-way at {mean}, expected {expected}");
}

#[test]
fn an_exponential_is_straight_on_a_logarithmic_axis_alone() {
    let points: Vec<(f64, f64)> =
        (0..=60).map(|step| (f64::from(step), 10_f64.powf(-f64::from(step) / 20.0))).collect();
    let straight = bend(&pixels_of(&line(points.clone(), true), BLUE));
    let bent = bend(&pixels_of(&line(points, false), BLUE));
    assert!(straight < TOLERANCE, "{straight}");
    assert!(bent > 100.0, "{bent}");
}

#[test]
fn larger_values_are_higher_up() {
    let pixels = pixels_of(&line((0..60).map(|x| (f64::from(x), f64::from(x))).collect(), false), BLUE);
    assert!(bend(&pixels) < TOLERANCE);
    let [left, top, ..] = bounds(&pixels);
    let start = pixels.iter().find(|pixel| pixel.0 == left).expect("its left end");
    assert!(start.1 > top + 100.0, "the line begins at {start:?}, its top is at {top}");
}

#[test]
fn a_path_is_drawn_at_its_points_on_a_surface() {
    let axis: Vec<f64> = (0..40).map(|i| -2.0 + 4.0 * f64::from(i) / 39.0).collect();
    let values = axis.iter().flat_map(|y| axis.iter().map(move |x| x * x + y * y)).collect();
    // From one corner of the frame to the opposite one.
    let paths = vec![Series { name: String::new(), points: vec![(-2.0, 2.0), (2.0, -2.0)] }];
    let plot = ContourPlot {
        title: String::new(),
        x_label: String::new(),
        y_label: String::new(),
        xs: axis.clone(),
        ys: axis,
        values,
        paths,
        minimum: None,
        log_levels: false,
    };
    let picture = contour_plot(&plot).expect("a picture");
    let pixels = pixels_of(&picture, RED);
    // The marks of its ends are wider than the line.
    assert!(bend(&pixels) < 5.0 * TOLERANCE, "{}", bend(&pixels));
    let [left, top, right, bottom] = bounds(&pixels);
    assert!(right - left > 200.0 && bottom - top > 200.0, "{left} {top} {right} {bottom}");
    let first = pixels.iter().find(|pixel| pixel.0 == left).expect("its left end");
    assert!(first.1 < top + 5.0 * TOLERANCE, "it begins at the upper left, not at {first:?}");
}

#[test]
fn an_images_pixels_are_drawn_in_their_places() {
    let (columns, rows, lit) = (4, 3, (2, 1));
    let mut pixels = vec![0; columns * rows];
    pixels[lit.1 * columns + lit.0] = 0xee;
    let sample = ImageSample { pixels, shape: [1, rows, columns], label: "lit".to_owned(), predicted: None };
    let picture = sample_grid("One image", &[sample], 1);
    let [left, top, right, bottom] = bounds(&pixels_of(&picture, [0; 3]));
    let cell = ((right - left + 1.0) / columns as f64, (bottom - top + 1.0) / rows as f64);
    let expected = [
        left + cell.0 * lit.0 as f64,
        top + cell.1 * lit.1 as f64,
        left + cell.0 * (lit.0 + 1) as f64 - 1.0,
        top + cell.1 * (lit.1 + 1) as f64 - 1.0,
    ];
    // The edges of letters may have the same grey.
    let mut drawn = pixels_of(&picture, [0xee; 3]);
    drawn.retain(|&(x, y)| (left..=right).contains(&x) && (top..=bottom).contains(&y));
    let drawn = bounds(&drawn);
    let apart = drawn.iter().zip(expected).map(|(drawn, expected)| (drawn - expected).abs()).fold(0.0, f64::max);
    assert!(apart <= 1.0, "drawn at {drawn:?}, expected {expected:?}");
}

#[test]
fn a_confusion_is_in_the_row_of_its_label_and_the_column_of_its_prediction() {
    // All of class 0 are taken for class 2; the other classes are empty.
    let dark = |pairs: &[(usize, usize)]| {
        let confusion = Confusion::of(3, pairs.iter().copied()).expect("classes fit");
        let picture = confusion_matrix(&confusion, &["a", "b", "c"]);
        let darkest = |pixel: &&[u8; 3]| {
            // Saturated and dark: the fill of a full cell, not text, which is grey.
            pixel.iter().max().expect("three") - pixel.iter().min().expect("three") > 60
        };
        let color = *picture.rgb().as_chunks::<3>().0.iter().find(darkest).expect("a full cell");
        let [left, top, right, bottom] = bounds(&pixels_of(&picture, color));
        ((left + right) / 2.0, (top + bottom) / 2.0)
    };
    let [(x0, y0), (x1, y1), (x2, y2)] = [dark(&[(0, 0); 9]), dark(&[(0, 2); 9]), dark(&[(2, 0); 9])];
    assert!(x1 > x0 + 20.0 && (y1 - y0).abs() < TOLERANCE, "predictions are columns: {x0} {y0}, {x1} {y1}");
    assert!(y2 > y0 + 20.0 && (x2 - x0).abs() < TOLERANCE, "labels are rows: {x0} {y0}, {x2} {y2}");
}
