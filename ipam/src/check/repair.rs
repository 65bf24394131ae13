use std::net::IpAddr;
use std::time::SystemTime;

use super::{CheckReport, Finding};
use crate::{
    HandleId, HostReserved, Ipam, Owner, Prefix, RecordKey, Release, ReleaseError, Stored, Write,
};

/// What was released or put right from a report.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Repaired {
    /// The addresses that were released.
    pub released: Vec<IpAddr>,
    /// The findings that were put right.
    pub repaired: Vec<Finding>,
    /// The findings that could not be, and why.
    pub failed: Vec<(Finding, ReleaseError)>,
}

impl Ipam {
    /// Releases the addresses that a report calls held and not used. One that has been released and taken again since
    /// the report was made is left alone.
    ///
    /// # Errors
    /// When the store fails. What was released stays released.
    pub async fn release_leaks(
        &self,
        report: &CheckReport,
        now: SystemTime,
    ) -> Result<Repaired, ReleaseError> {
        let mut done = Repaired::default();
        for finding in &report.findings {
            let Finding::NotUsed { held, .. } = finding else {
                continue;
            };
            let mut release = Release::new(held.address).taken_by(held.sequence);
            release.handle.clone_from(&held.handle);
            let mut released = self.release_ips(&[release], now).await?;
            done.released.append(&mut released.addresses);
            match released.failed.pop() {
                Some((_, error)) => done.failed.push((finding.clone(), error)),
                None => done.repaired.push(finding.clone()),
            }
        }
        Ok(done)
    }

    /// Puts right what a report found wrong in the records themselves: handles that miscount, claims that are left
    /// over or not confirmed, defects of blocks. Every finding is looked at again before it is acted on; nothing
    /// that is held is released, and claims of nodes that are gone are left to [`remove_host`](Self::remove_host).
    ///
    /// # Errors
    /// None of its own: what fails is listed.
    pub async fn repair(&self, report: &CheckReport, now: SystemTime) -> Repaired {
        let mut done = Repaired::default();
        for finding in &report.findings {
            match self.put_right(finding, now).await {
                None => {}
                Some(Ok(())) => done.repaired.push(finding.clone()),
                Some(Err(error)) => done.failed.push((finding.clone(), error)),
            }
        }
        done
    }

    /// `None` for a finding about which nothing can be done here.
    async fn put_right(
        &self,
        finding: &Finding,
        now: SystemTime,
    ) -> Option<Result<(), ReleaseError>> {
        match finding {
            Finding::Miscounted { handle, block, .. } => Some(self.recount(handle, *block).await),
            Finding::EmptyHandle { handle } => Some(self.delete_empty_handle(handle).await),
            Finding::Unconfirmed { owner, block, .. } | Finding::Unclaimed { owner, block } => {
                let owner: Owner = owner.parse().ok()?;
                Some(self.confirm(&owner, *block, now).await)
            }
            Finding::IdleClaim { owner, block, .. } => {
                let owner: Owner = owner.parse().ok()?;
                Some(self.drop_idle_claim(&owner, *block).await)
            }
            Finding::Defect { block, .. } => Some(self.outdate(*block).await.map(drop)),
            Finding::EmptyBlock { block } => Some(self.delete_vacant(*block, now).await),
            _ => None,
        }
    }

    async fn delete_empty_handle(&self, id: &HandleId) -> Result<(), ReleaseError> {
        let found = self
            .store()
            .handles(std::slice::from_ref(id))
            .await?
            .pop()
            .flatten();
        match found {
            Some(Stored { value, revision }) if value.is_empty() => {
                self.write(Write::Delete(RecordKey::Handle(value.id), revision))
                    .await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn confirm(
        &self,
        owner: &Owner,
        block: Prefix,
        now: SystemTime,
    ) -> Result<(), ReleaseError> {
        let still = self.block(block).await?;
        if still.is_some_and(|stored| stored.value.owner() == Some(owner)) {
            self.claim_block(owner, block, HostReserved::default(), now)
                .await?;
        }
        Ok(())
    }

    async fn drop_idle_claim(&self, owner: &Owner, block: Prefix) -> Result<(), ReleaseError> {
        let Some(claim) = self.store().affinity(owner, block).await? else {
            return Ok(());
        };
        let found = self.block(block).await?;
        if found.is_none_or(|stored| stored.value.owner() != Some(owner)) {
            self.drop_claim(&claim).await?;
        }
        Ok(())
    }
}
