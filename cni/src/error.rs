use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Version;

/// An error as a plugin reports it on stdout and a runtime reads it: a number, a short text, and details.
///
/// ```
/// use ocicat_cni::CniError;
///
/// let error = CniError::try_again("the agent is starting").with_details("not in sync with the datastore");
/// assert_eq!(error.code, CniError::TRY_AGAIN_LATER);
/// assert_eq!(error.to_string(), "the agent is starting: not in sync with the datastore");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniError {
    /// What kind of error: 1 to 99 belong to the specification (the constants here), 100 and above to the plugin.
    #[serde(default)]
    pub code: u32,
    /// A short text, without a final full stop.
    #[serde(default)]
    pub msg: String,
    /// More: causes, and the errors of undoing what was half done. Empty means none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl CniError {
    /// The plugin does not speak the configuration's `cniVersion`, or the command is newer than that version.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// The configuration has a field that the plugin does not support; the message names key and value.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown: a runtime need not call DEL for it.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A variable of the environment is missing or wrong; the message names it.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Reading stdin, a file or a socket failed.
    pub const IO_FAILURE: u32 = 5;
    /// Something that was read does not decode, such as JSON that is none.
    pub const DECODE_FAILURE: u32 = 6;
    /// The network configuration is not valid.
    pub const INVALID_CONFIG: u32 = 7;
    /// A passing condition; the runtime should try the same again later.
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// STATUS: the plugin cannot serve ADD now.
    pub const PLUGIN_NOT_AVAILABLE: u32 = 50;
    /// STATUS: the plugin cannot serve ADD now, and pods that exist may have limited connectivity.
    pub const LIMITED_CONNECTIVITY: u32 = 51;
    /// The lowest number that is a plugin's own.
    pub const FIRST_OWN: u32 = 100;
    /// The plugin failed in a way that no other number names. The reference implementation uses the same number.
    pub const INTERNAL: u32 = 999;

    /// An error with this number and text.
    #[must_use]
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// [`UNSUPPORTED_FIELD`](Self::UNSUPPORTED_FIELD), naming the key and its value as the specification asks.
    #[must_use]
    pub fn unsupported_field(key: &str, value: impl fmt::Display) -> Self {
        Self::new(
            Self::UNSUPPORTED_FIELD,
            format!("{key}: {value} is not supported"),
        )
    }

    /// [`UNKNOWN_CONTAINER`](Self::UNKNOWN_CONTAINER).
    #[must_use]
    pub fn unknown_container(msg: impl Into<String>) -> Self {
        Self::new(Self::UNKNOWN_CONTAINER, msg)
    }

    /// [`INVALID_ENVIRONMENT`](Self::INVALID_ENVIRONMENT), naming the variable.
    #[must_use]
    pub fn environment(variable: &str, why: impl fmt::Display) -> Self {
        Self::new(Self::INVALID_ENVIRONMENT, format!("{variable}: {why}"))
    }

    /// [`IO_FAILURE`](Self::IO_FAILURE): what was attempted and the cause.
    #[must_use]
    pub fn io(attempt: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self::new(Self::IO_FAILURE, attempt).with_details(cause.to_string())
    }

    /// [`DECODE_FAILURE`](Self::DECODE_FAILURE): what does not decode and the cause.
    #[must_use]
    pub fn decode(what: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self::new(Self::DECODE_FAILURE, what).with_details(cause.to_string())
    }

    /// [`INVALID_CONFIG`](Self::INVALID_CONFIG).
    #[must_use]
    pub fn config(msg: impl Into<String>) -> Self {
        Self::new(Self::INVALID_CONFIG, msg)
    }

    /// [`TRY_AGAIN_LATER`](Self::TRY_AGAIN_LATER).
    #[must_use]
    pub fn try_again(msg: impl Into<String>) -> Self {
        Self::new(Self::TRY_AGAIN_LATER, msg)
    }

    /// [`INTERNAL`](Self::INTERNAL).
    #[must_use]
    pub fn internal(msg: impl Into<String>) -> Self {
        Self::new(Self::INTERNAL, msg)
    }

    /// The same error with `details` added behind those that it has.
    #[must_use]
    pub fn with_details(mut self, details: impl AsRef<str>) -> Self {
        if !self.details.is_empty() && !details.as_ref().is_empty() {
            self.details.push_str("; ");
        }
        self.details.push_str(details.as_ref());
        self
    }

    /// The error as the JSON that goes to stdout.
    #[must_use]
    pub fn to_value(&self, version: Version) -> serde_json::Value {
        let mut value = serde_json::json!({
            "cniVersion": version.as_str(),
            "code": self.code,
            "msg": self.msg,
        });
        if !self.details.is_empty() {
            value["details"] = self.details.clone().into();
        }
        value
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for CniError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_accumulate_and_the_wire_form_names_the_version() {
        let error =
            CniError::io("opening the namespace", "no such file").with_details("undo: busy");
        assert_eq!(error.details, "no such file; undo: busy");
        assert_eq!(
            error.to_value(Version::V0_4_0).to_string(),
            r#"{"cniVersion":"0.4.0","code":5,"details":"no such file; undo: busy","msg":"opening the namespace"}"#
        );
    }
}
