use std::fmt;

use serde::{Deserialize, Serialize};

/// A text is no container id, network name, interface name or plugin name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {why}")]
#[non_exhaustive]
pub struct IdentityError {
    /// The text that was refused.
    pub text: String,
    /// What is wrong with it, to be read after the text.
    pub why: &'static str,
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes the text when it is valid.
            ///
            /// # Errors
            /// [`IdentityError`] says which rule it breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, IdentityError> {
                let text = text.into();
                match $check(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(why) => Err(IdentityError { text, why }),
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdentityError;

            fn from_str(text: &str) -> Result<Self, IdentityError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdentityError;

            fn try_from(text: String) -> Result<Self, IdentityError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

identity! {
    /// What a runtime calls a container: an alphanumeric character, then alphanumerics, `_`, `.` and `-`.
    ContainerId, check_word
}
identity! {
    /// The name of a network: unique on a host; the same characters as a [`ContainerId`].
    NetworkName, check_word
}
identity! {
    /// The name of an interface inside the container: 1 to 15 bytes, not `.` or `..`, without `/`, `:` and white space.
    InterfaceName, check_interface
}
identity! {
    /// The name of a plugin's program: the `type` of a configuration. A file name, never a path.
    PluginName, check_program
}

fn check_word(text: &str) -> Result<(), &'static str> {
    let mut bytes = text.bytes();
    match bytes.next() {
        None => return Err("is empty"),
        Some(first) if !first.is_ascii_alphanumeric() => {
            return Err("must start with a letter or a digit");
        }
        Some(_) => {}
    }
    if bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        Ok(())
    } else {
        Err("may hold only letters, digits, underscores, dots and hyphens")
    }
}

fn check_interface(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("is empty"),
        "." | ".." => Err("is not an interface name"),
        _ if text.len() > 15 => Err("is longer than the 15 bytes of an interface name"),
        _ if text.contains(['/', ':']) => Err("may not hold a slash or a colon"),
        _ if text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            Err("may not hold white space or control characters")
        }
        _ => Ok(()),
    }
}

fn check_program(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("is empty"),
        "." | ".." => Err("is not a file name"),
        _ if text.contains(['/', '\\', '\0']) => Err("must be a file name, not a path"),
        _ => Ok(()),
    }
}

/// What one interface of one container is called: what GC is told to keep, and what everything else is keyed by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentId {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: ContainerId,
    /// The interface inside it.
    pub ifname: InterfaceName,
}

impl AttachmentId {
    /// The name of this interface of this container.
    #[must_use]
    pub const fn new(container_id: ContainerId, ifname: InterfaceName) -> Self {
        Self {
            container_id,
            ifname,
        }
    }

    /// A name for the host's end of this attachment, from names alone, so that DEL needs no memory: the prefix, then hexadecimal
    /// digits of a hash (FNV-1a, 64 bits) of network, container and interface, 15 bytes in all.
    ///
    /// ```
    /// use ocicat_cni::{AttachmentId, NetworkName};
    ///
    /// let pod = AttachmentId::new("box".parse()?, "eth0".parse()?);
    /// let link = pod.host_link("veth", &NetworkName::new("net")?);
    /// assert_eq!(link, "veth95c0793cf9a");
    /// # Ok::<(), ocicat_cni::IdentityError>(())
    /// ```
    #[must_use]
    pub fn host_link(&self, prefix: &str, network: &NetworkName) -> String {
        // Neither a network's name nor a container id can hold the colon and the slash between the parts.
        let text = format!("{network}:{self}");
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        format!("{prefix}{hash:016x}").chars().take(15).collect()
    }
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container_id, self.ifname)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_names() {
        for good in ["a", "0", "k8s-pod-network", "A_b.c-9", &"x".repeat(300)] {
            assert!(ContainerId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", ".a", "a b", "a/b", "é", "a\0", "../x"] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
            assert!(NetworkName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["eth0", "net1", "123456789012345", "a.100"] {
            assert!(InterfaceName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "1234567890123456",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "a\nb",
        ] {
            assert!(InterfaceName::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["", ".", "..", "/bin/sh", "../sh", "a\0"] {
            assert!(PluginName::new(bad).is_err(), "{bad:?}");
        }
    }
}
