//! The table in the kernel, kept as a state wants it.

use std::collections::BTreeSet;

use nix::errno::Errno;

use super::compile::{Desired, Dirty};
use super::known::{Content, Known, KnownChain, KnownSet};
use super::messages::Transaction;
use super::name::Name;
use super::obstacle::{self, Obstacle};
use super::plan::{self, Goal, Op, Plan};
use super::socket::{DumpError, Failure, Refusal, Socket};
use super::{Lacking, dump, lacking, messages};
use crate::{KernelError, State};

/// How often a change is planned anew when the kernel was not as expected.
const ATTEMPTS: usize = 8;

/// The send buffer that is asked for, in bytes: the messages of about 60,000 rules.
const SEND_BUFFER: usize = 32 << 20;

/// The nftables table of one network namespace.
///
/// It remembers what it put into the kernel: [`apply`](Self::apply) of a state that did not change makes no system
/// call. The first `apply`, and the one after [`invalidate`](Self::invalidate), reads the table and changes only
/// what differs, so that a restarted program takes over what is there, counters and all. Dropping it leaves the
/// kernel as it is.
#[derive(Debug)]
pub struct Table {
    socket: Socket,
    desired: Desired,
    known: Known,
    /// The kernel's commit number that `known` belongs to; `None` when `known` is worth nothing.
    generation: Option<u32>,
    pending: Dirty,
}

/// What one [`Table::apply`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Chains, rules, sets and groups of elements that were made, changed or deleted.
    pub changed: usize,
    /// The transactions that it took.
    pub transactions: usize,
    /// The bytes of the largest of them.
    pub longest: usize,
    /// Whether the table was read from the kernel.
    pub read: bool,
    /// What this kernel was found to lack so far; each says what it costs.
    pub lacking: Vec<Lacking>,
}

/// Why the table is not as desired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No netlink socket.
    #[error("no nf_tables socket: {errno}")]
    Socket {
        /// What the kernel said.
        #[source]
        errno: KernelError,
    },
    /// The table could not be read.
    #[error("the table could not be read: {errno}")]
    Read {
        /// What the kernel said.
        #[source]
        errno: KernelError,
    },
    /// The kernel refused a change; nothing of the transaction was done, what was there stays in force.
    #[error("the kernel refused {what}: {errno}")]
    Refused {
        /// The first operation that it refused.
        what: String,
        /// What the kernel said.
        #[source]
        errno: KernelError,
    },
    /// Somebody replaced one of our sets by one of another type, which only deleting the table repairs.
    #[error(
        "set {set} of the table was replaced by one of another type: delete the table `inet ocicat`"
    )]
    Mangled {
        /// The set.
        set: String,
    },
    /// Other programs committed so often that no attempt went through.
    #[error("the table changed during each of {attempts} attempts")]
    Contended {
        /// How often it was tried.
        attempts: usize,
    },
}

impl Table {
    /// Opens the table of the calling thread's network namespace. Nothing is read or changed yet.
    ///
    /// # Errors
    /// [`Error::Socket`] when the kernel has no nf_tables or the process may not use it.
    pub fn open() -> Result<Self, Error> {
        Self::with_send_buffer(SEND_BUFFER)
    }

    /// As [`open`](Self::open), with another send buffer than the default 32 MiB, in bytes: the largest transaction
    /// that is tried. Only root of the first user namespace gets it, others what `net.core.wmem_max` allows; the
    /// kernel gives no less than about 4 KiB.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn with_send_buffer(bytes: usize) -> Result<Self, Error> {
        let socket = Socket::open(bytes).map_err(|errno| Error::Socket {
            errno: kernel(errno),
        })?;
        Ok(Self {
            socket,
            desired: Desired::default(),
            known: Known::default(),
            generation: None,
            pending: Dirty::default(),
        })
    }

    /// Makes the kernel's table what `state` asks for.
    ///
    /// # Errors
    /// When the table could not be read or the kernel refused a change. What was in force stays in force, and the
    /// next call reads the table again.
    pub fn apply(&mut self, state: &State) -> Result<Report, Error> {
        self.desired.update(state);
        if self.generation.is_some() && self.pending.is_empty() && !self.desired.is_dirty() {
            let lacking = self.desired.lacking().to_vec();
            return Ok(Report {
                lacking,
                ..Report::default()
            });
        }
        let mut report = Report::default();
        let result = self.attempts(state, &mut report);
        if result.is_err() {
            self.generation = None;
        }
        result.map(|()| report)
    }

    /// Forgets what is known of the kernel: the next [`apply`](Self::apply) reads the table and repairs what
    /// somebody else changed.
    pub fn invalidate(&mut self) {
        self.generation = None;
    }

    /// The base chains of other tables that would drop forwarded packets which policy has let through, each with
    /// the command that helps; empty when there are none. Chains of legacy iptables are not seen: nf_tables does
    /// not know them.
    ///
    /// # Errors
    /// When the kernel's chains could not be read.
    pub fn obstacles(&mut self) -> Result<Vec<Obstacle>, Error> {
        for _ in 0..ATTEMPTS {
            match obstacle::find(&mut self.socket) {
                Ok(found) => return Ok(found),
                Err(DumpError::Interrupted | DumpError::Kernel(Errno::ENOENT)) => {}
                Err(DumpError::Kernel(errno)) => {
                    return Err(Error::Read {
                        errno: kernel(errno),
                    });
                }
            }
        }
        Err(Error::Contended { attempts: ATTEMPTS })
    }

    fn attempts(&mut self, state: &State, report: &mut Report) -> Result<(), Error> {
        let mut refused = None;
        for _ in 0..ATTEMPTS {
            // Compiled anew when an attempt has shown that the kernel lacks something.
            self.desired.update(state);
            self.pending.merge(self.desired.take_dirty());
            report.lacking = self.desired.lacking().to_vec();
            let generation = match self.generation {
                Some(generation) => generation,
                None => match self.read(state, report)? {
                    Some(generation) => generation,
                    None => continue,
                },
            };
            let Some(plan) = self.plan(state)? else {
                self.generation = None;
                continue;
            };
            match self.execute(plan, generation, report) {
                Ok(()) => {
                    let dirty = std::mem::take(&mut self.pending);
                    self.learn(state, &dirty);
                    return Ok(());
                }
                Err(None) => {}
                // Seen with a table that was not what we thought: read it and try once more.
                Err(Some(error)) if refused.as_ref() != Some(&error) => refused = Some(error),
                Err(Some(error)) => return Err(error),
            }
            self.generation = None;
        }
        Err(refused.unwrap_or(Error::Contended { attempts: ATTEMPTS }))
    }

    /// Reads the table; `None` when it changed meanwhile.
    fn read(&mut self, state: &State, report: &mut Report) -> Result<Option<u32>, Error> {
        let failed = |errno: Errno| Error::Read {
            errno: kernel(errno),
        };
        report.read = true;
        let before = self.socket.generation().map_err(failed)?;
        let known = match dump::table(&mut self.socket) {
            Ok(known) => known,
            // What was listed is gone again.
            Err(DumpError::Interrupted | DumpError::Kernel(Errno::ENOENT)) => return Ok(None),
            Err(DumpError::Kernel(errno)) => return Err(failed(errno)),
        };
        if self.socket.generation().map_err(failed)? != before {
            return Ok(None);
        }
        self.known = known;
        self.adopt_names(state);
        self.pending = plan::everything(&self.desired, &self.known);
        self.generation = Some(before);
        Ok(Some(before))
    }

    /// Sets of ranges keep the name that they have in the kernel.
    fn adopt_names(&mut self, state: &State) {
        let there = |name: &Name| self.known.sets.contains_key(name);
        let variants = self.desired.variants.iter();
        let other = variants.filter(|(name, (id, variant, _))| {
            !there(name) && variant.other().is_some_and(|other| there(&other.name(id)))
        });
        let other: Vec<_> = other
            .map(|(_, (id, variant, _))| (id.clone(), *variant))
            .collect();
        for (id, variant) in &other {
            self.desired.rename(id, *variant);
        }
        if !other.is_empty() {
            self.desired.update(state);
            drop(self.desired.take_dirty());
        }
    }

    /// The plan, after reading what it needs besides; `None` when the kernel was not as known.
    fn plan(&mut self, state: &State) -> Result<Option<Plan>, Error> {
        let goal = Goal {
            desired: &self.desired,
            sets: &state.sets,
            dirty: &self.pending,
        };
        let missing = plan::missing(&goal, &self.known);
        for name in missing.chains {
            let Some(have) = self.known.chains.get_mut(&name) else {
                continue;
            };
            match dump::rules(&mut self.socket, &name, have.hook) {
                Ok(Some(found)) if found.rules == have.rules => have.handles = found.handles,
                Ok(_) | Err(DumpError::Interrupted) => return Ok(None),
                Err(DumpError::Kernel(errno)) => {
                    return Err(Error::Read {
                        errno: kernel(errno),
                    });
                }
            }
        }
        for name in missing.sets {
            match dump::elements(&mut self.socket, &name) {
                Ok(elements) => {
                    if let Some(have) = self.known.sets.get_mut(&name) {
                        have.content = Content::Elements(elements);
                    }
                }
                Err(DumpError::Interrupted | DumpError::Kernel(Errno::ENOENT)) => return Ok(None),
                Err(DumpError::Kernel(errno)) => {
                    return Err(Error::Read {
                        errno: kernel(errno),
                    });
                }
            }
        }
        if let Some(set) = plan::mangled(&goal, &self.known) {
            return Err(Error::Mangled {
                set: set.to_string(),
            });
        }
        let uncut = plan::uncut(&goal, &self.known);
        if !uncut.is_empty() {
            for (id, variant) in &uncut {
                self.desired.rename(id, *variant);
            }
            self.desired.update(state);
            self.pending.merge(self.desired.take_dirty());
        }
        let goal = Goal {
            desired: &self.desired,
            sets: &state.sets,
            dirty: &self.pending,
        };
        Ok(Some(plan::plan(&goal, &self.known)))
    }

    /// Commits the plan. `Err(None)` when the table has to be read again.
    fn execute(
        &mut self,
        plan: Plan,
        mut generation: u32,
        report: &mut Report,
    ) -> Result<(), Option<Error>> {
        let changed = plan.len();
        for group in plan.groups() {
            let limit = self.socket.limit();
            let transactions = messages::transactions(&group, limit, self.socket.sequence());
            for transaction in transactions {
                report.longest = report.longest.max(transaction.messages.len());
                match self.socket.commit(&transaction, Some(generation)) {
                    Ok(()) => {}
                    Err(Failure::Outdated | Failure::Lost) => return Err(None),
                    Err(Failure::Socket(errno)) => {
                        let what = whole();
                        return Err(Some(Error::Refused {
                            what,
                            errno: kernel(errno),
                        }));
                    }
                    Err(Failure::Refused(refusals)) => {
                        if report.read && self.adapt(&group, &transaction, &refusals) {
                            return Err(None);
                        }
                        return Err(refusals.first().map(|refusal| {
                            let op = refusal
                                .message
                                .and_then(|at| transaction.operations.get(at));
                            let op = op.and_then(|at| group.get(*at));
                            Error::Refused {
                                what: op.map_or_else(whole, ToString::to_string),
                                errno: kernel(refusal.errno),
                            }
                        }));
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
            let op = refusal
                .message
                .and_then(|at| transaction.operations.get(at));
            let op = op.and_then(|at| group.get(*at)).filter(|_| unknown);
            if let Some(Op::NewRule { chain, rule, .. }) = op {
                let rule = chain.rules.get(*rule);
                // One at a time: the first may be the whole reason.
                let mut suspects = rule.into_iter().flat_map(lacking::suspects);
                found |= suspects.any(|suspect| self.desired.do_without(suspect));
            }
        }
        found
    }

    /// Notes that everything in `dirty` is as desired now.
    fn learn(&mut self, state: &State, dirty: &Dirty) {
        self.known.table = true;
        for name in &dirty.chains {
            match self.desired.chains.get(name) {
                Some((chain, _)) => {
                    let rules: Vec<_> = chain.rules.iter().map(|rule| Some(rule.hash)).collect();
                    let known = self.known.chains.entry(name.clone()).or_default();
                    if known.rules != rules || known.hook != chain.hook || known.closed {
                        *known = KnownChain {
                            hook: chain.hook,
                            closed: false,
                            rules,
                            handles: None,
                        };
                    }
                }
                None => drop(self.known.chains.remove(name)),
            }
        }
        for name in &dirty.sets {
            self.learn_set(state, name);
        }
        for (name, touched) in &dirty.elements {
            self.learn_elements(name, touched);
        }
    }

    fn learn_set(&mut self, state: &State, name: &Name) {
        let (shape, content) = if let Some((fixed, _)) = self.desired.fixed.get(name) {
            (
                fixed.shape.clone(),
                Content::Elements(fixed.elements.clone()),
            )
        } else if let Some((id, variant, _)) = self.desired.variants.get(name) {
            let set = state.sets.get(id).cloned().unwrap_or_default();
            let content = if variant.is_plain() {
                Content::At(set.moment())
            } else {
                let want = variant.elements(&set);
                Content::Elements(match self.known.sets.get(name).map(|set| &set.content) {
                    Some(Content::Elements(there)) => plan::ranges::after(there, &want),
                    _ => want,
                })
            };
            (variant.shape(), content)
        } else {
            self.known.sets.remove(name);
            return;
        };
        let known = KnownSet {
            shape: Some(shape),
            content,
        };
        self.known.sets.insert(name.clone(), known);
    }

    fn learn_elements(&mut self, name: &Name, touched: &BTreeSet<super::ruleset::Element>) {
        let Some(want) = self.desired.collected.get(name).filter(|set| set.exists()) else {
            self.known.sets.remove(name);
            return;
        };
        let known = self.known.sets.entry(name.clone());
        let mut new = false;
        let known = known.or_insert_with(|| {
            new = true;
            KnownSet {
                shape: Some(want.shape.clone()),
                content: Content::Elements(want.elements.keys().cloned().collect()),
            }
        });
        if let (Content::Elements(there), false) = (&mut known.content, new) {
            for element in touched {
                if want.elements.contains_key(element) {
                    there.insert(element.clone());
                } else {
                    there.remove(element);
                }
            }
        }
    }
}

fn whole() -> String {
    "a transaction".to_owned()
}

fn kernel(errno: Errno) -> KernelError {
    KernelError::new(errno as i32, None)
}
