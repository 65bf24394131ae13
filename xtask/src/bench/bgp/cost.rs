//! What a process costs, as the kernel counts it.

use std::fs;

/// Processor time and memory of a process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    /// Seconds on a processor, all threads (schedstat, in nanoseconds there).
    pub(super) cpu: f64,
    /// Resident memory in MiB.
    pub(super) memory: f64,
}

impl Cost {
    /// `None` when the process is gone.
    pub(super) fn of(process: u32) -> Option<Self> {
        let mut nanoseconds = 0u64;
        for task in fs::read_dir(format!("/proc/{process}/task")).ok()? {
            let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) else {
                continue;
            };
            nanoseconds += text.split(' ').next()?.parse::<u64>().ok()?;
        }
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(Self {
            cpu: nanoseconds as f64 / 1e9,
            memory: kib / 1024.0,
        })
    }
}
