use super::*;
use crate::ops::cpu::conv::Finish;
use crate::ops::cpu::conv::testing::{self, assert_close, for_products, numbers};

fn layer(channels: [usize; 2], input: [usize; 2], padding: [usize; 2]) -> Layer {
    testing::layer(3, channels, input, padding)
}

/// Layers with channels and tiles left over, images smaller than a tile, and as much padding as reaches around them.
fn layers() -> Vec<Layer> {
    vec![
        layer([16, 16], [8, 8], [1, 1]),
        layer([5, 20], [7, 6], [1, 1]),
        layer([33, 17], [5, 9], [2, 0]),
        layer([1, 1], [1, 1], [1, 1]),
        layer([3, 40], [13, 4], [0, 1]),
        layer([18, 3], [2, 3], [2, 2]),
        layer([8, 8], [3, 70], [1, 1]),
    ]
}

/// The same with 5×5 kernels.
fn large_layers() -> Vec<Layer> {
    vec![
        testing::layer(5, [6, 16], [12, 12], [0, 0]),
        testing::layer(5, [17, 33], [7, 6], [2, 2]),
        testing::layer(5, [1, 1], [1, 1], [2, 2]),
        testing::layer(5, [18, 3], [5, 9], [4, 0]),
        testing::layer(5, [8, 8], [5, 71], [1, 3]),
    ]
}

#[test]
fn outputs_are_those_of_a_direct_sum() {
    for layer in layers().into_iter().chain(large_layers()) {
        for num_images in [1, 5, 17] {
            let (image_in, image_out) =
                (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
            let input = numbers(num_images * image_in, 1);
            let weight = numbers(layer.out_channels * layer.num_taps(), 2);
            let bias = numbers(layer.out_channels, 3);
            let mut out = vec![f32::NAN; num_images * image_out];
            forward(&layer, &input, &weight, Finish { bias: Some(&bias), relu: true }, &mut out);
            for (input, out) in input.chunks(image_in).zip(out.chunks(image_out)) {
                let mut want: Vec<f64> = (0..image_out).map(|at| f64::from(bias[at / layer.out_pixels()])).collect();
                let mut magnitude = vec![0.0; image_out];
                for_products(&layer, |out, tap, at| {
                    let product = f64::from(weight[tap]) * f64::from(input[at]);
                    want[out] += product;
                    magnitude[out] += product.abs();
                });
                want.iter_mut().for_each(|x| *x = x.max(0.0));
                assert_close(out, &want, &magnitude, &format!("{layer:?}, {num_images} images"));
            }
        }
    }
}

#[test]
fn weight_gradients_are_those_of_a_direct_sum() {
    for layer in layers() {
        for num_images in [1, 17] {
            let (image_in, image_out) =
                (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
            let input = numbers(num_images * image_in, 1);
            let grad = numbers(num_images * image_out, 2);
            let mut total = numbers(layer.out_channels * layer.num_taps(), 3);
            let mut want: Vec<f64> = total.iter().map(|&x| f64::from(x)).collect();
            let mut magnitude = vec![0.0; total.len()];
            grad_weight(&layer, &grad, &input, &mut total);
            for (input, grad) in input.chunks(image_in).zip(grad.chunks(image_out)) {
                for_products(&layer, |out, tap, at| {
                    let product = f64::from(grad[out]) * f64::from(input[at]);
                    want[tap] += product;
                    magnitude[tap] += product.abs();
                });
            }
            assert_close(&total, &want, &magnitude, &format!("{layer:?}, {num_images} images"));
        }
    }
}

#[test]
fn outputs_do_not_depend_on_how_images_are_shared_out() {
    let layer = layer([20, 35], [9, 9], [1, 1]);
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    let (input, weight) = (numbers(6 * image_in, 1), numbers(layer.out_channels * layer.num_taps(), 2));
    let finish = Finish { bias: None, relu: false };
    let mut together = vec![0.0; 6 * image_out];
    forward(&layer, &input, &weight, finish, &mut together);
    let mut alone = vec![0.0; 6 * image_out];
    for (input, out) in input.chunks(image_in).zip(alone.chunks_mut(image_out)) {
        forward(&layer, input, &weight, finish, out);
    }
    assert_eq!(together, alone);
}

/// What `Conv2d`'s bound on errors allows for.
#[test]
fn sums_are_off_by_less_than_three_times_what_direct_ones_are() {
    for (size, padding) in [(3, 1), (5, 2)] {
        let ratio = error_beside_direct(&testing::layer(size, [64, 16], [12, 12], [padding; 2]));
        assert!(0.3 < ratio && ratio < 3.0, "{size}: {ratio}");
    }
}

/// The error of an image's outputs, as the root of the mean square, by that of direct sums.
fn error_beside_direct(layer: &Layer) -> f64 {
    let image_out = layer.out_channels * layer.out_pixels();
    let input = numbers(layer.in_channels * layer.in_pixels(), 1);
    let weight = numbers(layer.out_channels * layer.num_taps(), 2);
    let mut out = vec![0.0; image_out];
    forward(layer, &input, &weight, Finish { bias: None, relu: false }, &mut out);
    let (mut direct, mut want) = (vec![0.0f32; image_out], vec![0.0f64; image_out]);
    for_products(layer, |out, tap, at| {
        direct[out] += weight[tap] * input[at];
        want[out] += f64::from(weight[tap]) * f64::from(input[at]);
    });
    let error = |got: &[f32]| {
        let squares = got.iter().zip(&want).map(|(&got, want)| (f64::from(got) - want).powi(2));
        (squares.sum::<f64>() / image_out as f64).sqrt()
    };
    error(&out) / error(&direct)
}
