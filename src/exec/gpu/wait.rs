//! Waiting for the device: the one place that does. Elsewhere a thread blocks until the driver is done. A browser has no
//! thread to block: there the stack of the call is set aside until a promise is settled (JavaScript Promise Integration),
//! so that the code above is the same.

#[cfg(target_arch = "wasm32")]
pub(super) use in_page::{Submission, for_submission, for_value, submit};
#[cfg(not(target_arch = "wasm32"))]
pub(super) use native::{Submission, for_submission, for_value, submit};

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::time::Duration;

    /// How long a submission may take before the device counts as lost. Far beyond any legitimate one: they are sized
    /// to tens of milliseconds, and a software adapter's first one compiles shaders for a few seconds.
    const PATIENCE: Duration = Duration::from_secs(300);

    /// Work that the device was given.
    pub type Submission = wgpu::SubmissionIndex;

    pub use pollster::block_on as for_value;

    pub fn submit(queue: &wgpu::Queue, encoder: wgpu::CommandEncoder) -> Submission {
        queue.submit([encoder.finish()])
    }

    /// Waits until it is done; the error says why that cannot be.
    pub fn for_submission(device: &wgpu::Device, submission: Submission) -> Result<(), String> {
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) };
        device.poll(wait).map(|_| ()).map_err(|error| error.to_string())
    }
}

#[cfg(target_arch = "wasm32")]
mod in_page {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    use js_sys::{Function, Promise};
    use wasm_bindgen::{JsValue, UnwrapThrowExt};

    /// Work that the device was given: a promise that is settled when it is done.
    pub struct Submission(Promise);

    pub fn submit(queue: &wgpu::Queue, encoder: wgpu::CommandEncoder) -> Submission {
        queue.submit([encoder.finish()]);
        // Buffers that the submission maps are mapped by then: WebGPU settles promises in the order of their calls.
        Submission(Promise::new(&mut |resolve, _| {
            queue.on_submitted_work_done(move || call(&resolve));
        }))
    }

    /// Waits until it is done. A device that is lost settles its promises as well, and says so in a callback of its own.
    pub fn for_submission(_: &wgpu::Device, submission: Submission) -> Result<(), String> {
        until_settled(&submission.0);
        Ok(())
    }

    /// Waits for a future.
    pub fn for_value<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            let mut id = 0;
            let woken = Promise::new(&mut |resolve, _| id = Resolvers::add(resolve));
            let waker = Waker::from(Arc::new(Resolver(id)));
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(value) = polled {
                Resolvers::take(id);
                return value;
            }
            until_settled(&woken);
        }
    }

    #[expect(deprecated, reason = "marked as experimental; Cargo.toml pins the version that it was tried with")]
    fn until_settled(promise: &Promise) {
        // Nothing here rejects a promise.
        js_sys::futures::jspi_block_on_promise(promise).expect_throw("the promise is only ever resolved");
    }

    fn call(resolve: &Function) {
        resolve.call0(&JsValue::UNDEFINED).expect_throw("a promise's resolver throws nothing");
    }

    /// The functions that wakers call. A waker may be sent to other threads, which JavaScript's values may not, so that it
    /// has a number and the function stays here.
    #[derive(Default)]
    struct Resolvers {
        next: u64,
        waiting: HashMap<u64, Function>,
    }

    thread_local! {
        static RESOLVERS: RefCell<Resolvers> = RefCell::default();
    }

    impl Resolvers {
        fn add(resolve: Function) -> u64 {
            RESOLVERS.with_borrow_mut(|resolvers| {
                resolvers.next += 1;
                resolvers.waiting.insert(resolvers.next, resolve);
                resolvers.next
            })
        }

        fn take(id: u64) -> Option<Function> {
            RESOLVERS.with_borrow_mut(|resolvers| resolvers.waiting.remove(&id))
        }
    }

    struct Resolver(u64);

    impl Wake for Resolver {
        fn wake(self: Arc<Self>) {
            if let Some(resolve) = Resolvers::take(self.0) {
                call(&resolve);
            }
        }
    }
}
