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
    /// `graceful`: the first request to stop is left to the caller and the second ends the process; otherwise the first does.
    pub fn listen(graceful: bool) -> io::Result<Self> {
        let requests = Self::default();
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1])?;
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
                    // Nothing half-written matters: checkpoints and exports become visible by a rename only.
                    std::process::exit(exit_code(signal));
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
                std::process::exit(exit_code(SIGTERM));
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

fn exit_code(signal: i32) -> i32 {
    128 + signal
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
