use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::KernelError;

/// A setting under /proc/sys/net that could not be read or written.
pub(crate) struct SysctlError {
    pub(crate) path: String,
    pub(crate) source: KernelError,
}

/// Gives a setting of the calling thread's network namespace a value; true if it had another.
///
/// `name` is relative to /proc/sys/net, with slashes: link names have dots.
pub(crate) fn set(name: &str, value: &str) -> Result<bool, SysctlError> {
    if get(name)?.as_deref() == Some(value) {
        return Ok(false);
    }
    write(name, value)?;
    Ok(true)
}

/// As [`set`], without looking first.
pub(crate) fn write(name: &str, value: &str) -> Result<(), SysctlError> {
    std::fs::write(path(name), value).map_err(|error| failed(name, error))
}

/// The value of a setting; `None` where the kernel has no such setting.
pub(crate) fn get(name: &str) -> Result<Option<String>, SysctlError> {
    match read(&path(name)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(name, error)),
    }
}

/// The kernel hands a value over at once, without saying beforehand how long it is.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = vec![0; 4096];
    let length = File::open(path)?.read(&mut text)?;
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(name)
}

fn failed(name: &str, error: std::io::Error) -> SysctlError {
    SysctlError {
        path: path(name).display().to_string(),
        source: error.into(),
    }
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
