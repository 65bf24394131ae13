use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Who a block belongs to: a host, or something that is no host and shares the address space with them.
///
/// Its text form is Calico's: `host:node1`, `virtual:load-balancer`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A node of the cluster, by name.
    Host(Arc<str>),
    /// A holder of blocks that no node routes, such as a load-balancer controller.
    Virtual(Arc<str>),
}

/// The text is neither `host:NAME` nor `virtual:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no owner of a block: expected host:NAME or virtual:NAME")]
pub struct OwnerError {
    /// What was given.
    pub text: String,
}

impl Owner {
    /// The host of this name.
    #[must_use]
    pub fn host(name: &str) -> Self {
        Self::Host(name.into())
    }

    /// The virtual owner of this name.
    #[must_use]
    pub fn virtual_owner(name: &str) -> Self {
        Self::Virtual(name.into())
    }

    /// The name without the kind.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Host(name) | Self::Virtual(name) => name,
        }
    }

    /// The name of the host; `None` for a virtual owner.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Host(name) => Some(name),
            Self::Virtual(_) => None,
        }
    }

    /// `host` or `virtual`, as in storage keys.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Host(_) => "host",
            Self::Virtual(_) => "virtual",
        }
    }
}

impl From<&str> for Owner {
    /// The host of this name.
    fn from(name: &str) -> Self {
        Self::host(name)
    }
}

impl From<&Self> for Owner {
    fn from(owner: &Self) -> Self {
        owner.clone()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.name())
    }
}

impl FromStr for Owner {
    type Err = OwnerError;

    fn from_str(text: &str) -> Result<Self, OwnerError> {
        match text.split_once(':') {
            Some(("host", name)) if !name.is_empty() => Ok(Self::host(name)),
            Some(("virtual", name)) if !name.is_empty() => Ok(Self::virtual_owner(name)),
            _ => Err(OwnerError {
                text: text.to_owned(),
            }),
        }
    }
}
