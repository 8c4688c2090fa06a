use super::{Layer, grad_weight};
use crate::ops::cpu::conv::testing::{assert_close, for_products, layer, numbers};

#[test]
fn weight_gradients_are_those_of_direct_sums() {
    // Pixels and taps that are left over, all numbers of channels that are taken together.
    let layers: [Layer; 10] = [
        layer(5, [1, 6], [28, 28], [0, 0]),
        layer(5, [3, 7], [6, 9], [2, 1]),
        layer(3, [2, 1], [9, 40], [1, 1]),
        layer(3, [1, 2], [3, 3], [0, 0]),
        layer(1, [1, 3], [4, 6], [0, 0]),
        layer(1, [7, 4], [5, 5], [0, 0]),
        layer(2, [1, 5], [7, 4], [1, 1]),
        layer(7, [1, 11], [9, 12], [3, 3]),
        layer(4, [2, 8], [5, 70], [0, 2]),
        layer(2, [2, 10], [3, 4], [0, 0]),
    ];
    for layer in layers {
        let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
        let (input, mut grad) = (numbers(3 * image_in, 1), numbers(3 * image_out, 2));
        let mut total = numbers(layer.out_channels * layer.num_taps(), 3);
        let mut want: Vec<f64> = total.iter().map(|&x| f64::from(x)).collect();
        let mut magnitude = vec![0.0; total.len()];
        for (input, grad) in input.chunks(image_in).zip(grad.chunks(image_out)) {
            for_products(&layer, |out, tap, at| {
                let product = f64::from(grad[out]) * f64::from(input[at]);
                want[tap] += product;
                magnitude[tap] += product.abs();
            });
        }
        // What was in the working memory before is not to be seen.
        let mut before = vec![f32::NAN; total.len()];
        grad_weight(&layer, &vec![f32::NAN; image_out], &vec![f32::NAN; image_in], &mut before);
        grad_weight(&layer, &grad, &input, &mut total);
        assert_close(&total, &want, &magnitude, &format!("{layer:?}"));
        // A gradient that is no number reaches the weights of its channel alone.
        grad[0] = f32::NAN;
        grad_weight(&layer, &grad, &input, &mut total);
        assert!(total.iter().enumerate().all(|(at, x)| x.is_nan() == (at < layer.num_taps())), "{layer:?}");
    }
}
