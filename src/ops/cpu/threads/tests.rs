use super::*;

#[test]
fn every_task_runs_once_on_any_number_of_threads() {
    for num_threads in [1, 2, 3, 8] {
        let threads = Threads::new(num_threads);
        assert_eq!(threads.num_threads(), num_threads);
        for num_tasks in [0, 1, 2, 3, 100, 1000] {
            let counts: Vec<AtomicUsize> = (0..num_tasks).map(|_| AtomicUsize::new(0)).collect();
            threads.install(|| run(num_tasks, |index| _ = counts[index].fetch_add(1, Ordering::Relaxed)));
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{num_threads}, {num_tasks}");
        }
    }
}

#[test]
fn jobs_follow_each_other_while_workers_spin_and_park() {
    let threads = Threads::new(3);
    let total = AtomicUsize::new(0);
    for round in 0..2000 {
        if round % 500 == 0 {
            std::thread::sleep(5 * SPIN);
        }
        threads.install(|| run(5, |index| _ = total.fetch_add(index, Ordering::Relaxed)));
    }
    assert_eq!(total.load(Ordering::Relaxed), 2000 * 10);
}

#[test]
fn a_thread_begins_with_its_own_share() {
    let (threads, caller) = (Threads::new(2), std::thread::current().id());
    let barrier = std::sync::Barrier::new(2);
    for _ in 0..100 {
        let is_callers: Vec<AtomicBool> = (0..4).map(|_| AtomicBool::new(false)).collect();
        threads.install(|| {
            run(4, |index| {
                is_callers[index].store(std::thread::current().id() == caller, Ordering::Relaxed);
                // Neither thread is through with its own before the other is.
                barrier.wait();
            });
        });
        let is_callers: Vec<bool> = is_callers.iter().map(|is_caller| is_caller.load(Ordering::Relaxed)).collect();
        assert_eq!(is_callers, [true, true, false, false]);
    }
}

#[test]
fn tasks_of_tasks_run_in_place() {
    let total = AtomicUsize::new(0);
    Threads::new(2).install(|| {
        run(4, |_| {
            assert!(IN_TASK.get());
            run(4, |index| _ = total.fetch_add(index, Ordering::Relaxed));
        });
    });
    assert_eq!(total.load(Ordering::Relaxed), 4 * 6);
}

#[test]
fn alone_all_tasks_run_on_the_calling_thread() {
    let caller = std::thread::current().id();
    Threads::new(3).install(|| {
        alone(|| run(20, |_| assert_eq!(std::thread::current().id(), caller)));
        assert!(!IN_TASK.get());
        assert!(catch_unwind(|| alone(|| panic!("in work"))).is_err());
        assert!(!IN_TASK.get());
    });
}

#[test]
fn several_threads_share_one_pool() {
    let (threads, total) = (Threads::new(2), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    threads.install(|| run(8, |_| _ = total.fetch_add(1, Ordering::Relaxed)));
                }
            });
        }
    });
    assert_eq!(total.load(Ordering::Relaxed), 4 * 200 * 8);
}

#[test]
fn a_panic_of_a_task_reaches_the_caller_and_the_pool_lives() {
    let threads = Threads::new(2);
    let run_and_fail = || threads.install(|| run(8, |index| assert!(index != 5, "task 5")));
    assert!(catch_unwind(AssertUnwindSafe(run_and_fail)).is_err());
    let total = AtomicUsize::new(0);
    threads.install(|| run(8, |index| _ = total.fetch_add(index, Ordering::Relaxed)));
    assert_eq!(total.load(Ordering::Relaxed), 28);
}
