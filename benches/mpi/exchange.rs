//! The exchange of a training step beside `MPI_Allreduce`, for sums as long as LeNet-5's parameters: an all-gather and a
//! fixed tree on every rank, against a sum in whatever order the MPI library takes. `benches/mpi/run` starts it with
//! `mpirun`; rank 0 prints the fastest and the median time of each in µs, as JSON.

use std::time::Instant;

use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::CommunicatorCollectives;
use wgrad::dist::mpi::World;

/// Parameters of LeNet-5.
const NUM_ELEMS: usize = 44_426;
const WARM_UP: usize = 50;
const REPEATS: usize = 1000;

fn main() {
    let world = World::join().expect("the ranks of one MPI library");
    let Some(world) = world else {
        println!("start it by benches/mpi/run");
        return;
    };
    let mut comm = world.comm();
    let (rank, size) = (comm.rank(), comm.size());
    let mine: Vec<f32> = (0..NUM_ELEMS).map(|index| (index % 97 + rank) as f32).collect();
    let (mut sum, mut all, mut parts) = (vec![0.0; NUM_ELEMS], Vec::new(), vec![vec![0.0; NUM_ELEMS]; size]);
    let mut times = [const { Vec::new() }; 3];
    for repeat in 0..WARM_UP + REPEATS {
        let mut time = |index: usize, body: &mut dyn FnMut()| {
            SimpleCommunicator::world().barrier();
            let started = Instant::now();
            body();
            if repeat >= WARM_UP {
                times[index].push(started.elapsed().as_secs_f64() * 1e6);
            }
        };
        time(0, &mut || SimpleCommunicator::world().all_reduce_into(&mine, &mut sum, SystemOperation::sum()));
        let mut gather = |all: &mut Vec<u8>| {
            comm.all_gather(bytemuck::cast_slice(&mine), all).expect("all ranks are there");
        };
        time(1, &mut || gather(&mut all));
        time(2, &mut || {
            gather(&mut all);
            add_in_a_tree(&all, &mut parts);
        });
    }
    assert_eq!(parts[0][NUM_ELEMS - 1], sum[NUM_ELEMS - 1], "sums of small whole numbers are exact in any order");
    if rank == 0 {
        let fastest_and_median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            [times[0], times[times.len() / 2]]
        };
        let [all_reduce, all_gather, exchange] = times.each_mut().map(fastest_and_median);
        println!("{}", serde_json::json!({ "all_reduce": all_reduce, "all_gather": all_gather, "exchange": exchange }));
    }
}

/// The sum of all ranks' parts, in the first of `parts`.
fn add_in_a_tree(all: &[u8], parts: &mut [Vec<f32>]) {
    for (part, bytes) in parts.iter_mut().zip(all.chunks_exact(NUM_ELEMS * size_of::<f32>())) {
        bytemuck::cast_slice_mut(part).copy_from_slice(bytes);
    }
    let mut stride = 1;
    while stride < parts.len() {
        for left in (0..parts.len() - stride).step_by(2 * stride) {
            let (first, second) = parts.split_at_mut(left + stride);
            first[left].iter_mut().zip(&second[0]).for_each(|(sum, part)| *sum += part);
        }
        stride *= 2;
    }
}
