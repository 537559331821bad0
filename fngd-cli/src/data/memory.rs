//! How much memory there is for data.

/// Memory and swap that nobody uses, or less where the control group has a limit. `None` if the kernel does not say.
pub fn available() -> Option<u64> {
    let information = std::fs::read_to_string("/proc/meminfo").ok()?;
    let bytes = |key: &str| {
        let line = information.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let free = bytes("MemAvailable:")?.saturating_add(bytes("SwapFree:").unwrap_or(0));
    // `max`, for no limit, is no number.
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    Some(free.min(group.unwrap_or(u64::MAX)))
}

/// Most bytes that one set may take: half of what is available, because reading makes a second copy for a moment.
pub(super) fn limit() -> u64 {
    const WHERE_UNKNOWN: u64 = 8 << 30;
    available().map_or(WHERE_UNKNOWN, |bytes| bytes / 2)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_available_is_less_than_what_there_is() {
        let information = std::fs::read_to_string("/proc/meminfo").unwrap();
        let total = |key: &str| -> u64 {
            let line = information.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        let available = super::available().unwrap();
        assert!(available > 0 && available <= total("MemTotal:") + total("SwapTotal:"), "{available}");
    }
}
