//! The sum of a vector over ranks in a fixed tree (`dist::AllReduce`) beside `MPI_Allreduce`, which adds in whatever order
//! the MPI library takes, for the gradients of LeNet-5, of ResNet-20 and of a network of a million parameters.
//! `benches/mpi/run` starts it with `mpirun`; rank 0 prints the fastest and the median time of each in µs, as JSON.

use std::time::Instant;

use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::CommunicatorCollectives;
use wgrad::dist::AllReduce;
use wgrad::dist::mpi::World;

const LENS: [usize; 3] = [44_426, 269_722, 1 << 20];
const WARM_UP: usize = 20;
const REPEATS: usize = 300;

/// When all ranks are here.
fn together() -> Instant {
    SimpleCommunicator::world().barrier();
    Instant::now()
}

fn main() {
    let world = World::join().expect("the ranks of one MPI library");
    let Some(world) = world else {
        println!("start it by benches/mpi/run");
        return;
    };
    let mut comm = world.comm();
    for len in LENS {
        let mine: Vec<f32> = (0..len).map(|index| (index % 97 + comm.rank()) as f32).collect();
        let (mut sum, mut all_reduce) = (vec![0.0; len], AllReduce::new(comm.as_ref(), len));
        all_reduce.vector().copy_from_slice(&mine);
        let mut times = [const { Vec::new() }; 2];
        for repeat in 0..WARM_UP + REPEATS {
            let started = together();
            SimpleCommunicator::world().all_reduce_into(&mine, &mut sum, SystemOperation::sum());
            let library = started.elapsed();
            let started = together();
            let in_tree = all_reduce.sum(comm.as_mut()).expect("all ranks are there");
            let tree = started.elapsed();
            assert_eq!(in_tree, sum, "sums of small whole numbers are exact in any order");
            if repeat >= WARM_UP {
                times.iter_mut().zip([library, tree]).for_each(|(times, time)| times.push(time.as_secs_f64() * 1e6));
            }
        }
        if comm.rank() == 0 {
            let fastest_and_median = |times: &mut Vec<f64>| {
                times.sort_by(f64::total_cmp);
                [times[0], times[times.len() / 2]]
            };
            let [library, tree] = times.each_mut().map(fastest_and_median);
            println!("{}", serde_json::json!({ "len": len, "all_reduce": library, "tree": tree }));
        }
    }
}
