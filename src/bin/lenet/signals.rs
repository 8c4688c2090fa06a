//! Ctrl-C and requests to end: the first lets the current step finish and saves the run, a second ends the program
//! at once. The same signal within a second of the last is no second request: a wrapper such as `timeout` and the
//! process group often both deliver it. A closed terminal (SIGHUP) is a request like any other, unless `nohup` or its
//! like had it ignored.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use wgrad::{Error, Result};

/// What a shell reports for a program that a signal ended: this much more than the signal's number.
const EXIT_BASE: i32 = 128;

/// Up to this long after the last, the same signal belongs to the same request.
const ONE_REQUEST: Duration = Duration::from_secs(1);

/// The signal that was received, if any.
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
        let received = Arc::new(AtomicUsize::new(0));
        let failed = |source| Error::Io { action: "listen to", path: "signals".into(), source };
        watch(Arc::clone(&received)).map_err(failed)?;
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

/// Waits for signals on a thread of its own, which can end the program whatever the others do.
#[cfg(unix)]
fn watch(received: Arc<AtomicUsize>) -> std::io::Result<()> {
    use signal_hook::consts::SIGHUP;
    let mut listened = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        listened.push(SIGHUP);
    }
    let mut signals = signal_hook::iterator::Signals::new(listened)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut requests = Requests::default();
        for signal in signals.forever() {
            match requests.receive(signal, Instant::now()) {
                // Signals have small positive numbers.
                Answer::Finish => received.store(signal as usize, Ordering::Relaxed),
                Answer::Same => {}
                Answer::EndNow => std::process::exit(EXIT_BASE + signal),
            }
        }
    })?;
    Ok(())
}

/// Where there are no process groups, whose members all get a signal, the second signal is a second request.
#[cfg(not(unix))]
fn watch(received: Arc<AtomicUsize>) -> std::io::Result<()> {
    use signal_hook::flag;
    let again = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the switch off, turns it on, and is noted.
        flag::register_conditional_shutdown(signal, EXIT_BASE + signal, Arc::clone(&again))?;
        flag::register(signal, Arc::clone(&again))?;
        flag::register_usize(signal, Arc::clone(&received), signal as usize)?;
    }
    Ok(())
}

/// Whether the program was started with a signal ignored, as Linux tells; elsewhere it counts as not ignored.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}

/// What a signal means after those before it.
#[cfg(unix)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The first request: finish the step and save.
    Finish,
    /// The same request once more.
    Same,
    /// A second request: end at once.
    EndNow,
}

#[cfg(unix)]
#[derive(Default)]
struct Requests {
    last: Option<(i32, Instant)>,
}

#[cfg(unix)]
impl Requests {
    fn receive(&mut self, signal: i32, now: Instant) -> Answer {
        match self.last.replace((signal, now)) {
            None => Answer::Finish,
            Some((last, at)) if last == signal && now.duration_since(at) < ONE_REQUEST => Answer::Same,
            Some(_) => Answer::EndNow,
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_comes_twice_within_a_second_is_one_request() {
        let start = Instant::now();
        let answers = |signals: &[(i32, u64)]| -> Vec<Answer> {
            let mut requests = Requests::default();
            let receive = |&(signal, ms): &(i32, u64)| requests.receive(signal, start + Duration::from_millis(ms));
            signals.iter().map(receive).collect()
        };
        use Answer::{EndNow, Finish, Same};
        // From `timeout` and from the process group.
        assert_eq!(answers(&[(SIGTERM, 0), (SIGTERM, 3)]), [Finish, Same]);
        // Ctrl-C is held down, then pressed again.
        assert_eq!(
            answers(&[(SIGINT, 0), (SIGINT, 900), (SIGINT, 1800), (SIGINT, 2900)]),
            [Finish, Same, Same, EndNow]
        );
        // Another signal is another request, however soon.
        assert_eq!(answers(&[(SIGINT, 0), (SIGTERM, 3)]), [Finish, EndNow]);
    }

    #[test]
    fn an_ignored_signal_is_told_from_one_that_is_not() {
        // Nothing in a test's process ignores SIGTERM; Rust's runtime ignores SIGPIPE.
        assert!(!is_ignored(SIGTERM));
        assert!(!cfg!(target_os = "linux") || is_ignored(signal_hook::consts::SIGPIPE));
    }
}
