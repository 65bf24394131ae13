use std::time::SystemTime;

use super::commit::Entry;
use super::demand::Demand;
use super::{Desk, Ipam};
use crate::StoreError;

impl Ipam {
    /// Takes addresses that are kept for a demand's workload: first those in blocks that are known, then, when there is
    /// none, after one survey, those in everybody's.
    pub(super) async fn take_kept(
        &self,
        desk: &mut Desk,
        demand: usize,
        state: &mut Demand<'_>,
        entries: &mut Vec<Entry>,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let Some(workload) = state.request.workload.as_deref() else {
            return Ok(());
        };
        if !std::mem::take(&mut state.recalls) || state.missing == 0 {
            return Ok(());
        }
        let known = desk.view.kept_for(workload, &state.pools);
        if known.is_none() && !desk.view.surveyed() {
            self.survey(desk, now).await?;
        }
        while state.missing > 0 {
            let Some((block, ordinal)) = desk.view.kept_for(workload, &state.pools) else {
                break;
            };
            match state.take_kept(desk, demand, block, ordinal) {
                Some(entry) => entries.push(entry),
                None => break,
            }
        }
        Ok(())
    }
}
