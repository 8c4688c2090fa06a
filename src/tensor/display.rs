//! A tensor as text, as PyTorch prints one: four digits after the point, columns of one width, lines of 80 characters,
//! and of more than 1000 elements only the first and last three of each dimension (`torch.set_printoptions`'s
//! defaults). After other element types than 32-bit floats their name is printed. `{:.2}` prints two digits.

use std::fmt;

use super::{Shape, Tensor, TensorData};

const PRECISION: usize = 4;
/// Tensors of more elements are abbreviated.
const THRESHOLD: usize = 1000;
/// Elements shown at either end of an abbreviated dimension.
const EDGE_ITEMS: usize = 3;
const LINE_WIDTH: usize = 80;
const PREFIX: &str = "tensor(";

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dtype = match self.data {
            TensorData::F32(_) => "",
            TensorData::F64(_) => ", dtype=f64",
            TensorData::U32(_) => ", dtype=u32",
            TensorData::U8(_) => ", dtype=u8",
        };
        if self.shape.num_elems() == 0 {
            return write!(f, "{PREFIX}[], size={}{dtype})", self.shape);
        }
        let is_float = matches!(self.data, TensorData::F32(_) | TensorData::F64(_));
        let is_abbreviated = self.shape.num_elems() > THRESHOLD;
        let values = self.to_f64_vec();
        let shown = Shown { shape: &self.shape, values: &values, is_abbreviated };
        let format = Format::of(&shown.visible(), is_float, f.precision().unwrap_or(PRECISION));
        write!(f, "{PREFIX}{}{dtype})", shown.text(0, 0, PREFIX.len(), &format))
    }
}

/// A tensor of at least one element, on its way to text.
struct Shown<'a> {
    shape: &'a Shape,
    values: &'a [f64],
    is_abbreviated: bool,
}

impl Shown<'_> {
    /// The indices along an axis that are printed, with `None` for an ellipsis.
    fn indices(&self, axis: usize) -> Vec<Option<usize>> {
        let len = self.shape[axis];
        if !self.is_abbreviated || len <= 2 * EDGE_ITEMS {
            return (0..len).map(Some).collect();
        }
        (0..EDGE_ITEMS).map(Some).chain([None]).chain((len - EDGE_ITEMS..len).map(Some)).collect()
    }

    /// Every number that is printed.
    fn visible(&self) -> Vec<f64> {
        let mut starts = vec![0];
        for (axis, stride) in self.shape.strides().iter().enumerate() {
            let indices: Vec<usize> = self.indices(axis).into_iter().flatten().collect();
            starts = starts.iter().flat_map(|start| indices.iter().map(move |index| start + index * stride)).collect();
        }
        starts.iter().map(|&start| self.values[start]).collect()
    }

    /// The text from `axis` on of the part that begins at `start`.
    fn text(&self, axis: usize, start: usize, indent: usize, format: &Format) -> String {
        let rank = self.shape.rank();
        if axis == rank {
            return format.number(self.values[start]).trim_start().to_owned();
        }
        let stride = self.shape.strides()[axis];
        let indent = indent + 1;
        let part = |index: Option<usize>| match index {
            Some(index) if axis + 1 == rank => format.number(self.values[start + index]),
            Some(index) => self.text(axis + 1, start + index * stride, indent, format),
            None if axis + 1 == rank => " ...".to_owned(),
            None => "...".to_owned(),
        };
        let parts: Vec<String> = self.indices(axis).into_iter().map(part).collect();
        let lines = if axis + 1 == rank {
            let per_line = (LINE_WIDTH.saturating_sub(indent - 1) / (format.width + 2)).max(1);
            parts.chunks(per_line).map(|line| line.join(", ")).collect()
        } else {
            parts
        };
        // An empty line between matrices, two between what holds matrices, and so on.
        let line_feeds = "\n".repeat(if axis + 1 == rank { 1 } else { rank - axis - 1 });
        format!("[{}]", lines.join(&format!(",{line_feeds}{}", " ".repeat(indent))))
    }
}

/// How every number of a tensor is written.
struct Format {
    width: usize,
    precision: usize,
    notation: Notation,
}

enum Notation {
    /// An unsigned integer.
    Integer,
    /// A float that is whole: `3.`
    Whole,
    Fixed,
    Scientific,
}

impl Format {
    fn of(values: &[f64], is_float: bool, precision: usize) -> Format {
        let (mut low, mut high, mut is_whole) = (f64::INFINITY, 0.0_f64, true);
        for value in values.iter().filter(|value| value.is_finite() && **value != 0.0) {
            low = low.min(value.abs());
            high = high.max(value.abs());
            is_whole &= value.fract() == 0.0;
        }
        let spans_much = high > 0.0 && (high / low > 1000.0 || high > 1e8 || (!is_whole && low < 1e-4));
        let notation = match (is_float, spans_much, is_whole) {
            (false, ..) => Notation::Integer,
            (true, true, _) => Notation::Scientific,
            (true, false, true) => Notation::Whole,
            (true, false, false) => Notation::Fixed,
        };
        let mut format = Format { width: 0, precision, notation };
        // PyTorch does not count zeros and what is not finite, which are shorter but for "-inf".
        let counted = |value: &&f64| !is_float || (value.is_finite() && **value != 0.0);
        format.width = values.iter().filter(counted).map(|&value| format.number(value).len()).max().unwrap_or(1);
        format
    }

    fn number(&self, value: f64) -> String {
        let text = match self.notation {
            _ if value.is_nan() => "nan".to_owned(),
            _ if value.is_infinite() => if value > 0.0 { "inf" } else { "-inf" }.to_owned(),
            Notation::Integer => format!("{value:.0}"),
            Notation::Whole => format!("{value:.0}."),
            Notation::Fixed => format!("{value:.*}", self.precision),
            Notation::Scientific => scientific(value, self.precision),
        };
        format!("{text:>width$}", width = self.width)
    }
}

/// With an exponent of a sign and at least two digits, as C and Python write it.
fn scientific(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;

    fn count(shape: impl Into<Shape>, first: f32, step: f32) -> Tensor {
        let shape = shape.into();
        let values = (0..shape.num_elems()).map(|index| first + step * index as f32).collect();
        Tensor::f32(shape, values).unwrap()
    }

    /// What `print(tensor)` writes in PyTorch 2.15 for the same numbers.
    #[test]
    fn tensors_look_as_in_pytorch() {
        let cases = [
            (Tensor::scalar(3.5), "tensor(3.5000)"),
            (Tensor::f32([3], vec![1.0, -20.0, 3.0]).unwrap(), "tensor([  1., -20.,   3.])"),
            (
                Tensor::f32([2, 3], vec![0.31484, -0.1119, 0.0789, -0.0878, 12.0507, 0.0]).unwrap(),
                "tensor([[ 0.3148, -0.1119,  0.0789],\n        [-0.0878, 12.0507,  0.0000]])",
            ),
            (Tensor::f32([3], vec![1e-5, -2.0, 0.0]).unwrap(), "tensor([ 1.0000e-05, -2.0000e+00,  0.0000e+00])"),
            (Tensor::f32([2], vec![1.0, 2e9]).unwrap(), "tensor([1.0000e+00, 2.0000e+09])"),
            (
                Tensor::f32([4], vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5]).unwrap(),
                "tensor([   nan,    inf,   -inf, 0.5000])",
            ),
            (
                count([25], -1.0, 0.25),
                "tensor([-1.0000, -0.7500, -0.5000, -0.2500,  0.0000,  0.2500,  0.5000,  0.7500,\n         1.0000,  1.2500,  1.5000,  1.7500,  2.0000,  2.2500,  2.5000,  2.7500,\n         3.0000,  3.2500,  3.5000,  3.7500,  4.0000,  4.2500,  4.5000,  4.7500,\n         5.0000])",
            ),
            (
                count([2, 2, 2], 0.0, 0.5),
                "tensor([[[0.0000, 0.5000],\n         [1.0000, 1.5000]],\n\n        [[2.0000, 2.5000],\n         [3.0000, 3.5000]]])",
            ),
            (
                count([2, 1, 2, 2], 0.0, 1.0),
                "tensor([[[[0., 1.],\n          [2., 3.]]],\n\n\n        [[[4., 5.],\n          [6., 7.]]]])",
            ),
            (count([1001], 0.0, 0.5), "tensor([  0.0000,   0.5000,   1.0000,  ..., 499.0000, 499.5000, 500.0000])"),
            (
                count([40, 30], 0.0, 0.125),
                "tensor([[0.0000e+00, 1.2500e-01, 2.5000e-01,  ..., 3.3750e+00, 3.5000e+00,\n         3.6250e+00],\n        [3.7500e+00, 3.8750e+00, 4.0000e+00,  ..., 7.1250e+00, 7.2500e+00,\n         7.3750e+00],\n        [7.5000e+00, 7.6250e+00, 7.7500e+00,  ..., 1.0875e+01, 1.1000e+01,\n         1.1125e+01],\n        ...,\n        [1.3875e+02, 1.3888e+02, 1.3900e+02,  ..., 1.4212e+02, 1.4225e+02,\n         1.4238e+02],\n        [1.4250e+02, 1.4262e+02, 1.4275e+02,  ..., 1.4588e+02, 1.4600e+02,\n         1.4612e+02],\n        [1.4625e+02, 1.4638e+02, 1.4650e+02,  ..., 1.4962e+02, 1.4975e+02,\n         1.4988e+02]])",
            ),
            (
                count([2, 2, 300], 0.0, 0.25),
                "tensor([[[0.0000e+00, 2.5000e-01, 5.0000e-01,  ..., 7.4250e+01,\n          7.4500e+01, 7.4750e+01],\n         [7.5000e+01, 7.5250e+01, 7.5500e+01,  ..., 1.4925e+02,\n          1.4950e+02, 1.4975e+02]],\n\n        [[1.5000e+02, 1.5025e+02, 1.5050e+02,  ..., 2.2425e+02,\n          2.2450e+02, 2.2475e+02],\n         [2.2500e+02, 2.2525e+02, 2.2550e+02,  ..., 2.9925e+02,\n          2.9950e+02, 2.9975e+02]]])",
            ),
            (Tensor::zeros([2, 2]), "tensor([[0., 0.],\n        [0., 0.]])"),
        ];
        for (tensor, want) in cases {
            assert_eq!(tensor.to_string(), want);
        }
    }

    #[test]
    fn element_types_and_precision_are_said() {
        assert_eq!(Tensor::u32([3], vec![7, 0, 12]).unwrap().to_string(), "tensor([ 7,  0, 12], dtype=u32)");
        assert_eq!(Tensor::f64([1], vec![0.5]).unwrap().to_string(), "tensor([0.5000], dtype=f64)");
        assert_eq!(Tensor::zeros([0, 3]).to_string(), "tensor([], size=(0, 3))");
        assert_eq!(format!("{:.1}", Tensor::scalar(0.25)), "tensor(0.2)");
    }
}
