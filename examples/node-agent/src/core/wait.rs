//! Waits: who wants to know when which objects are in force.

use std::collections::BTreeMap;

use ocicat_datastore::Revision;
use ocicat_datastore::model::Kind;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::control::{Waited, Written};

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct Waits {
    waiting: Vec<Wait>,
}

#[derive(Debug)]
struct Wait {
    objects: Vec<(Kind, Revision, String)>,
    since: Instant,
    limit: Instant,
    /// The state that all of the objects are part of, once they have been seen.
    needs: Option<u64>,
    answer: oneshot::Sender<Waited>,
}

impl Waits {
    /// Takes a wait in. An object of a kind that no agent follows is in force as soon as it is written.
    pub(super) fn add(
        &mut self,
        objects: Vec<Written>,
        limit: Instant,
        answer: oneshot::Sender<Waited>,
    ) {
        let objects = objects
            .into_iter()
            .filter_map(|one| {
                let kind: Kind = one.kind.parse().ok()?;
                let name = one
                    .namespace
                    .map_or_else(|| one.name.clone(), |space| format!("{space}/{}", one.name));
                crate::world::KINDS
                    .contains(&kind)
                    .then(|| (kind, Revision(one.revision), format!("{kind} {name}")))
            })
            .collect();
        self.waiting.push(Wait {
            objects,
            since: Instant::now(),
            limit,
            needs: None,
            answer,
        });
    }

    /// Answers those whose objects are in the kernel and those whose time is over. `generation` is the latest state
    /// that was computed, `applied` the latest that is in the kernel.
    pub(super) fn answer(
        &mut self,
        seen: &BTreeMap<Kind, Revision>,
        generation: Option<u64>,
        applied: u64,
    ) {
        let now = Instant::now();
        for mut wait in std::mem::take(&mut self.waiting) {
            let missing = wait
                .objects
                .iter()
                .find(|(kind, revision, _)| seen.get(kind).is_none_or(|seen| seen < revision));
            if missing.is_none() && wait.needs.is_none() {
                wait.needs = generation;
            }
            let done = wait.needs.is_some_and(|needs| needs <= applied);
            if !done && now < wait.limit && !wait.answer.is_closed() {
                self.waiting.push(wait);
                continue;
            }
            let error = (!done).then(|| match missing {
                Some((_, revision, name)) => {
                    format!("{name} has not been seen at revision {revision}")
                }
                None if generation.is_none() => {
                    "the agent is not in sync with the datastore".to_owned()
                }
                None => "the kernel has not taken the state that follows from it".to_owned(),
            });
            let waited_ms = u64::try_from((now - wait.since).as_millis()).unwrap_or(u64::MAX);
            let _ = wait.answer.send(Waited {
                ok: done,
                waited_ms,
                error,
            });
        }
    }

    /// How many wait.
    pub(super) const fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the next wait's time is over.
    pub(super) fn next_limit(&self) -> Option<Instant> {
        self.waiting.iter().map(|wait| wait.limit).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(waits: &mut Waits, revision: u64) -> oneshot::Receiver<Waited> {
        let (answer, question) = oneshot::channel();
        let object = Written {
            kind: "IPPool".to_owned(),
            namespace: None,
            name: "p".to_owned(),
            revision,
        };
        waits.add(
            vec![object],
            Instant::now() + std::time::Duration::from_secs(60),
            answer,
        );
        question
    }

    #[test]
    fn a_wait_ends_when_its_state_is_in_the_kernel() {
        let mut waits = Waits::default();
        let mut question = wait(&mut waits, 5);
        let seen = |revision| BTreeMap::from([(Kind::IpPool, Revision(revision))]);
        waits.answer(&seen(4), Some(7), 7);
        assert!(question.try_recv().is_err(), "not seen");
        waits.answer(&seen(6), Some(8), 7);
        assert!(question.try_recv().is_err(), "seen, not in the kernel");
        waits.answer(&seen(6), Some(9), 8);
        assert!(
            question.try_recv().unwrap().ok,
            "state 8 has it; 9 is somebody else's"
        );
    }

    #[test]
    fn nothing_is_in_force_before_the_first_sync() {
        let mut waits = Waits::default();
        let mut question = wait(&mut waits, 0);
        waits.answer(&BTreeMap::from([(Kind::IpPool, Revision(1))]), None, 0);
        assert!(question.try_recv().is_err());
    }
}
