use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::{Allocation, HandleId, HostReserved, Timestamp};

/// The attribute of a held address that says for which workload it will be kept: its name.
const WORKLOAD: &str = "ocicat-workload";
/// The attribute of a held address that says for how many seconds it will be kept.
const LEASE: &str = "ocicat-lease-seconds";
/// The attribute of an address that is kept: until when.
const UNTIL: &str = "ocicat-kept-until";

/// For whom an address that nobody holds is kept, and until when: only a request of that workload gets it before.
///
/// It is stored as an allocation under Calico's handle for addresses that a host keeps to itself
/// ([`HostReserved::HANDLE`]), with the attributes `ocicat-workload` and `ocicat-kept-until`: Calico's `ipam check` takes
/// such an address as used, and its collector never judges it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kept {
    /// The name of the workload, as its request stated it.
    pub workload: String,
    /// When it ends; stored in whole seconds.
    pub until: SystemTime,
}

impl Kept {
    /// What a stored record keeps, when it is one that keeps an address.
    pub(crate) fn of_record(
        handle: Option<&str>,
        attributes: &BTreeMap<String, String>,
    ) -> Option<Self> {
        if handle != Some(HostReserved::HANDLE) {
            return None;
        }
        let until: Timestamp = attributes.get(UNTIL)?.parse().ok()?;
        Some(Self {
            workload: attributes.get(WORKLOAD)?.clone(),
            until: until.0,
        })
    }

    /// The handle and the attributes under which it is stored.
    pub(crate) fn to_record(&self) -> (HandleId, BTreeMap<String, String>) {
        let attributes = [
            (WORKLOAD, self.workload.clone()),
            (UNTIL, Timestamp(self.until).to_string()),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value));
        (HandleId::new(HostReserved::HANDLE), attributes.into())
    }
}

impl Allocation {
    /// The same, to be kept for a workload for so long after its release.
    pub(crate) fn with_lease(mut self, workload: &str, lease: Duration) -> Self {
        let seconds = lease.as_secs().to_string();
        self.attributes
            .insert(WORKLOAD.to_owned(), workload.to_owned());
        self.attributes.insert(LEASE.to_owned(), seconds);
        self
    }

    /// For whom and until when the address is kept when it is released now.
    pub(crate) fn kept_from(&self, now: SystemTime) -> Option<Kept> {
        let seconds: u64 = self.attributes.get(LEASE)?.parse().ok()?;
        let until = now.checked_add(Duration::from_secs(seconds))?;
        let workload = self.attributes.get(WORKLOAD)?.clone();
        (seconds > 0).then_some(Kept { workload, until })
    }

    /// Whether nobody holds the address: it cools down, or is kept for a workload.
    pub(crate) const fn rests(&self) -> bool {
        self.released_at.is_some() || self.kept.is_some()
    }

    /// Whether its rest is over.
    pub(crate) fn has_rested(&self, now: SystemTime, cooldown: Duration) -> bool {
        match (&self.kept, self.released_at) {
            (Some(kept), _) => kept.until <= now,
            (None, Some(released)) => released.checked_add(cooldown).is_none_or(|end| end <= now),
            (None, None) => false,
        }
    }
}
