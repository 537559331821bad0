//! The few system calls that the standard library lacks. All `unsafe` of the launcher is here.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets the child inherit these descriptors, and sends it SIGTERM when this process dies.
pub fn inherit(command: &mut Command, descriptors: Vec<RawFd>) {
    // SAFETY: the closure runs in the forked child and calls only `fcntl` and `prctl`, which are async-signal-safe; the
    // descriptors stay open in the parent until the child has started, because the caller holds their owners.
    unsafe {
        command.pre_exec(move || {
            for descriptor in &descriptors {
                if libc::fcntl(*descriptor, libc::F_SETFD, 0) == -1 {
                    return Err(io::Error::last_os_error());
                }
            }
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Bounds the child's address space and processor time, and forbids core dumps; it dies with this process.
pub fn limit(command: &mut Command, address_space_bytes: u64, cpu_seconds: u64) {
    let limits = [(libc::RLIMIT_AS, address_space_bytes), (libc::RLIMIT_CPU, cpu_seconds), (libc::RLIMIT_CORE, 0)];
    // SAFETY: the closure runs in the forked child and calls only `setrlimit` and `prctl`, which are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            for (resource, most) in limits {
                let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
                if libc::setrlimit(resource, &limit) == -1 {
                    return Err(io::Error::last_os_error());
                }
            }
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Bounds what the child may write to: beyond it an allocation fails, and the kernel need not kill anybody.
///
/// Not the address space, because files and unused reserves count there too.
pub fn limit_memory(command: &mut Command, bytes: u64) {
    // SAFETY: the closure runs in the forked child and calls only `getrlimit` and `setrlimit` with a struct of its own.
    unsafe {
        command.pre_exec(move || {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            if libc::getrlimit(libc::RLIMIT_DATA, &mut limit) == -1 {
                return Err(io::Error::last_os_error());
            }
            // A limit that is there already may be lower; it stays.
            limit.rlim_cur = limit.rlim_cur.min(bytes);
            if libc::setrlimit(libc::RLIMIT_DATA, &limit) == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Sends a signal to a process, or to a whole group where `process` is negative.
pub fn send(process: i32, signal: i32) {
    // SAFETY: `kill` takes two integers and touches no memory of ours. A process that is gone is fine.
    unsafe {
        libc::kill(process, signal);
    }
}

/// Whether `signal` is ignored, as `nohup` and a shell's `&` arrange.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: zero bytes are a valid `sigaction`; without a new action the call only fills it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Takes the lock on an open file, or says that somebody else has it. The kernel frees it when every copy is closed.
pub fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: the descriptor is open as long as `file` lives.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EWOULDBLOCK) { Ok(false) } else { Err(error) }
}

/// Free bytes of the file system that holds `path`.
pub fn free_bytes(path: &std::path::Path) -> Option<u64> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).ok()?;
    // SAFETY: zero bytes are a valid `statvfs`, `path` ends in NUL, and both outlive the call.
    unsafe {
        let mut status: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut status) == 0).then(|| status.f_bavail.saturating_mul(status.f_frsize))
    }
}
