//! The sum of a vector over ranks in a fixed tree (`dist::AllReduce`) beside `MPI_Allreduce`, which adds in whatever order
//! the MPI library takes, for the gradients of LeNet-5, of ResNet-20 and of a network of a million parameters.
//! `benches/mpi/run` starts it with `mpirun`; rank 0 prints the fastest and the median time of each in µs, as JSON. On two
//! ranks it also prints for how long a message keeps a CPU busy.

use std::time::Instant;

use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::CommunicatorCollectives;
use wgrad::dist::mpi::World;
use wgrad::dist::{AllReduce, Bytes, Comm, Message, Region, Transfer};

const LENS: [usize; 3] = [44_426, 269_722, 1 << 20];
const WARM_UP: usize = 20;
const REPEATS: usize = 300;

/// Messages that are sent and received at a time: many, so that their latency counts for little.
const MESSAGES: usize = 256;
/// Their bytes, which every library sends at once, without asking the receiver.
const MESSAGE_BYTES: usize = 64;

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
            let [library, tree] = times.map(fastest_and_median);
            println!("{}", serde_json::json!({ "len": len, "all_reduce": library, "tree": tree }));
        }
    }
    if comm.size() == 2 {
        let times = (0..WARM_UP + REPEATS).map(|_| time_of_a_message(comm.as_mut())).skip(WARM_UP).collect();
        if comm.rank() == 0 {
            println!("{}", serde_json::json!({ "message": fastest_and_median(times) }));
        }
    }
}

fn fastest_and_median(mut times: Vec<f64>) -> [f64; 2] {
    times.sort_by(f64::total_cmp);
    [times[0], times[times.len() / 2]]
}

/// Microseconds that sending or receiving takes this rank for each of many messages to and from the other one.
fn time_of_a_message(comm: &mut dyn Comm) -> f64 {
    let (other, mut memory) = (1 - comm.rank(), Bytes::default());
    memory.resize(2 * MESSAGES * MESSAGE_BYTES);
    let message = |index: usize| index * MESSAGE_BYTES..(index + 1) * MESSAGE_BYTES;
    let messages = |first: usize| {
        let all = (first..first + MESSAGES).map(message);
        all.map(|bytes| Message { rank: other, region: 0, bytes }).collect()
    };
    let (to, from) = (messages(0), messages(MESSAGES));
    let started = together();
    comm.start(Transfer { tag: 1, memory: vec![Region::Own(memory)], to, from }).expect("both ranks are there");
    comm.wait().expect("both ranks are there");
    started.elapsed().as_secs_f64() * 1e6 / (2 * MESSAGES) as f64
}
