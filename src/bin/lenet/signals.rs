//! Ctrl-C and requests to end: the first lets the step under way finish and the run be saved, the second ends the
//! program at once.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use wgrad::{Error, Result};

/// What a shell reports for a program that a signal ended: this much more than the signal's number.
const EXIT_BASE: i32 = 128;

/// The signal that came last, for whoever looks.
#[derive(Clone)]
pub struct Signals {
    received: Arc<AtomicUsize>,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`Error::Io`] where the system does not let it.
    pub fn listen() -> Result<Signals> {
        let (received, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let failed = |source| Error::Io { action: "listen to", path: "signals".into(), source };
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the switch off, turns it on, and is noted.
            flag::register_conditional_shutdown(signal, EXIT_BASE + signal, Arc::clone(&again)).map_err(failed)?;
            flag::register(signal, Arc::clone(&again)).map_err(failed)?;
            // Signals have small positive numbers.
            flag::register_usize(signal, Arc::clone(&received), signal as usize).map_err(failed)?;
        }
        Ok(Signals { received })
    }

    /// Whether one came.
    pub fn any(&self) -> bool {
        self.received.load(Ordering::Relaxed) != 0
    }

    /// The exit code of a program that ended because of the one that came.
    pub fn exit_code(&self) -> ExitCode {
        // Far below 256.
        ExitCode::from((EXIT_BASE as usize + self.received.load(Ordering::Relaxed)) as u8)
    }
}
