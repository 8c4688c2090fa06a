use super::*;
use crate::ops::cpu::conv::testing::{self, assert_close, for_products, numbers};

/// Layers with rows, columns and channels left over, images smaller than a tile, and as much padding as reaches around
/// them.
fn layers() -> Vec<Layer> {
    vec![
        testing::layer(5, [6, 16], [12, 12], [0, 0]),
        testing::layer(5, [1, 6], [28, 28], [2, 2]),
        testing::layer(5, [17, 33], [7, 6], [2, 2]),
        testing::layer(5, [1, 1], [1, 1], [2, 2]),
        testing::layer(5, [18, 3], [5, 9], [4, 0]),
        testing::layer(5, [8, 8], [5, 71], [1, 3]),
        testing::layer(5, [3, 20], [9, 17], [0, 4]),
        // Rows of which a vector holds several.
        testing::layer(5, [3, 4], [5, 5], [0, 0]),
        testing::layer(5, [4, 4], [3, 3], [2, 2]),
        testing::layer(5, [2, 3], [9, 5], [1, 1]),
        testing::layer(5, [5, 3], [11, 1], [1, 2]),
        // More padding than reaches around an image.
        testing::layer(5, [2, 3], [3, 6], [6, 1]),
    ]
}

#[test]
fn gradients_are_those_of_direct_sums() {
    for layer in layers() {
        for num_images in [1, 5, 17] {
            let (image_in, image_out) =
                (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
            let input = numbers(num_images * image_in, 1);
            let grad = numbers(num_images * image_out, 2);
            let weight = numbers(layer.out_channels * layer.num_taps(), 3);
            let mut total = numbers(weight.len(), 4);
            let mut want: Vec<f64> = total.iter().map(|&x| f64::from(x)).collect();
            let mut magnitude = vec![0.0; total.len()];
            let mut out = vec![f32::NAN; num_images * image_in];
            grad_weight(&layer, &grad, &input, &mut total);
            grad_input(&layer, &grad, &weight, &mut out);
            let what = format!("{layer:?}, {num_images} images");
            let images = input.chunks(image_in).zip(grad.chunks(image_out)).zip(out.chunks(image_in));
            for ((input, grad), out) in images {
                let (mut want_out, mut magnitude_out) = (vec![0.0; image_in], vec![0.0; image_in]);
                for_products(&layer, |out, tap, at| {
                    let product = f64::from(grad[out]) * f64::from(input[at]);
                    want[tap] += product;
                    magnitude[tap] += product.abs();
                    let product = f64::from(grad[out]) * f64::from(weight[tap]);
                    want_out[at] += product;
                    magnitude_out[at] += product.abs();
                });
                assert_close(out, &want_out, &magnitude_out, &what);
            }
            assert_close(&total, &want, &magnitude, &what);
        }
    }
}

#[test]
fn input_gradients_do_not_depend_on_how_images_are_shared_out() {
    let layer = testing::layer(5, [6, 16], [12, 12], [0, 0]);
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    let (grad, weight) = (numbers(21 * image_out, 1), numbers(layer.out_channels * layer.num_taps(), 2));
    let mut together = vec![0.0; 21 * image_in];
    grad_input(&layer, &grad, &weight, &mut together);
    let mut alone = vec![0.0; 21 * image_in];
    for (grad, out) in grad.chunks(image_out).zip(alone.chunks_mut(image_in)) {
        grad_input(&layer, grad, &weight, out);
    }
    assert_eq!(together, alone);
}

#[test]
fn columns_that_no_kernel_serves_are_left_to_others() {
    let layer = testing::layer(5, [2, 3], [6, 3], [1, 6]);
    let (grad, weight) = (numbers(layer.out_channels * layer.out_pixels(), 1), numbers(3 * layer.num_taps(), 2));
    let mut out = vec![f32::NAN; layer.in_channels * layer.in_pixels()];
    let is_served = super::super::grad_input(&layer, 1, [&grad, &weight], &mut out).is_some();
    // The kernel by rows takes any padding, where there is that kernel.
    assert_eq!(is_served, super::super::has_windows());
    assert_eq!(out.iter().all(|x| x.is_finite()), is_served);
}
