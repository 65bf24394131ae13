use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use crate::KernelError;

/// A setting of the network namespace that could not be read or written.
pub(crate) struct SysctlError {
    pub(crate) path: String,
    pub(crate) source: KernelError,
}

/// Where the settings of the calling thread's network namespace are found as files.
#[derive(Clone, Copy)]
pub(crate) struct Sysctl<'a>(&'a Path);

impl<'a> Sysctl<'a> {
    /// Below this folder; by default [`ROOT`].
    pub(crate) fn new(root: Option<&'a Path>) -> Self {
        Self(root.unwrap_or_else(|| Path::new(ROOT)))
    }

    /// Gives a setting a value; true if it had another. `name` has slashes: link names have dots.
    pub(crate) fn set(self, name: &str, value: &str) -> Result<bool, SysctlError> {
        if self.get(name)?.as_deref() == Some(value) {
            return Ok(false);
        }
        self.write(name, value)?;
        Ok(true)
    }

    /// As [`set`](Self::set), without looking first.
    pub(crate) fn write(self, name: &str, value: &str) -> Result<(), SysctlError> {
        std::fs::write(self.0.join(name), value).map_err(|error| self.failed(name, error))
    }

    /// The value of a setting; `None` where the kernel has no such setting.
    pub(crate) fn get(self, name: &str) -> Result<Option<String>, SysctlError> {
        match read(&self.0.join(name)) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    fn failed(self, name: &str, error: std::io::Error) -> SysctlError {
        SysctlError {
            path: self.0.join(name).display().to_string(),
            source: error.into(),
        }
    }
}

/// Where the kernel shows them.
const ROOT: &str = "/proc/sys/net";

/// The kernel hands a value over at once, without saying beforehand how long it is.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = vec![0; 4096];
    let length = File::open(path)?.read(&mut text)?;
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

impl From<SysctlError> for KernelError {
    fn from(error: SysctlError) -> Self {
        let message = error.source.message.as_deref();
        let message = message.map_or_else(
            || error.path.clone(),
            |message| format!("{}: {message}", error.path),
        );
        Self::new(error.source.errno, Some(&message))
    }
}
