use std::io::ErrorKind;
use std::path::PathBuf;

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
    let path = path(name);
    std::fs::write(&path, value).map_err(|error| failed(name, error))?;
    Ok(true)
}

/// The value of a setting; `None` where the kernel has no such setting.
pub(crate) fn get(name: &str) -> Result<Option<String>, SysctlError> {
    match std::fs::read_to_string(path(name)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(name, error)),
    }
}

/// Whether the kernel has IPv6 at all.
#[cfg(feature = "attach")]
pub(crate) fn has_ipv6() -> bool {
    path("ipv6").is_dir()
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
