use async_trait::async_trait;

use crate::{ApplyError, Counters, Report, State};

/// A kernel that follows a desired state.
///
/// Level-triggered: the caller builds the whole [`State`] and applies it; what is so already is not touched, what is
/// not ours never. One owner at a time: a dataplane assumes that nobody else writes objects with its marks, except an
/// [`Attach`](crate::Attach), which makes pods' links and the routes to them.
#[async_trait]
pub trait Dataplane: Send {
    /// Makes the kernel equal to `desired`, touching only what we own.
    ///
    /// An object that cannot be made as desired (its link is not there yet, somebody else has the key) is listed in
    /// the [`Report`] and tried again by the next call; it stops no other. Where nothing changed since the last call,
    /// neither the state nor the kernel, no system call is made.
    ///
    /// # Errors
    /// When the kernel could not be read or written at all; the next call starts from what the kernel then holds.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a part of the changes done; the next call starts from what the kernel then holds.
    async fn apply(&mut self, desired: &State) -> Result<Report, ApplyError>;

    /// Distrusts what is known about the kernel: the next `apply` reads it again and repairs what somebody changed.
    fn invalidate(&mut self);

    /// Waits until the kernel changed under us in a way that makes an `apply` worth while: a link that the last state
    /// names appeared, went, came up or went down; a route, an address or a link of ours was changed by somebody
    /// else; notices were lost.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: what was noticed is kept for the next `apply` and `changed`.
    async fn changed(&mut self);

    /// What the kernel has counted so far. Reads the whole table: some milliseconds for thousands of rules.
    ///
    /// # Errors
    /// [`ApplyError::Policy`] when the kernel could not be read. A dataplane without counters answers with none.
    fn counters(&mut self) -> Result<Counters, ApplyError> {
        Ok(Counters::default())
    }
}
