//! The last words of a process that a signal ends inside libtorch: which node ran.

use fngd_cli::protocol::CRASHED_IN;
use std::io;

const SIGNALS: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

/// From now on a deadly signal is preceded by a line on standard error.
pub fn announce_crashes() -> io::Result<()> {
    for signal in SIGNALS {
        // SAFETY: zero bytes are a valid `sigaction`. The handler does only what is allowed in one: it reads atomic bytes and calls
        // `write`. It is reset when it is called and then returns, so the signal comes again and ends the process as it would have.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = say_where as extern "C" fn(libc::c_int) as libc::sighandler_t;
            // On the stack that Rust keeps for handlers: the other one may be full.
            action.sa_flags = libc::SA_RESETHAND | libc::SA_ONSTACK;
            if libc::sigaction(signal, &action, std::ptr::null_mut()) == -1 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

extern "C" fn say_where(signal: libc::c_int) {
    let mut line = [0; 400];
    let start = CRASHED_IN.len();
    line[..start].copy_from_slice(CRASHED_IN.as_bytes());
    let mut end = start + fngd_module::running::node(&mut line[start..390]);
    if end == start {
        let elsewhere = b"no node: backward, or the update";
        line[start..start + elsewhere.len()].copy_from_slice(elsewhere);
        end = start + elsewhere.len();
    }
    line[end] = b'\n';
    // SAFETY: the bytes are ours, and `write` and `raise` may be called in a handler. A fault comes again by itself when the handler
    // returns; a signal that somebody sent does not, so it is sent again.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), end + 1);
        libc::raise(signal);
    }
}
