//! Where events go: one JSON object a line, on a stream that no library prints to.

use fngd_cli::protocol::Event;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The environment variable that names the file descriptor for events.
pub const EVENTS_FD: &str = "FNGD_EVENTS_FD";
const DEFAULT_FD: RawFd = 3;

/// A stream of events. Clones write to the same stream.
#[derive(Clone)]
pub struct Events(Arc<Mutex<Box<dyn Write + Send>>>);

impl Events {
    /// Writes to `sink`.
    pub fn to(sink: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(sink))))
    }

    /// Writes one event and flushes it.
    ///
    /// A reader that is gone is no error here: the end of standard input says the same and is acted upon.
    pub fn emit(&self, event: &Event) {
        // OK because events hold strings, numbers and lists; floats that JSON cannot hold become null.
        let mut line = serde_json::to_vec(event).expect("an event is JSON");
        line.push(b'\n');
        let mut sink = self.lock();
        let _ = sink.write_all(&line).and_then(|()| sink.flush());
    }

    /// A remark that the user should see once.
    pub fn warn(&self, message: impl Into<String>) {
        self.emit(&Event::Warning { message: message.into() });
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Write + Send>> {
        // A panic while writing leaves at worst half a line, and the next event matters more.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the stream for events (descriptor [`EVENTS_FD`], by default 3, else standard output) and sends standard output to standard
/// error, so that nothing a library prints can be taken for an event. Call it before anything else.
pub fn claim_stream() -> io::Result<File> {
    let named = std::env::var(EVENTS_FD).ok().and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_FD);
    let claimed = duplicate(named).or_else(|_| duplicate(libc::STDOUT_FILENO))?;
    // SAFETY: both are plain numbers; a closed descriptor is answered by an error.
    if unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if named > libc::STDERR_FILENO {
        // SAFETY: nobody else in this process knows of the inherited descriptor; `claimed` is its duplicate.
        unsafe { libc::close(named) };
    }
    Ok(claimed)
}

/// A copy above the standard streams that children do not inherit.
fn duplicate(descriptor: RawFd) -> io::Result<File> {
    // SAFETY: a plain number; a closed descriptor is answered by an error.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 10) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `copy` was opened just now and belongs to nobody else.
    Ok(unsafe { File::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    struct Lines(Sender<Vec<u8>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        let (sender, lines) = channel();
        Events::to(Lines(sender)).warn("two\nlines");
        assert_eq!(lines.recv().unwrap(), b"{\"event\":\"warning\",\"message\":\"two\\nlines\"}\n");
    }

    #[test]
    fn a_reader_that_is_gone_is_survived() {
        let (sender, lines) = channel();
        drop(lines);
        Events::to(Lines(sender)).warn("nobody hears this");
    }
}
