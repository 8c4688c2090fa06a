//! Threads of the CPU kernels: a small pool that hands over work in about a microsecond, where waking a sleeping thread
//! takes ten to sixty. After a task its workers watch for the next one for [`SPIN`], then park, so that an idle program
//! costs nothing. Tasks are numbered. A thread begins with its own share of them, so that from one run to the next it finds
//! what it works on in its core's cache, and then helps with the others', so that no result may depend on which thread
//! takes which.
//!
//! The number of threads is `WGRAD_THREADS`, else `RAYON_NUM_THREADS`, else the number of cores this process may use; a
//! value that is no number is an error where a device is chosen (`exec/environment.rs`).
//! A pool with more threads than cores never spins. A task that asks for more tasks runs them itself, and so does a
//! thread that finds the pool at work for another.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long an idle worker watches for work before it parks: longer than what a step computes on one thread between
/// two tasks, far shorter than anything a person or another program would notice.
const SPIN: Duration = Duration::from_micros(60);

/// Polls of the ticket between two reads of the clock.
const LOOKS: usize = 64;

/// The most threads of a pool: more than any machine has cores for, and few enough to start.
pub(crate) const MAX_THREADS: usize = 1024;

/// Bits of a ticket for the next task and for the end of a share; the rest counts jobs.
const INDEX_BITS: u32 = 24;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

/// The most shares of a job: with more threads several begin with one, since each looks at all shares in the end.
const MOST_SHARES: usize = 16;

/// The most tasks of one job. Callers cut work into pieces of thousands of operations, so this is never reached; a
/// larger job is run in parts.
const MAX_TASKS: usize = 1 << (INDEX_BITS - 1);

/// A number of threads that CPU kernels share their work among. See the module.
#[derive(Clone)]
pub struct Threads(Arc<Pool>);

struct Pool {
    shared: Arc<Shared>,
    /// Held by the thread whose job the workers are on.
    submitting: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Of the job under way, or of the last one. The first is published last, and tells that there is a new job.
    shares: Box<[Share]>,
    /// The job's closure, and the function that calls it with the number of a task.
    data: AtomicPtr<()>,
    call: AtomicPtr<()>,
    num_done: AtomicUsize,
    num_parked: AtomicUsize,
    is_closed: AtomicBool,
    spins: bool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A part of a job's tasks, one after the other; on lines of the cache of its own.
#[repr(align(128))]
#[derive(Default)]
struct Share {
    /// The number of the job, the end of the share and the next task that nobody has taken, in one word, so that a worker
    /// that takes a task knows which job it is of.
    ticket: AtomicU64,
}

thread_local! {
    /// Whether this thread is within a task, where more tasks run in place.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
    static INSTALLED: RefCell<Option<Threads>> = const { RefCell::new(None) };
}

impl Threads {
    /// A pool of `num_threads` threads, the calling one among them; at least 1 and at most 1024.
    pub fn new(num_threads: usize) -> Threads {
        let num_threads = num_threads.min(MAX_THREADS);
        let num_workers = num_threads.max(1) - 1;
        let shared = Arc::new(Shared {
            shares: (0..num_threads.clamp(1, MOST_SHARES)).map(|_| Share::default()).collect(),
            data: AtomicPtr::default(),
            call: AtomicPtr::default(),
            num_done: AtomicUsize::new(0),
            num_parked: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            spins: num_threads <= num_cores(),
            panic: Mutex::new(None),
        });
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("wgrad-{}", index + 1));
            // A system that has no more threads to give computes with those there are.
            builder.spawn(move || shared.work(index + 1)).ok()
        };
        let workers = (0..num_workers).map_while(start).collect();
        Threads(Arc::new(Pool { shared, submitting: Mutex::new(()), workers }))
    }

    /// The pool of the whole process.
    pub fn global() -> &'static Threads {
        static GLOBAL: OnceLock<Threads> = OnceLock::new();
        GLOBAL.get_or_init(|| Threads::new(wanted_threads()))
    }

    /// The pool that the calling thread computes with: the one it runs within, else the process's.
    pub fn current() -> Threads {
        INSTALLED.with_borrow(Clone::clone).unwrap_or_else(|| Threads::global().clone())
    }

    /// The number of threads, the calling one among them.
    pub fn num_threads(&self) -> usize {
        self.0.workers.len() + 1
    }

    /// Runs `work` on the calling thread; what CPU kernels compute within it is shared among this pool's threads.
    pub fn install<R>(&self, work: impl FnOnce() -> R) -> R {
        let before = INSTALLED.replace(Some(self.clone()));
        let result = catch_unwind(AssertUnwindSafe(work));
        INSTALLED.set(before);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// The number of threads that the environment asks for, else the number of cores.
fn wanted_threads() -> usize {
    let asked = |name: &str| std::env::var(name).ok()?.trim().parse().ok().filter(|&count: &usize| count > 0);
    asked("WGRAD_THREADS").or_else(|| asked("RAYON_NUM_THREADS")).unwrap_or_else(num_cores)
}

fn num_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs `work` on the calling thread alone: what it would hand to others runs in place.
pub(crate) fn alone<R>(work: impl FnOnce() -> R) -> R {
    let before = IN_TASK.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IN_TASK.set(before);
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Threads that would share what the calling one hands out now.
pub(crate) fn available() -> usize {
    if IN_TASK.get() { 1 } else { Threads::current().num_threads() }
}

/// Calls `task(index)` for every index below `num_tasks`, on the threads of the current pool. Returns when all are
/// done; a panic of a task is passed on then.
pub(crate) fn run(num_tasks: usize, task: impl Fn(usize) + Sync) {
    if num_tasks <= 1 || IN_TASK.get() {
        return (0..num_tasks).for_each(task);
    }
    let on_pool = |threads: &Threads| {
        for first in (0..num_tasks).step_by(MAX_TASKS) {
            threads.0.run(MAX_TASKS.min(num_tasks - first), &|index| task(first + index));
        }
    };
    let is_done = INSTALLED.with_borrow(|installed| installed.as_ref().map(on_pool).is_some());
    if !is_done {
        on_pool(Threads::global());
    }
}

type Call = unsafe fn(*const (), usize);

impl Pool {
    fn run<T: Fn(usize) + Sync>(&self, num_tasks: usize, task: &T) {
        let lock = match self.submitting.try_lock() {
            _ if self.workers.is_empty() => None,
            Ok(lock) => Some(lock),
            // A panic of a task is passed on while the lock is held; the lock guards no data.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            // The workers are busy with another thread's job.
            Err(TryLockError::WouldBlock) => None,
        };
        if lock.is_none() {
            return (0..num_tasks).for_each(task);
        }
        let shared = &*self.shared;
        let call: Call = call_task::<T>;
        shared.data.store(std::ptr::from_ref(task).cast_mut().cast(), Ordering::Relaxed);
        shared.call.store(call as *mut (), Ordering::Relaxed);
        shared.num_done.store(0, Ordering::Relaxed);
        shared.publish(num_tasks);
        if shared.num_parked.load(Ordering::SeqCst) > 0 {
            self.workers.iter().take(num_tasks - 1).for_each(|worker| wake(worker.thread()));
        }
        shared.take_tasks(0);
        let mut checks = 0;
        while shared.num_done.load(Ordering::Acquire) < num_tasks {
            checks += 1;
            // A worker that has lost its core to another program needs that core back.
            if checks % 1024 == 0 || !shared.spins { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        let panic = shared.panic.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        drop(lock);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

fn wake(worker: &Thread) {
    worker.unpark();
}

#[expect(unsafe_code, reason = "a job's closure is known to the workers by address only")]
/// # Safety
/// `data` is the address of a `T` that lives while the call lasts.
unsafe fn call_task<T: Fn(usize) + Sync>(data: *const (), index: usize) {
    // SAFETY: by the contract above.
    let task = unsafe { &*data.cast::<T>() };
    task(index);
}

impl Shared {
    /// Hands out the tasks of a new job.
    fn publish(&self, num_tasks: usize) {
        let job = (self.shares[0].ticket.load(Ordering::Relaxed) >> (2 * INDEX_BITS)).wrapping_add(1);
        for (index, share) in self.shares.iter().enumerate().rev() {
            // At most MAX_TASKS, which leaves room for every worker to find that nothing is left.
            let [next, end] = [index, index + 1].map(|index| (index * num_tasks / self.shares.len()) as u64);
            share.ticket.store((job << (2 * INDEX_BITS)) | (end << INDEX_BITS) | next, Ordering::SeqCst);
        }
    }

    /// A worker's life.
    fn work(&self, own_share: usize) {
        let mut seen = 0;
        loop {
            seen = self.wait_for_job(seen);
            if self.is_closed.load(Ordering::Acquire) {
                return;
            }
            self.take_tasks(own_share);
        }
    }

    /// Waits for a job other than `seen`, spinning for a while and then parked.
    fn wait_for_job(&self, seen: u64) -> u64 {
        let job = || self.shares[0].ticket.load(Ordering::SeqCst) >> (2 * INDEX_BITS);
        let is_over = || job() != seen || self.is_closed.load(Ordering::Acquire);
        if self.spins {
            let started = Instant::now();
            while started.elapsed() < SPIN {
                for _ in 0..LOOKS {
                    if is_over() {
                        return job();
                    }
                    std::hint::spin_loop();
                }
            }
        }
        // Counted before the last poll, while a submitter publishes its job before it reads the count: one of the
        // two sees the other.
        self.num_parked.fetch_add(1, Ordering::SeqCst);
        while !is_over() {
            std::thread::park();
        }
        self.num_parked.fetch_sub(1, Ordering::SeqCst);
        job()
    }

    /// Takes tasks of the job under way until none is left, those of its own share first.
    fn take_tasks(&self, own_share: usize) {
        let count = self.shares.len();
        for share in (0..count).map(|offset| &self.shares[(own_share + offset) % count]) {
            while let Some(index) = share.take() {
                self.run_task(index);
            }
        }
    }

    /// Runs a task that a share has handed out.
    fn run_task(&self, index: usize) {
        let (data, call) = (self.data.load(Ordering::Relaxed), self.call.load(Ordering::Relaxed));
        IN_TASK.set(true);
        #[expect(unsafe_code, reason = "a job's closure is known to the workers by address only")]
        // SAFETY: the share's ticket said that task `index` of the job under way was not taken, so its submitter is still
        // in `Pool::run`, waiting for it to be counted below: `data` and `call` are of that job (they were stored before
        // the ticket, which was read with acquire), the closure lives, and `call` was made from a `Call` there.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe {
            std::mem::transmute::<*mut (), Call>(call)(data, index);
        }));
        IN_TASK.set(false);
        if let Err(panic) = result {
            self.panic.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(panic);
        }
        self.num_done.fetch_add(1, Ordering::Release);
    }
}

impl Share {
    /// The next task that nobody has taken.
    fn take(&self) -> Option<usize> {
        let left = |ticket: u64| {
            let (end, next) = ((ticket >> INDEX_BITS) & INDEX_MASK, ticket & INDEX_MASK);
            (next < end).then_some(next as usize)
        };
        // Looked at first: to count up takes the line from the other cores.
        left(self.ticket.load(Ordering::Relaxed))?;
        left(self.ticket.fetch_add(1, Ordering::AcqRel))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            wake(worker.thread());
            // A worker catches the panics of tasks, so it ends in order.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests;
