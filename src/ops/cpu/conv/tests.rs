//! The kernels that layers of any shape get, against direct sums: shapes that nobody thought of, small ones above all,
//! where vectors reach over what lies beside a row.

use super::pooled::{self, Pooled};
use super::testing::{assert_within, for_products, numbers};
use super::*;

/// Layers that are tested: each takes a millisecond.
const NUM_LAYERS: u32 = 600;

/// A sequence of whole numbers without a pattern.
struct Choices(u32);

impl Choices {
    /// A number below `count`.
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % count
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A layer with an output of at least one element.
    fn layer(&mut self) -> Layer {
        let size = self.of(&[1, 2, 3, 3, 3, 4, 5, 5, 5, 5, 7]);
        let kernel = if self.below(8) == 0 { [size, self.of(&[1, 3, 5])] } else { [size; 2] };
        let [stride, dilation] =
            [0, 1].map(|_| if self.below(6) == 0 { [1 + self.below(3), 1 + self.below(3)] } else { [1; 2] });
        let (in_channels, out_channels) = (1 + self.below(20), 1 + self.below(20));
        let (mut input, mut padding, mut output) = ([0; 2], [0; 2], [0; 2]);
        for axis in [0, 1] {
            let reach = dilation[axis] * (kernel[axis] - 1);
            padding[axis] = if self.below(2) == 0 { 0 } else { self.below(reach + 2) };
            let most = if self.below(3) == 0 { 5 } else { 18 };
            // At least as much as gives an output.
            let least = (reach + 1).saturating_sub(2 * padding[axis]).max(1);
            input[axis] = least + self.below(most);
            output[axis] = (input[axis] + 2 * padding[axis] - reach - 1) / stride[axis] + 1;
        }
        Layer { in_channels, input, out_channels, output, kernel, stride, padding, end_padding: padding, dilation }
    }
}

/// Sums, and those of the magnitudes of their terms.
struct Sums {
    values: Vec<f64>,
    magnitudes: Vec<f64>,
}

impl Sums {
    fn of(values: &[f32]) -> Sums {
        let values: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
        Sums { magnitudes: values.iter().map(|x| x.abs()).collect(), values }
    }

    fn add(&mut self, at: usize, [a, b]: [f32; 2]) {
        let product = f64::from(a) * f64::from(b);
        self.values[at] += product;
        self.magnitudes[at] += product.abs();
    }

    /// F(4, 5) and F(2, 5) together are off by some more units than direct sums, and by those of all sums of a tile.
    fn assert_close(&self, got: &[f32], what: &str) {
        assert_eq!(got.len(), self.values.len());
        let largest = self.magnitudes.iter().copied().fold(0.0, f64::max);
        assert_within(32.0, got, &self.values, &vec![largest; got.len()], what);
    }
}

/// The gradients by weight and input of images, and what the kernels add the former to.
fn gradients(layer: &Layer, grad: &[f32], [input, weight]: [&[f32]; 2], total: &[f32]) -> [Sums; 2] {
    let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
    let (mut by_weight, mut by_input) = (Sums::of(total), Sums::of(&vec![0.0; input.len()]));
    for image in 0..input.len() / image_in {
        for_products(layer, |out, tap, at| {
            let (grad, at) = (grad[image * image_out + out], image * image_in + at);
            by_weight.add(tap, [grad, input[at]]);
            by_input.add(at, [grad, weight[tap]]);
        });
    }
    [by_weight, by_input]
}

#[test]
fn layers_of_any_shape_are_computed_as_direct_sums() {
    for seed in 0..NUM_LAYERS {
        let mut choices = Choices(seed);
        let (layer, num_images) = (choices.layer(), choices.of(&[1, 1, 2, 3, 5, 16, 17]));
        let what = |of: &str| format!("{of} of {layer:?}, {num_images} images");
        let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
        let (input, weight) = (numbers(num_images * image_in, 1), numbers(layer.out_channels * layer.num_taps(), 2));
        let (grad, bias) = (numbers(num_images * image_out, 3), numbers(layer.out_channels, 4));

        let biases: Vec<f32> = (0..grad.len()).map(|at| bias[at / layer.out_pixels() % layer.out_channels]).collect();
        let mut want = Sums::of(&biases);
        for image in 0..num_images {
            for_products(&layer, |out, tap, at| {
                want.add(image * image_out + out, [weight[tap], input[image * image_in + at]])
            });
        }
        let mut out = vec![f32::NAN; grad.len()];
        forward(&layer, 1, [&input, &weight], Finish { bias: Some(&bias), relu: false }, &mut out);
        want.assert_close(&out, &what("the result"));

        let total = numbers(weight.len(), 5);
        let [by_weight, by_input] = gradients(&layer, &grad, [&input, &weight], &total);
        let mut sums = total.clone();
        grad_weight(&layer, &grad, &input, &mut sums);
        by_weight.assert_close(&sums, &what("the gradient by the weight"));
        let mut out = vec![f32::NAN; input.len()];
        if grad_input(&layer, 1, [&grad, &weight], &mut out).is_some() {
            by_input.assert_close(&out, &what("the gradient by the input"));
        }
    }
}

#[test]
fn pooled_layers_of_any_shape_are_computed_as_direct_sums() {
    for seed in 0..NUM_LAYERS {
        let mut choices = Choices(seed);
        let (layer, num_images) = (choices.layer(), choices.of(&[1, 1, 2, 3, 5, 16, 17]));
        let windows = layer.output.map(|extent| extent / 2);
        if layer.stride != [1, 1] || layer.dilation != [1, 1] || windows.contains(&0) {
            continue;
        }
        let what = |of: &str| format!("{of} of {layer:?}, {num_images} images");
        let (image_in, image_out) = (layer.in_channels * layer.in_pixels(), layer.out_channels * layer.out_pixels());
        let (input, weight) = (numbers(num_images * image_in, 1), numbers(layer.out_channels * layer.num_taps(), 2));
        let bias = numbers(layer.out_channels, 3);
        let num_planes = num_images * layer.out_channels;
        let num_windows = num_planes * windows[0] * windows[1];
        let cell = |window: usize, cell: usize| {
            let (row, column) = (window / windows[1] % windows[0], window % windows[1]);
            (2 * row + cell / 2) * layer.output[1] + 2 * column + cell % 2
        };

        let (mut maxima, mut indices) = (vec![f32::NAN; num_windows], vec![u32::MAX; num_windows]);
        let finish = Finish { bias: Some(&bias), relu: true };
        if forward_pooled(&layer, [&input, &weight], finish, (&mut maxima, &mut indices)).is_some() {
            let biases: Vec<f32> =
                (0..num_images * image_out).map(|at| bias[at / layer.out_pixels() % layer.out_channels]).collect();
            let mut sums = Sums::of(&biases);
            for image in 0..num_images {
                for_products(&layer, |out, tap, at| {
                    sums.add(image * image_out + out, [weight[tap], input[image * image_in + at]])
                });
            }
            let largest = sums.magnitudes.iter().copied().fold(0.0, f64::max);
            let mut want = Sums::of(&maxima);
            for (window, &chosen) in indices.iter().enumerate() {
                let plane = window / (windows[0] * windows[1]) * layer.out_pixels();
                let cells = [0, 1, 2, 3].map(|at| cell(window, at));
                let of = |values: &[f64]| cells.map(|cell| values[plane + cell]).into_iter().fold(0.0, f64::max);
                (want.values[window], want.magnitudes[window]) = (of(&sums.values), largest);
                let chosen = chosen as usize;
                assert!(cells.contains(&chosen), "{}: {chosen} of {cells:?}", what("the place"));
                // The sum there is the largest, but for rounding.
                let sum = sums.values[plane + chosen].max(0.0) as f32;
                assert_within(
                    32.0,
                    &[sum],
                    &[want.values[window]],
                    &[want.magnitudes[window]],
                    &what("the chosen cell"),
                );
            }
            want.assert_close(&maxima, &what("the largest"));
        }

        // Any cells will do for the gradients.
        let grad = numbers(num_windows, 4);
        let indices: Vec<u32> = (0..num_windows).map(|window| cell(window, choices.below(4)) as u32).collect();
        let mut spread = vec![0.0; num_images * image_out];
        for window in 0..num_windows {
            spread[window / (windows[0] * windows[1]) * layer.out_pixels() + indices[window] as usize] = grad[window];
        }
        let pooled =
            Pooled { grad: &grad, indices: &indices, output: windows, kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
        let total = numbers(weight.len(), 5);
        let [by_weight, by_input] = gradients(&layer, &spread, [&input, &weight], &total);
        let mut sums = total.clone();
        pooled::grad_weight(&layer, pooled, &input, &mut sums);
        by_weight.assert_close(&sums, &what("the gradient by the weight"));
        let mut out = vec![f32::NAN; input.len()];
        pooled::grad_input(&layer, pooled, &weight, &mut out);
        by_input.assert_close(&out, &what("the gradient by the input"));
    }
}
