//! Processes, as `/proc` shows them.

use std::time::Duration;

use super::Result;

/// Bytes that a process holds in memory now (`VmRSS`).
pub fn resident_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The most bytes that a process ever held in memory (`VmHWM`).
pub fn resident_peak_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmHWM:")
}

fn status_bytes(pid: u32, key: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).ok_or("no such line in status")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Processor time that a process, and those of its children that ended, have used.
pub fn processor_time(pid: u32) -> Result<Duration> {
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold spaces; utime, stime, cutime and cstime are fields 14 to 17.
    let fields = stat.rsplit_once(')').ok_or("stat has no name")?.1.split_whitespace();
    let ticks: u64 = fields.skip(11).take(4).map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// As megabytes, for reading.
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
