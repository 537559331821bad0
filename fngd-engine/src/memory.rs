//! Memory of this process: how much it holds, and how much it held at most.

use std::fs;

/// Bytes in a mebibyte, as a float, for figures that people read.
pub const MIB: f64 = 1024.0 * 1024.0;

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
