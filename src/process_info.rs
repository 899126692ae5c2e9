//! What the system knows of this process.

use std::time::Duration;

/// What the system knows. What it does not tell is absent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessInfo {
    pub resident_bytes: Option<u64>,
    pub open_descriptors: Option<usize>,
    pub threads: Option<u64>,
    pub cpu: Option<Duration>,
}

/// As it is now.
pub(crate) fn read() -> ProcessInfo {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of_status = |name: &str| -> Option<u64> {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().trim_end_matches(" kB").parse().ok()
    };
    ProcessInfo {
        resident_bytes: of_status("VmRSS:").map(|kib| kib * 1024),
        // One of them is that of the listing.
        open_descriptors: std::fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1)),
        threads: of_status("Threads:"),
        cpu: cpu(),
    }
}

/// In proc(5), the 14th and the 15th word, behind the name in brackets that may have anything in it.
fn cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace().skip(11);
    let ticks: u64 = words.next()?.parse::<u64>().ok()? + words.next()?.parse::<u64>().ok()?;
    // Linux has shown hundredths of a second to programs on every architecture since 2.6.
    Some(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_told() {
        let info = read();
        assert!(info.resident_bytes.is_some_and(|bytes| bytes > 1 << 20), "{info:?}");
        assert!(info.open_descriptors.is_some_and(|open| open >= 3), "{info:?}");
        assert!(info.threads.is_some_and(|threads| threads >= 2) && info.cpu.is_some(), "{info:?}");
    }
}
