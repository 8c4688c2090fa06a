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

fn main() {
    let world = World::join().expect("the ranks of one MPI library");
    let Some(world) = world else {
        println!("start it by benches/mpi/run");
        return;
    };
    let mut comm = world.comm();
    for len in LENS {
        let mine: Vec<f32> = (0..len).map(|index| (index % 97 + comm.rank()) as f32).collect();
        let (mut sum, mut vector) = (vec![0.0; len], mine.clone());
        let mut all_reduce = AllReduce::new(comm.as_ref(), len);
        let mut times = [const { Vec::new() }; 2];
        for repeat in 0..WARM_UP + REPEATS {
            let mut time = |index: usize, body: &mut dyn FnMut()| {
                SimpleCommunicator::world().barrier();
                let started = Instant::now();
                body();
                if repeat >= WARM_UP {
                    times[index].push(started.elapsed().as_secs_f64() * 1e6);
                }
            };
            vector.copy_from_slice(&mine);
            time(0, &mut || SimpleCommunicator::world().all_reduce_into(&mine, &mut sum, SystemOperation::sum()));
            time(1, &mut || all_reduce.sum(comm.as_mut(), &mut vector).expect("all ranks are there"));
            assert_eq!(vector, sum, "sums of small whole numbers are exact in any order");
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
