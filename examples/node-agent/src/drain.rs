//! Whether the node is being drained: kept in a file, so that a restart changes nothing about it.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::snapshot::write_atomically;

/// Whether announcements say that the node goes away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drain {
    path: Option<PathBuf>,
    since: Option<SystemTime>,
}

impl Drain {
    /// As the last run left it.
    pub(crate) fn open(path: PathBuf) -> Self {
        let found = std::fs::metadata(&path);
        let since = found.and_then(|found| found.modified()).ok();
        Self {
            path: Some(path),
            since,
        }
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// For how many seconds.
    pub(crate) fn age(&self) -> Option<f64> {
        let since = self.since?;
        Some(since.elapsed().unwrap_or_default().as_secs_f64())
    }

    /// Begins or ends it.
    ///
    /// # Errors
    /// When the file cannot be written or removed; then nothing has changed.
    pub(crate) fn set(&mut self, on: bool) -> std::io::Result<()> {
        if on == self.is_on() {
            return Ok(());
        }
        if let Some(path) = &self.path {
            if on {
                write_atomically(path, b"{\"version\":1}\n", 0o600)?;
            } else if let Err(error) = std::fs::remove_file(path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(error);
            }
        }
        self.since = on.then(SystemTime::now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_changes_nothing_about_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drain");
        let mut drain = Drain::open(path.clone());
        assert!(!drain.is_on() && drain.age().is_none());
        drain.set(true).unwrap();
        drain.set(true).unwrap();
        assert!(Drain::open(path.clone()).is_on());
        drain.set(false).unwrap();
        assert!(!Drain::open(path).is_on());
    }
}
