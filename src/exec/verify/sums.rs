//! What rounding makes of an optimizer's step where gradients come as sums over slices that it adds up as it reads them
//! ([`PartialUpdate`](crate::ops::update::partial_update::PartialUpdate)). Such a sum may be nothing but rounding, as for
//! a bias before a batch normalization, and a rule may make much of little: Adam divides by the gradient's own size. No
//! bound from the size of the results holds then, so the reference takes the step with sums as far off as they may be.

use crate::exec::{Program, StepTable};
use crate::graph::plan::{Operand, Step};
use crate::ops::{Op, Operation};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// For each state that the step at `index` updates, by how much each element may differ since sums over slices were
/// rounded; nothing for a step that reads none. The reference is as it was, before the step.
pub(super) fn slack(reference: &mut Program, index: usize, step: &Step, table: &StepTable) -> Result<Vec<Vec<f64>>> {
    let Op::PartialUpdate(op) = &step.op else { return Ok(Vec::new()) };
    let updated = read(reference, step, op.updates())?;
    let partials = read(reference, step, op.partials().collect())?;
    let mut results = Vec::new();
    for direction in [0.0, -1.0, 1.0] {
        for (operand, tensor) in &partials {
            reference.executor.write(0, operand, &off(tensor, direction)?)?;
        }
        reference.executor.run_op(0, index, table)?;
        let states: Result<Vec<Vec<f64>>> =
            updated.iter().map(|(operand, _)| Ok(reference.executor.read(0, operand)?.to_f64_vec())).collect();
        results.push(states?);
        for (operand, tensor) in updated.iter().chain(&partials) {
            reference.executor.write(0, operand, tensor)?;
        }
    }
    let [exact, low, high] = <[Vec<Vec<f64>>; 3]>::try_from(results).expect("three directions");
    let largest = |((exact, low), high): ((&f64, &f64), &f64)| (low - exact).abs().max((high - exact).abs());
    let of_state = |((exact, low), high): ((&Vec<f64>, &Vec<f64>), &Vec<f64>)| {
        exact.iter().zip(low).zip(high).map(largest).collect()
    };
    Ok(exact.iter().zip(&low).zip(&high).map(of_state).collect())
}

fn read<'a>(reference: &mut Program, step: &'a Step, inputs: Vec<usize>) -> Result<Vec<(&'a Operand, Tensor)>> {
    let value = |input: usize| Ok((&step.inputs[input], reference.executor.read(0, &step.inputs[input])?));
    inputs.into_iter().map(value).collect()
}

/// Sums over slices (slices, elements) whose total is off by what rounding allows.
fn off(partials: &Tensor, direction: f64) -> Result<Tensor> {
    let &[slices, elems] = partials.shape().dims() else {
        return Err(Error::operand("verify", "sums of shape (slices, elements)", partials.shape().to_string()));
    };
    if partials.dtype() == DType::U32 || slices == 0 {
        return Ok(partials.clone());
    }
    let mut data = partials.to_f64_vec();
    for elem in 0..elems {
        let error = rounding(data.iter().skip(elem).step_by(elems));
        if error.is_finite() {
            data[elem] += direction * error;
        }
    }
    Tensor::f64(partials.shape(), data)
}

/// The most that a sum in f32 of S terms is off, in whatever order they are added: each of S − 1 additions rounds, by ε/2
/// of a sum that is at most that of the magnitudes (Higham, "Accuracy and stability of numerical algorithms", 2002, 4.2).
/// Terms and sums below the least normal number may be taken for 0.
fn rounding<'a>(terms: impl Iterator<Item = &'a f64>) -> f64 {
    let (count, magnitudes) = terms.fold((0.0, 0.0), |(count, sum), term| (count + 1.0, sum + term.abs()));
    (count - 1.0) * f64::from(f32::EPSILON) / 2.0 * magnitudes + 2.0 * count * f64::from(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bias's gradient before a batch normalization: what is left is as large as rounding, and a slice that is missing
    /// is many times that.
    #[test]
    fn sums_that_cancel_are_within_what_rounding_allows_and_no_term_may_be_missing() {
        let mut terms: Vec<f32> = (0..27_u16).map(|i| (f32::from(i * 41 % 101) - 50.0) / 101.0 + 0.001).collect();
        let rest: f64 = terms.iter().map(|&term| f64::from(term)).sum();
        terms.push(-rest as f32);
        let exact: Vec<f64> = terms.iter().map(|&term| f64::from(term)).collect();
        let want: f64 = exact.iter().sum();
        let allowed = rounding(exact.iter());
        let mut differs = false;
        for turn in 0..terms.len() {
            terms.rotate_left(1);
            let error = (f64::from(terms.iter().sum::<f32>()) - want).abs();
            assert!(error <= allowed, "{turn}: {error:e} of {allowed:e}");
            differs |= error > 10.0 * want.abs();
        }
        assert!(differs, "the sum is nothing but rounding");
        let least = exact.iter().fold(f64::INFINITY, |least, term| least.min(term.abs()));
        assert!(allowed < least / 10.0, "{allowed:e} would hide a slice of {least:e}");
    }
}
