use super::input::{cost, grad_input};
use crate::ops::cpu::conv::testing::{assert_close, for_products, layer, numbers};

#[test]
fn gradients_by_the_input_are_those_of_direct_sums() {
    let layers = [
        layer(5, [6, 16], [12, 12], [0, 0]),
        layer(5, [1, 3], [5, 9], [0, 0]),
        layer(5, [3, 7], [6, 7], [2, 1]),
        layer(3, [5, 2], [3, 3], [0, 0]),
        layer(3, [2, 5], [8, 5], [1, 1]),
        layer(3, [33, 4], [6, 5], [1, 0]),
        layer(1, [7, 3], [4, 6], [0, 0]),
        layer(1, [40, 2], [3, 5], [0, 0]),
        layer(2, [4, 9], [7, 4], [1, 1]),
        layer(7, [2, 3], [9, 12], [3, 3]),
        layer(4, [9, 2], [5, 13], [0, 2]),
    ];
    for layer in layers {
        assert!(cost(&layer).is_some());
        for num_images in [1, 4] {
            let (image_in, image_out) =
                (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
            let (grad, weight) =
                (numbers(num_images * image_out, 1), numbers(layer.out_channels * layer.num_taps(), 2));
            let mut out = vec![f32::NAN; num_images * image_in];
            grad_input(&layer, &grad, &weight, &mut out);
            for (grad, out) in grad.chunks(image_out).zip(out.chunks(image_in)) {
                let (mut want, mut magnitude) = (vec![0.0; image_in], vec![0.0; image_in]);
                for_products(&layer, |out, tap, at| {
                    let product = f64::from(weight[tap]) * f64::from(grad[out]);
                    want[at] += product;
                    magnitude[at] += product.abs();
                });
                assert_close(out, &want, &magnitude, &format!("{layer:?}, {num_images} images"));
            }
        }
    }
}
