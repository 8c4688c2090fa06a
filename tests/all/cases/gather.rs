//! Batches from byte data sets: one and two shards, rows that are no whole number of words, a start beyond the end.

use super::{Case, Fill, input};
use wgrad::DType;
use wgrad::ops::{BatchSource, GatherBatch};

pub fn cases() -> Vec<Case> {
    // Images in each shard, their shape, the batch size. The harness starts at position 3.
    let settings: [(&[usize], [usize; 3], usize); 7] = [
        (&[1], [1, 1, 1], 1),
        (&[9], [1, 3, 5], 4),
        (&[9, 4], [3, 3, 3], 7),
        (&[5, 13], [3, 8, 8], 9),
        (&[7, 1], [2, 1, 7], 8),
        (&[11], [4, 5, 5], 11),
        (&[20, 20], [1, 28, 28], 17),
    ];
    settings.into_iter().map(|(shards, image, batch_size)| case(shards, image, batch_size)).collect()
}

fn case(shards: &'static [usize], [channels, height, width]: [usize; 3], batch_size: usize) -> Case {
    let total: usize = shards.iter().sum();
    let mut inputs: Vec<_> = shards.iter().map(|&count| input([count, channels, height, width], Fill::Byte)).collect();
    inputs.push(input([total], Fill::Index(10)));
    inputs.push(input([total], Fill::Index(total as u32)));
    let name = format!("gather {shards:?} of {channels} x {height} x {width}, batch {batch_size}");
    let build = move |graph: &mut wgrad::Graph, values: &[wgrad::Value]| {
        let (images, rest) = values.split_at(shards.len());
        let normalize = GatherBatch {
            mean: [0.4914, 0.4822, 0.4465, 0.0][..channels].to_vec(),
            std: [0.2470, 0.2435, 0.2616, 1.0][..channels].to_vec(),
        };
        let start = graph.scalar("start", DType::U32)?;
        let source = BatchSource { images, labels: rest[0], permutation: rest[1], start, batch_size };
        let (batch, labels) = graph.gather_batch(normalize, source)?;
        Ok(vec![batch, labels])
    };
    Case::new(name, inputs, build).without_gradient_check()
}
