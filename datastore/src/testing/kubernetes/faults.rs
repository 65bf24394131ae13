//! What goes wrong in an API server, on demand.

use std::time::Duration;

use super::refusal::Refusal;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// It is answered so much later.
    Late(Duration),
    /// It is refused with this code, and nothing happens.
    Refused {
        /// The HTTP status: 401, 403, 429, 500, 503, ...
        code: u16,
        /// `Retry-After`, seconds.
        retry_after: Option<u32>,
    },
    /// It is done, and the answer is 500.
    AnswerLost,
}

/// Trouble for some requests.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fault {
    /// What becomes of them.
    pub trouble: Trouble,
    /// Only requests of this verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: Option<String>,
    /// Only requests for this resource: `pods`, `ipamblocks.projectcalico.org`, `nodes/status`.
    pub resource: Option<String>,
    /// Only so many, the next ones.
    pub times: Option<u32>,
}

impl Fault {
    /// Trouble for every request.
    #[must_use]
    pub const fn new(trouble: Trouble) -> Self {
        Self {
            trouble,
            verb: None,
            resource: None,
            times: None,
        }
    }

    /// Only for requests of this verb.
    #[must_use]
    pub fn verb(mut self, verb: impl Into<String>) -> Self {
        self.verb = Some(verb.into());
        self
    }

    /// Only for requests for this resource.
    #[must_use]
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Only for the next so many requests.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    fn concerns(&self, verb: &str, resource: &str) -> bool {
        self.verb.as_deref().is_none_or(|wanted| wanted == verb)
            && self
                .resource
                .as_deref()
                .is_none_or(|wanted| wanted == resource)
    }
}

/// The trouble that the next request is in, and uses up.
pub(super) fn next(faults: &mut Vec<Fault>, verb: &str, resource: &str) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    for fault in faults
        .iter_mut()
        .filter(|fault| fault.concerns(verb, resource))
    {
        match &mut fault.times {
            Some(0) => continue,
            Some(times) => *times -= 1,
            None => {}
        }
        troubles.push(fault.trouble.clone());
    }
    faults.retain(|fault| fault.times != Some(0));
    troubles
}

/// The refusal of a [`Trouble::Refused`].
pub(super) fn refusal(code: u16, retry_after: Option<u32>) -> Refusal {
    let (reason, message) = match code {
        401 => ("Unauthorized", "Unauthorized"),
        403 => ("Forbidden", "forbidden: the user may not do this"),
        429 => (
            "TooManyRequests",
            "Too many requests, please try again later.",
        ),
        503 => (
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        _ => ("InternalError", "Internal error occurred: on demand"),
    };
    let mut refusal = Refusal::new(code, reason, message);
    refusal.retry_after = retry_after;
    refusal
}
