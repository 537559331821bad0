//! What the outside asks for: stop, stop at once, save. Handlers only set flags; the loop looks at them between steps.

use fngd_cli::protocol::Status;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// A terminal sends Ctrl-C to launcher and engine alike, and the launcher may pass its own on: what comes within this time of the
/// first request is the same request.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Requests from outside. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    /// The signal that asks to stop; 0 for none.
    stop: AtomicI32,
    save: AtomicBool,
}

impl Requests {
    /// Listens to SIGINT, SIGTERM, SIGHUP and SIGUSR1, and to the end of standard input, which means that the launcher is gone.
    ///
    /// SIGINT and SIGHUP stay ignored where they are ignored already: `nohup` and a shell's `&` ask for that.
    ///
    /// `graceful`: the first request to stop is left to the caller and the second ends the process; otherwise the first does.
    pub fn listen(graceful: bool) -> io::Result<Self> {
        let requests = Self::default();
        let heard = [SIGINT, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal));
        let mut signals = signal_hook::iterator::Signals::new(heard.chain([SIGTERM, SIGUSR1]))?;
        let listener = requests.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut first: Option<Instant> = None;
            for signal in signals.forever() {
                if signal == SIGUSR1 {
                    listener.0.save.store(true, Ordering::Relaxed);
                    continue;
                }
                let again = first.is_some_and(|first| first.elapsed() > SAME_REQUEST);
                if again || !graceful {
                    end_at_once(signal);
                }
                first.get_or_insert_with(Instant::now);
                listener.stop(signal);
            }
        })?;
        let watcher = requests.clone();
        std::thread::Builder::new().name("launcher-watch".to_owned()).spawn(move || {
            let mut rest = [0u8; 64];
            // Anything after the job is ignored; the end, or an error, means that the launcher is gone.
            while matches!(io::stdin().read(&mut rest), Ok(1..)) {}
            if graceful {
                watcher.stop(SIGTERM);
            } else {
                end_at_once(SIGTERM);
            }
        })?;
        Ok(requests)
    }

    /// Asks to stop. The first request stays.
    pub fn stop(&self, signal: i32) {
        let _ = self.0.stop.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How the run ends, if it was asked to stop.
    pub fn stopped(&self) -> Option<Status> {
        match self.0.stop.load(Ordering::Relaxed) {
            0 => None,
            SIGINT => Some(Status::Interrupted),
            _ => Some(Status::Terminated),
        }
    }

    /// True once for each request (or burst of requests) for a checkpoint.
    pub fn take_save(&self) -> bool {
        self.0.save.swap(false, Ordering::Relaxed)
    }
}

/// Ends the process from whatever thread, with the code that a shell gives to a process that `signal` killed.
fn end_at_once(signal: i32) -> ! {
    // Nothing half-written matters: checkpoints and exports become visible by a rename only, and every event was flushed.
    // SAFETY: `_exit` takes a number and does not return. Not `exit`: that would run the destructors of libtorch's statics while
    // its threads still compute with them.
    unsafe { libc::_exit(128 + signal) }
}

/// Whether `signal` is ignored, as the process that started this one may have arranged.
fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only fills the struct, which is plain numbers, zeroed here.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_to_stop_stays() {
        let requests = Requests::default();
        assert_eq!(requests.stopped(), None);
        requests.stop(SIGINT);
        requests.stop(SIGTERM);
        assert_eq!(requests.stopped(), Some(Status::Interrupted));
        let hung_up = Requests::default();
        hung_up.stop(SIGHUP);
        assert_eq!(hung_up.stopped(), Some(Status::Terminated));
    }
}
