//! What the kernel refuses: found, named, left out, so that the rest goes in.
//!
//! The kernel names every message of a transaction that it refuses, and does none of them. What a named message was for
//! (a policy, an endpoint, a set) is compiled from then on to what denies, and the rest is tried again. A refusal of a
//! transaction as a whole names nothing: then its objects go in by halves.

use std::collections::BTreeSet;

use nix::errno::Errno;

use super::{Error, Report, Table, kernel};
use crate::nft::compile::Piece;
use crate::nft::lacking::{self, Lacking};
use crate::nft::messages::{self, Transaction};
use crate::nft::plan::{Op, Plan};
use crate::nft::ruleset::{Element, Family};
use crate::nft::socket::{Failure, Refusal};
use crate::report::{self, Fault, Object};
use crate::{KernelError, State};

/// A transaction that the kernel refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// The first of what it refused, in words.
    pub(super) error: Error,
    /// The operations that it named, with what it said.
    ops: Vec<(Op, Errno)>,
    /// Everything that the transaction was about.
    group: Vec<Op>,
}

/// Why the attempts ended.
#[derive(Debug)]
pub(super) enum Stop {
    Error(Error),
    /// The kernel refused a transaction and did not say what of it.
    Whole(Refused),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Whose fault a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// Of objects that are left out from now on.
    Found,
    /// It may pass.
    Again,
    Unknown,
}

impl Table {
    /// Commits the plan. `Err(None)` when the table has to be read again.
    pub(super) fn execute(
        &mut self,
        plan: Plan,
        mut generation: u32,
        report: &mut Report,
    ) -> Result<(), Option<Refused>> {
        let changed = plan.len();
        let anew = plan.anew.clone();
        for group in plan.groups() {
            let limit = self.socket.limit();
            let each = if self.single { 1 } else { usize::MAX };
            let transactions = messages::transactions(&group, limit, each, self.socket.sequence());
            if let Some(set) = anew.as_ref().filter(|_| transactions.len() > 1) {
                let set = set.to_string();
                return Err(Some(Refused {
                    error: Error::Mangled { set },
                    ops: Vec::new(),
                    group: Vec::new(),
                }));
            }
            for transaction in transactions {
                report.longest = report.longest.max(transaction.messages.len());
                match self.socket.commit(&transaction, Some(generation)) {
                    Ok(()) => {}
                    Err(Failure::Outdated | Failure::Lost) => return Err(None),
                    Err(Failure::Socket(errno)) => {
                        let whole = Refusal {
                            message: None,
                            errno,
                        };
                        return Err(Some(refused(&group, &transaction, &[whole])));
                    }
                    Err(Failure::Refused(refusals)) => {
                        if report.read && self.adapt(&group, &transaction, &refusals) {
                            return Err(None);
                        }
                        return Err(Some(refused(&group, &transaction, &refusals)));
                    }
                }
                // The kernel counts every commit, and does not use zero.
                generation = generation.wrapping_add(1).max(1);
                self.generation = Some(generation);
                report.transactions += 1;
            }
        }
        report.changed += changed;
        Ok(())
    }

    /// Whether the kernel refused for want of something that can be done without, which is then given up. Only
    /// for a table that was just read: otherwise what is missing may be a set or a chain.
    fn adapt(&mut self, group: &[Op], transaction: &Transaction, refusals: &[Refusal]) -> bool {
        let mut found = false;
        for refusal in refusals {
            let unknown = matches!(refusal.errno, Errno::ENOENT | Errno::EOPNOTSUPP);
            let no_family = [Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP].contains(&refusal.errno);
            let made = refusal
                .message
                .and_then(|at| transaction.operations.get(at))
                .and_then(|(at, _)| group.get(*at));
            if no_family && made == Some(&Op::NewTable(Family::Arp)) {
                found |= self.desired.do_without(Lacking::Arp);
            }
            if let Some(Op::NewRule { chain, rule, .. }) = made.filter(|_| unknown) {
                let rule = chain.rules.get(*rule);
                // One at a time: the first may be the whole reason.
                let mut suspects = rule.into_iter().flat_map(lacking::suspects);
                found |= suspects.any(|suspect| self.desired.do_without(suspect));
            }
        }
        found
    }

    /// Leaves out what the kernel refused by name; `left` attempts are left.
    pub(super) fn blame(&mut self, refused: &Refused, left: usize) -> Blame {
        if matches!(refused.error, Error::Mangled { .. }) {
            return Blame::Unknown;
        }
        let passing = |errno: &Errno| {
            matches!(
                errno,
                Errno::EBUSY | Errno::EAGAIN | Errno::EINTR | Errno::ENOMEM | Errno::ENOBUFS
            )
        };
        // Half of the attempts wait for what may pass.
        if left > super::ATTEMPTS / 2 && refused.ops.iter().any(|(_, errno)| passing(errno)) {
            return Blame::Again;
        }
        let many = |op: &Op| match op {
            Op::NewElements(_, all) | Op::DelElements(_, all) => all.len() > 1,
            _ => false,
        };
        if !self.single && refused.ops.iter().any(|(op, _)| many(op)) {
            self.single = true;
            return Blame::Found;
        }
        let mut found = false;
        for (op, errno) in &refused.ops {
            let error = KernelError::new(*errno as i32, Some(&op.to_string()));
            match op {
                Op::Flush(name) | Op::DelChain(name) | Op::DelSet(name)
                    if !self.desired.wants(name) =>
                {
                    found |= self.stuck.insert(name.clone(), error).is_none();
                }
                _ => {
                    for (piece, fault) in self.desired.behind(op, &error) {
                        found |= self.desired.refuse(&piece, fault);
                    }
                }
            }
        }
        if found { Blame::Found } else { Blame::Unknown }
    }

    /// Puts in what a refused transaction was about, by halves, until it is known what of it is refused.
    pub(super) fn isolate(
        &mut self,
        state: &State,
        refused: Refused,
        report: &mut Report,
    ) -> Result<(), Error> {
        let error = refused.error;
        let fault = match &error {
            Error::Refused { errno, .. } => Fault::Kernel(errno.clone()),
            _ => return Err(error),
        };
        let pieces: BTreeSet<Piece> = refused
            .group
            .iter()
            .flat_map(|op| self.desired.pieces(op))
            .collect();
        let pieces: Vec<Piece> = pieces.into_iter().collect();
        if pieces.is_empty() {
            return Err(error);
        }
        let mut attempt = |table: &mut Self| match table.attempts(state, report) {
            Ok(()) => Ok(true),
            Err(Stop::Whole(_)) => Ok(false),
            Err(Stop::Error(error)) => Err(error),
        };
        for piece in &pieces {
            self.desired.refuse(piece, fault.clone());
        }
        if !attempt(self)? {
            // It is in none of them.
            return Err(error);
        }
        let mut groups = vec![pieces];
        while let Some(group) = groups.pop() {
            for piece in &group {
                self.desired.forgive(piece);
            }
            if attempt(self)? {
                continue;
            }
            for piece in &group {
                self.desired.refuse(piece, fault.clone());
            }
            let (one, other) = group.split_at(group.len() / 2);
            if !one.is_empty() {
                // Endpoints go in before what they lead to: what nothing leads to is not compiled at all.
                groups.extend([other.to_vec(), one.to_vec()]);
            }
        }
        // The last one that was put back has to be in the kernel's table as what denies.
        if attempt(self)? { Ok(()) } else { Err(error) }
    }

    /// What is not as the state wants it.
    pub(super) fn failures(&self) -> Vec<report::Failure> {
        let mut failures: Vec<report::Failure> = Vec::new();
        for (object, fault) in self.desired.refused() {
            if !failures.iter().any(|failure| failure.object == object) {
                failures.push(report::Failure { object, fault });
            }
        }
        for error in self.stuck.values() {
            failures.push(report::Failure {
                object: Object::Policies,
                fault: Fault::Kernel(error.clone()),
            });
        }
        failures
    }
}

fn refused(group: &[Op], transaction: &Transaction, refusals: &[Refusal]) -> Refused {
    let named = |refusal: &Refusal| {
        let (at, part) = transaction.operations.get(refusal.message?)?;
        let of = |all: &[Element]| all.get(part.clone()).unwrap_or(all).to_vec();
        let op = match group.get(*at)? {
            Op::NewElements(name, all) => Op::NewElements(name.clone(), of(all)),
            Op::DelElements(name, all) => Op::DelElements(name.clone(), of(all)),
            op => op.clone(),
        };
        Some((op, refusal.errno))
    };
    let first = refusals.first();
    let error = Error::Refused {
        what: first
            .and_then(named)
            .map_or_else(|| "a transaction".to_owned(), |(op, _)| op.to_string()),
        errno: kernel(first.map_or(Errno::EIO, |refusal| refusal.errno)),
    };
    Refused {
        error,
        ops: refusals.iter().filter_map(named).collect(),
        group: group.to_vec(),
    }
}
