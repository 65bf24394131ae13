/// A TCP MD5 password (RFC 2385). It has no `Debug` and cannot be read back outside this crate.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

/// A password that TCP MD5 signatures cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a TCP MD5 password has 1 to 80 octets, this one has {length}")]
pub struct PasswordError {
    /// How many octets it has.
    pub length: usize,
}

impl Password {
    /// A password of 1 to 80 octets, which is what Linux takes.
    ///
    /// # Errors
    /// [`PasswordError`] when it is empty or longer.
    pub fn new(secret: impl Into<Vec<u8>>) -> Result<Self, PasswordError> {
        let secret: Vec<u8> = secret.into();
        match secret.len() {
            1..=80 => Ok(Self(secret.into())),
            length => Err(PasswordError { length }),
        }
    }

    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }
}
