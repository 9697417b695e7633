//! What the process itself takes, where the system tells (Linux).

/// Memory and descriptors; `None` where they are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_files: Option<usize>,
}

/// Looks into `/proc`, which is in memory and answers at once.
pub(super) fn look() -> Process {
    let status = std::fs::read_to_string("/proc/self/status").ok();
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1));
    Process { resident_bytes: status.as_deref().and_then(resident), open_files: open }
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_told_in_bytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   29000 kB\n"), Some(29_696_000));
        assert_eq!(resident("Name:\tx\n"), None);
    }
}
