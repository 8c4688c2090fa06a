//! One update of all parameters of LeNet-5, and of a network of four million. The gradients are those of the sum of all
//! parameters, so filling them is part of what is timed.

use wgrad::optim::{Optimizer, StepRates};

use crate::cases::{Case, Fill, Input, input};
use crate::{Bench, Limit};

pub fn benches() -> Vec<Bench> {
    let lenet: [&[usize]; 10] =
        [&[6, 1, 5, 5], &[6], &[16, 6, 5, 5], &[16], &[120, 256], &[120], &[84, 120], &[84], &[10, 84], &[10]];
    let lenet = || lenet.iter().map(|&shape| input(shape, Fill::Uniform)).collect();
    let large = || vec![input([2048, 2048], Fill::Uniform)];
    vec![
        update("sgd.lenet", Optimizer::sgd(0.0), lenet()),
        update("sgd.lenet_momentum", Optimizer::sgd(0.9), lenet()),
        update("sgd.4m_momentum", Optimizer::sgd(0.9), large()),
        update("adam.lenet", Optimizer::adam(), lenet()),
        update("adam.4m", Optimizer::adam(), large()),
    ]
}

fn update(name: &str, optimizer: Optimizer, parameters: Vec<Input>) -> Bench {
    // So small that many thousand steps leave the parameters where they are.
    let values = optimizer.get().scalar_values(&StepRates { step: 1, lr: 1e-9, momentum: None });
    let scalars = optimizer.get().scalars().iter().copied().zip(values).collect();
    let case = Case::new(name, parameters, move |g, v| {
        let sums = v.iter().map(|&parameter| g.sum_all(parameter)).collect::<wgrad::Result<Vec<_>>>()?;
        let loss = sums[1..].iter().try_fold(sums[0], |loss, &sum| g.add(loss, sum))?;
        let gradients = g.backward(loss)?;
        optimizer.update(g, &gradients)?;
        Ok(Vec::new())
    });
    Bench { case, limit: Limit::Bytes, scalars }
}
