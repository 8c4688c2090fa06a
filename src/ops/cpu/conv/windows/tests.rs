use super::*;
use crate::ops::cpu::conv::testing::{assert_within, for_products, layer, numbers};

fn num_windows(layer: &Layer) -> usize {
    layer.output[0] / 2 * (layer.output[1] / 2)
}

/// Maxima and indices of images.
fn run(layer: &Layer, kernel: Kernel, [input, weight]: [&[f32]; 2], finish: Finish<'_>) -> (Vec<f32>, Vec<u32>) {
    let num_images = input.len() / (layer.in_channels * layer.in_pixels());
    let len = num_images * layer.out_channels * num_windows(layer);
    let (mut maxima, mut indices) = (vec![f32::NAN; len], vec![u32::MAX; len]);
    forward_pooled(layer, kernel, [input, weight], finish, (&mut maxima, &mut indices));
    (maxima, indices)
}

/// Fewer windows than a vector has lanes, as many and more; rows of windows of all the lengths that are laid out in their
/// own way; odd extents, of which a row or column has no window; windows that have no other below them to be a tile with;
/// channels that are left over.
fn layers() -> Vec<Layer> {
    let mut layers = vec![
        layer(5, [1, 6], [28, 28], [0, 0]),
        layer(5, [6, 16], [12, 12], [0, 0]),
        layer(5, [3, 5], [9, 34], [1, 2]),
        layer(5, [2, 9], [6, 6], [0, 0]),
        layer(5, [3, 17], [10, 12], [0, 0]),
        layer(5, [2, 3], [19, 12], [0, 0]),
        layer(3, [4, 7], [7, 30], [1, 1]),
        layer(3, [1, 1], [4, 5], [0, 0]),
        layer(1, [3, 2], [5, 3], [0, 0]),
        layer(7, [2, 3], [10, 50], [3, 3]),
        layer(9, [1, 2], [11, 32], [0, 0]),
        layer(2, [5, 11], [16, 17], [1, 1]),
    ];
    for width in 2..40 {
        layers.push(layer(if width % 2 == 0 { 5 } else { 3 }, [2, 3], [6, width], [2, 2]));
    }
    layers
}

#[test]
fn maxima_are_those_of_direct_sums() {
    for (layer, kernel) in layers().iter().flat_map(|layer| Kernel::ALL.map(|kernel| (layer, kernel))) {
        if kernel.cost(layer).is_none() {
            assert!(kernel != Kernel::Direct && layer.kernel != [5, 5], "{layer:?}");
            continue;
        }
        // F(4, 5) and F(2, 5) together are off by twice what transforms of six points on both axes are.
        let units = if kernel == Kernel::Tiles(tiles::Rows::Winograd) { 32.0 } else { 16.0 };
        let image_in = layer.in_channels * layer.in_pixels();
        let (input, weight) = (numbers(7 * image_in, 1), numbers(layer.out_channels * layer.num_taps(), 2));
        let (bias, pixels, width) = (numbers(layer.out_channels, 3), layer.out_pixels(), layer.output[1]);
        for relu in [false, true] {
            let (maxima, indices) = run(layer, kernel, [&input, &weight], Finish { bias: Some(&bias), relu });
            let (num_windows, columns) = (num_windows(layer), layer.output[1] / 2);
            let image_out = layer.out_channels * num_windows;
            for (image, input) in input.chunks(image_in).enumerate() {
                let mut sums: Vec<f64> =
                    (0..layer.out_channels * pixels).map(|at| f64::from(bias[at / pixels])).collect();
                let mut magnitudes = vec![0.0; sums.len()];
                for_products(layer, |out, tap, at| {
                    let product = f64::from(weight[tap]) * f64::from(input[at]);
                    sums[out] += product;
                    magnitudes[out] += product.abs();
                });
                for window in 0..image_out {
                    let (channel, window_row) = (window / num_windows, window % num_windows);
                    let (row, column) = (window_row / columns, window_row % columns);
                    let cells = [0, 1, width, width + 1].map(|cell| 2 * row * width + 2 * column + cell);
                    let value = |cell: usize| {
                        let sum = sums[channel * pixels + cell];
                        if relu { sum.max(0.0) } else { sum }
                    };
                    let want = cells.iter().map(|&cell| value(cell)).fold(f64::NEG_INFINITY, f64::max);
                    let magnitude = cells.iter().map(|&cell| magnitudes[channel * pixels + cell]).fold(0.0, f64::max);
                    let (max, index) =
                        (maxima[image * image_out + window], indices[image * image_out + window] as usize);
                    let what = format!("{kernel:?} {layer:?}, image {image}");
                    assert!(cells.contains(&index), "{what}: {index} is not in window {window}");
                    assert_within(units, &[max], &[want], &[magnitude], &what);
                    assert_within(units, &[max], &[value(index)], &[magnitude], &what);
                }
            }
        }
    }
}

#[test]
fn cells_are_direct_sums() {
    let layers = [
        layer(5, [6, 16], [12, 12], [0, 0]),
        layer(5, [1, 6], [13, 28], [0, 0]),
        layer(5, [2, 3], [5, 6], [0, 0]),
        layer(5, [3, 17], [6, 40], [2, 2]),
        layer(5, [5, 5], [9, 10], [4, 4]),
        layer(5, [1, 2], [15, 20], [0, 2]),
    ];
    for (layer, rows) in layers.iter().flat_map(|layer| [(layer, Rows::Direct), (layer, Rows::Winograd)]) {
        assert!(cost(layer).is_some(), "{layer:?}");
        let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
        let (input, weight) = (numbers(7 * image_in, 1), numbers(layer.out_channels * layer.num_taps(), 2));
        let (bias, pixels) = (numbers(layer.out_channels, 3), layer.out_pixels());
        for relu in [false, true] {
            let mut out = vec![f32::NAN; 7 * image_out];
            forward(layer, rows, [&input, &weight], Finish { bias: Some(&bias), relu }, &mut out);
            for (input, out) in input.chunks(image_in).zip(out.chunks(image_out)) {
                let mut want: Vec<f64> = (0..image_out).map(|at| f64::from(bias[at / pixels])).collect();
                let mut magnitude = vec![0.0; image_out];
                for_products(layer, |out, tap, at| {
                    let product = f64::from(weight[tap]) * f64::from(input[at]);
                    want[out] += product;
                    magnitude[out] += product.abs();
                });
                if relu {
                    want.iter_mut().for_each(|sum| *sum = sum.max(0.0));
                }
                assert_within(32.0, out, &want, &magnitude, &format!("{rows:?} {layer:?}"));
            }
        }
    }
    assert!(cost(&layer(5, [1, 6], [12, 13], [0, 0])).is_none(), "a row of odd length has a cell beyond its end");
}

/// An image's outputs do not depend on those beside it.
#[test]
fn images_are_computed_alike_in_any_company() {
    let layer = layer(5, [3, 4], [12, 12], [0, 0]);
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    let (input, weight) = (numbers(7 * image_in, 1), numbers(layer.out_channels * layer.num_taps(), 2));
    let finish = Finish { bias: None, relu: false };
    let of_all = run(&layer, Kernel::Tiles(Rows::Winograd), [&input, &weight], finish).0;
    let mut all = vec![f32::NAN; 7 * image_out];
    forward(&layer, Rows::Winograd, [&input, &weight], finish, &mut all);
    for (index, input) in input.chunks(image_in).enumerate() {
        let maxima = run(&layer, Kernel::Tiles(Rows::Winograd), [input, &weight], finish).0;
        assert_eq!(maxima, of_all[index * maxima.len()..][..maxima.len()], "image {index}");
        let mut out = vec![f32::NAN; image_out];
        forward(&layer, Rows::Winograd, [input, &weight], finish, &mut out);
        assert_eq!(out, all[index * image_out..][..image_out], "image {index}");
    }
}

/// More layers than are kept, one of them again and again with other weights in the same place.
#[test]
fn weights_may_change_where_they_are() {
    let extents = [10, 12, 14, 16, 18, 20, 22, 24, 26, 28];
    let mut weight = numbers(3 * 25, 2);
    for step in 0..20 {
        weight[7 * step % 75] += 1.0;
        for extent in [extents[step % 10], 12] {
            let layer = layer(5, [1, 3], [extent, extent], [0, 0]);
            let (input, elsewhere) = (numbers(layer.in_pixels(), 1), [&weight[..], &[0.0]].concat());
            let finish = Finish { bias: None, relu: false };
            let mut outs = [vec![f32::NAN; 3 * layer.out_pixels()], vec![f32::NAN; 3 * layer.out_pixels()]];
            for (weight, out) in [&weight[..], &elsewhere[..75]].into_iter().zip(&mut outs) {
                forward(&layer, Rows::Direct, [&input, weight], finish, out);
            }
            let mut want = vec![0.0; 3 * layer.out_pixels()];
            for_products(&layer, |out, tap, at| want[out] += f64::from(weight[tap]) * f64::from(input[at]));
            assert_within(32.0, &outs[0], &want, &vec![25.0; want.len()], &format!("step {step}, {extent}"));
            assert_eq!(outs[0], outs[1], "step {step}, {extent}");
        }
    }
}

#[test]
fn the_first_of_equal_cells_is_chosen() {
    let layer = layer(5, [2, 5], [12, 11], [0, 0]);
    let input = numbers(2 * layer.in_pixels(), 1);
    let weight = vec![0.0; 5 * layer.num_taps()];
    for (kernel, relu) in Kernel::ALL.into_iter().flat_map(|kernel| [(kernel, false), (kernel, true)]) {
        let (maxima, indices) = run(&layer, kernel, [&input, &weight], Finish { bias: Some(&[-1.0; 5]), relu });
        assert!(maxima.iter().all(|&max| max == if relu { 0.0 } else { -1.0 }), "{kernel:?}");
        let firsts = [0, 2, 4, 14, 16, 18, 28, 30, 32, 42, 44, 46];
        assert!(indices.chunks(firsts.len()).all(|indices| indices == firsts), "{kernel:?}: {indices:?}");
    }
}

/// By Winograd it also reaches the other windows of its tile.
#[test]
fn a_value_that_is_no_number_wins() {
    let layer = layer(5, [1, 3], [14, 14], [0, 0]);
    let mut input = numbers(layer.in_pixels(), 1);
    input[6 * 14 + 7] = f32::NAN;
    let weight = numbers(3 * layer.num_taps(), 2);
    for (kernel, relu) in Kernel::ALL.into_iter().flat_map(|kernel| [(kernel, false), (kernel, true)]) {
        let (maxima, _) = run(&layer, kernel, [&input, &weight], Finish { bias: None, relu });
        let height = if kernel == Kernel::Direct { 2 } else { 4 };
        for (window, max) in maxima.iter().enumerate() {
            // Elements that the cells of a tile meet, of which the one at (6, 7) may be one.
            let meets = |first: usize, cells: usize, at: usize| (first..first + cells + 4).contains(&at);
            let [row, column] = [window % 25 / 5, window % 5].map(|index| 2 * index);
            let is_met = meets(row / height * height, height, 6) && meets(column, 2, 7);
            assert_eq!(max.is_nan(), is_met, "{kernel:?} {relu} window {window}");
        }
    }
}
