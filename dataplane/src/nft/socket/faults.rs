//! What tests make of the kernel's answers.

use super::{Failure, Transaction};

type Fault = Box<dyn FnMut(&Transaction) -> Option<Failure> + Send>;

/// Asked before each transaction is sent.
#[derive(Default)]
pub(crate) struct Faults(pub(crate) Option<Fault>);

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faults")
    }
}
