//! Memory of this process: how much it holds, how much it held at most, and an allocator that keeps what it has.

use std::fs;

/// Bytes in a mebibyte, as a float, for figures that people read.
pub const MIB: f64 = 1024.0 * 1024.0;

/// Tells glibc to keep freed memory.
///
/// By default glibc returns every block over 128 KiB (later up to 32 MiB) to the kernel when it is freed. A training step frees and
/// takes the same activations again and again, and the kernel hands out each page zeroed, by a page fault. Keeping them
/// removes the faults ([`minor_faults`] shows it) for memory that the next step needs anyway.
pub fn keep_freed_pages() {
    const NEVER: libc::c_int = libc::c_int::MAX;
    const TOP_PAD: libc::c_int = 64 << 20;
    // SAFETY: these set numbers inside the allocator; glibc allows it at any time, and no other thread runs yet.
    unsafe {
        // No block of its own for anything: a threshold alone may not exceed 32 MiB.
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, NEVER);
        libc::mallopt(libc::M_TOP_PAD, TOP_PAD);
    }
}

/// Gives free memory back to the kernel after all, so that [`peak_bytes`] starts from what is in use.
pub fn return_free_pages() {
    // SAFETY: glibc allows it at any time.
    unsafe { libc::malloc_trim(0) };
}

/// Bytes of memory that the process holds now; 0 if the kernel does not say.
pub fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

/// Most bytes that the process has held since it started, or since [`reset_peak`].
pub fn peak_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// Makes [`peak_bytes`] start again from what is held now. False where the kernel refuses.
pub fn reset_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Page faults so far that needed no disk: mostly pages that the kernel had to hand out anew.
pub fn minor_faults() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the struct is plain numbers, zeroed here and filled by the call.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    u64::try_from(usage.ru_minflt).unwrap_or(0)
}

fn status_bytes(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_remembers_what_was_freed_until_it_is_reset() {
        const SIZE: usize = 64 << 20;
        let before = resident_bytes();
        assert!(before > 0);
        // OK as a lower bound: other tests run beside this one and can only add.
        let block = vec![1u8; SIZE];
        assert_eq!(block.iter().map(|&byte| usize::from(byte)).sum::<usize>(), SIZE);
        drop(block);
        assert!(peak_bytes() >= SIZE as u64, "peak {} of a process that touched {SIZE}", peak_bytes());
    }
}
