use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The pairs of `CNI_ARGS`: `KEY=value;KEY=value`, in any order.
///
/// ```
/// use ocicat_cni::Args;
///
/// let args: Args = "IgnoreUnknown=1;K8S_POD_NAME=web".parse()?;
/// assert_eq!(args.get("K8S_POD_NAME"), Some("web"));
/// assert!(args.ignore_unknown());
/// # Ok::<(), ocicat_cni::ArgsError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Args(BTreeMap<String, String>);

/// A part of `CNI_ARGS` is no pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pair:?} is not KEY=value")]
#[non_exhaustive]
pub struct ArgsError {
    /// The part between two semicolons.
    pub pair: String,
}

impl Args {
    /// No pairs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a key, which is case-sensitive. An empty value is `Some("")`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Sets a key, replacing its value.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.insert(key.into(), value.into());
    }

    /// Every pair, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there is no pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the runtime said `IgnoreUnknown` (1 or true): keys that the plugin does not know are no error.
    #[must_use]
    pub fn ignore_unknown(&self) -> bool {
        matches!(
            self.get("IgnoreUnknown"),
            Some("1" | "true" | "True" | "TRUE" | "t" | "T")
        )
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Args {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

impl FromStr for Args {
    type Err = ArgsError;

    /// Empty parts are skipped, of two pairs with one key the last counts, and a value may hold `=`.
    fn from_str(text: &str) -> Result<Self, ArgsError> {
        let mut args = Self::new();
        for pair in text.split(';').filter(|pair| !pair.trim().is_empty()) {
            match pair.split_once('=') {
                Some((key, value)) if !key.is_empty() => args.set(key, value),
                _ => {
                    return Err(ArgsError {
                        pair: pair.to_owned(),
                    });
                }
            }
        }
        Ok(args)
    }
}

impl fmt::Display for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.iter().enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { "" } else { ";" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_args() {
        type Case<'a> = (&'a str, Option<&'a [(&'a str, &'a str)]>);
        let cases: &[Case<'_>] = &[
            ("", Some(&[])),
            (";", Some(&[])),
            ("A=1", Some(&[("A", "1")])),
            ("A=1;", Some(&[("A", "1")])),
            ("B=2;A=1", Some(&[("A", "1"), ("B", "2")])),
            ("A=", Some(&[("A", "")])),
            ("A=b=c", Some(&[("A", "b=c")])),
            ("A=1;A=2", Some(&[("A", "2")])),
            ("A", None),
            ("=1", None),
            ("A=1;B", None),
        ];
        for (text, pairs) in cases {
            let parsed = text.parse::<Args>().ok();
            assert_eq!(
                parsed,
                pairs.map(|pairs| pairs.iter().copied().collect()),
                "{text:?}"
            );
            if let Some(args) = parsed {
                assert_eq!(args.to_string().parse(), Ok(args), "{text:?}");
            }
        }
    }
}
