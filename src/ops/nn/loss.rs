//! Losses over elements, as compositions of elementwise ops and reductions; they have no kernels of their own.

use super::cross_entropy::Reduction;
use crate::graph::{Graph, Value};
use crate::ops::tensor::elementwise::{Binary, BinaryFunction};
use crate::{Error, Result};

impl Graph {
    /// (x − target)², reduced; the mean is over all elements, not over rows (`torch.nn.functional.mse_loss`). Of shape
    /// (), or that of `x` under [`Reduction::None`].
    ///
    /// # Errors
    /// [`Error::Operand`] where the operands are not floats of one shape, or without elements under a reduction.
    pub fn mse_loss(&mut self, x: Value, target: Value, reduction: Reduction) -> Result<Value> {
        self.check_same_shape("mse_loss", x, target)?;
        let difference = self.sub(x, target)?;
        let loss = self.square(difference)?;
        self.reduce_loss(loss, reduction)
    }

    /// |x − target|, reduced as [`Graph::mse_loss`]; its gradient where they are equal is 0
    /// (`torch.nn.functional.l1_loss`). Errors as [`Graph::mse_loss`].
    pub fn l1_loss(&mut self, x: Value, target: Value, reduction: Reduction) -> Result<Value> {
        self.check_same_shape("l1_loss", x, target)?;
        let difference = self.sub(x, target)?;
        let loss = self.abs(difference)?;
        self.reduce_loss(loss, reduction)
    }

    /// The binary cross-entropy of sigmoid(logits) against targets in [0, 1], reduced as [`Graph::mse_loss`], in the
    /// form max(x, 0) − x·target + ln(1 + e^−|x|), which overflows nowhere and where nothing cancels, so that small losses keep
    /// their digits: within 4 ulps for each element (`torch.nn.functional.binary_cross_entropy_with_logits`).
    /// Errors as [`Graph::mse_loss`].
    pub fn bce_with_logits(&mut self, logits: Value, targets: Value, reduction: Reduction) -> Result<Value> {
        self.check_same_shape("bce_with_logits", logits, targets)?;
        let loss = self.push1(Binary(BinaryFunction::BceWithLogits), &[logits, targets])?;
        self.reduce_loss(loss, reduction)
    }

    fn reduce_loss(&mut self, loss: Value, reduction: Reduction) -> Result<Value> {
        match reduction {
            Reduction::Mean => self.mean_all(loss),
            Reduction::Sum => self.sum_all(loss),
            Reduction::None => Ok(loss),
        }
    }

    /// Broadcasting a target is nearly always a mistake, such as (N) against (N, 1) making (N, N); it is refused.
    fn check_same_shape(&self, op: &str, x: Value, target: Value) -> Result<()> {
        self.check(x)?;
        self.check(target)?;
        if self.shape(x) == self.shape(target) {
            Ok(())
        } else {
            let expected = format!("a target of the shape of the input, {}", self.shape(x));
            Err(Error::operand(op, expected, self.shape(target).to_string()))
        }
    }
}
