//! Transfers over MPI: sends and receives that return at once, and the requests by which MPI tells that they are done.
//! The crate `mpi` ties a request to a borrow of its memory, which does not suit memory that goes along with it.

use mpi::ffi;

use super::mpi::{MAX_BYTES, MAX_TAG, check_limit};
use super::{Message, Region, Transfer};
use crate::Result;

/// A transfer on its way.
pub(super) struct InFlight {
    /// Its memory is MPI's until all requests are done.
    transfer: Transfer,
    requests: Vec<ffi::MPI_Request>,
}

#[expect(unsafe_code, reason = "requests may be pointers")]
// SAFETY: a request is a handle of the library, which any thread may hand back to it; `World` is joined and asked for
// transfers by one thread at a time.
unsafe impl Send for InFlight {}

impl InFlight {
    /// # Errors
    /// [`crate::Error::Limit`] where a message is too long, or the tag too large.
    pub fn start(mut transfer: Transfer) -> Result<InFlight> {
        check_limit("the tag of a transfer", usize::from(transfer.tag) + 2, (usize::from(MAX_TAG), "tags"))?;
        for message in transfer.to.iter().chain(&transfer.from) {
            assert!(
                message.bytes.end <= transfer.memory[message.region].len(),
                "messages lie in the transfer's memory"
            );
            check_limit("a message of a transfer", message.bytes.len(), (MAX_BYTES, "bytes in one call"))?;
        }
        let is_writable = |message: &Message| transfer.memory[message.region].is_writable();
        assert!(transfer.from.iter().all(is_writable), "messages arrive in memory that may be written");
        let tag = mpi_tag(transfer.tag);
        let mut requests = Vec::with_capacity(transfer.from.len() + transfer.to.len());
        // Once for each, so that no reference is made to memory that MPI has been given.
        let starts: Vec<*mut u8> = transfer.memory.iter_mut().map(Region::start).collect();
        for Message { rank, region, bytes } in &transfer.from {
            requests.push(request(|request| {
                #[expect(unsafe_code, reason = "the crate `mpi` has no receive into memory that goes along")]
                // SAFETY: the bytes lie in memory that does not move while the request is in flight: on the heap, owned by
                // the transfer or lent to it alone. The transfer is given back once all requests are done, and otherwise
                // never dropped (`drop`). Messages that arrive are apart from all others (`Transfer`). Lengths, ranks and
                // tags are within MPI's.
                unsafe {
                    let at = starts[*region].add(bytes.start).cast();
                    let (len, rank) = (bytes.len() as i32, *rank as i32);
                    ffi::MPI_Irecv(at, len, ffi::RSMPI_UINT8_T, rank, tag, ffi::RSMPI_COMM_WORLD, request)
                }
            }));
        }
        for Message { rank, region, bytes } in &transfer.to {
            requests.push(request(|request| {
                #[expect(unsafe_code, reason = "the crate `mpi` has no send from memory that goes along")]
                // SAFETY: as above; nothing writes to memory that is sent.
                unsafe {
                    let at = starts[*region].add(bytes.start).cast_const().cast();
                    let (len, rank) = (bytes.len() as i32, *rank as i32);
                    ffi::MPI_Isend(at, len, ffi::RSMPI_UINT8_T, rank, tag, ffi::RSMPI_COMM_WORLD, request)
                }
            }));
        }
        Ok(InFlight { transfer, requests })
    }

    /// Whether all its messages have been sent and have arrived. Asking is also what moves them on.
    pub fn is_complete(&mut self) -> bool {
        let (mut is_complete, count) = (0, self.requests.len() as i32);
        #[expect(unsafe_code, reason = "requests of calls above")]
        // SAFETY: these are as many requests, which MPI made and only this clears.
        let code = unsafe {
            ffi::MPI_Testall(count, self.requests.as_mut_ptr(), &mut is_complete, ffi::RSMPI_STATUSES_IGNORE)
        };
        check(code);
        if is_complete != 0 {
            self.requests.clear();
        }
        is_complete != 0
    }

    /// The transfer, once it is complete.
    pub fn into_transfer(mut self) -> Transfer {
        assert!(self.requests.is_empty(), "the transfer is complete");
        std::mem::take(&mut self.transfer)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // The program ends with an error. MPI may still use this.
        if !self.requests.is_empty() {
            std::mem::forget(std::mem::take(&mut self.transfer));
        }
    }
}

fn request(start: impl FnOnce(&mut ffi::MPI_Request) -> i32) -> ffi::MPI_Request {
    #[expect(unsafe_code, reason = "a constant of the library")]
    // SAFETY: it is set when the library is loaded, and only read.
    let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
    check(start(&mut request));
    request
}

/// Tags begin after that of messages.
fn mpi_tag(tag: u16) -> i32 {
    i32::from(tag) + 1
}

/// MPI ends the program on its own errors, as it is set up.
fn check(code: i32) {
    assert_eq!(code, 0, "MPI returned an error");
}
