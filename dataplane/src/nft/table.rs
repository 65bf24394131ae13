//! The table in the kernel, kept as a state wants it.

mod counters;
mod learn;
#[cfg(feature = "testing")]
mod record;
mod refused;
mod remove;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;
use refused::{Blame, Stop};

use super::compile::{Desired, Dirty};
use super::known::{Content, Known};
use super::name::Name;
use super::obstacle::{self, Obstacle};
use super::plan::{self, Goal, Plan};
use super::socket::{DumpError, Socket};
use super::{Lacking, dump};
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
    /// Whether the last state was incomplete, so that there may be more in the kernel than is known to be wanted.
    kept: bool,
    /// The chains that were written since this table was opened.
    written: BTreeSet<Name>,
    /// Old objects that the kernel would not let go.
    stuck: BTreeMap<Name, KernelError>,
    /// Elements go one a message, so that a refusal names one.
    single: bool,
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
    /// What the kernel refused: everything else is in force, and packets that these would have decided about are
    /// dropped. An object is tried again when it changes, and after [`Table::invalidate`].
    pub failed: Vec<crate::report::Failure>,
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
    /// Somebody replaced one of our sets by one of another type, which only making the table anew repairs, and that does
    /// not fit the send buffer.
    #[error(
        "set {set} of the table was replaced by one of another type: delete the table `inet ocicat`"
    )]
    Mangled {
        /// The set.
        set: String,
    },
    /// The table belongs to a program that made it with nft's flag `owner`: nobody else may change it.
    #[error(
        "the table `inet ocicat` belongs to another program (netlink port {port}): stop it, or run in another network namespace"
    )]
    Owned {
        /// The netlink port of the owner, most often its process id.
        port: u32,
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
            kept: false,
            written: BTreeSet::new(),
            stuck: BTreeMap::new(),
            single: false,
        })
    }

    /// Makes the kernel's table what `state` asks for.
    ///
    /// # Errors
    /// When the table could not be read or the kernel refused a change. What was in force stays in force, and the
    /// next call reads the table again.
    pub fn apply(&mut self, state: &State) -> Result<Report, Error> {
        if self.kept && !state.incomplete {
            // What was left alone until the state was whole has to be found.
            self.generation = None;
        }
        self.desired.update(state);
        let mut report = Report::default();
        if self.generation.is_none() || !self.pending.is_empty() || self.desired.is_dirty() {
            let result = match self.attempts(state, &mut report) {
                Err(Stop::Whole(refused)) => self.isolate(state, refused, &mut report),
                Err(Stop::Error(error)) => Err(error),
                Ok(()) => Ok(()),
            };
            if let Err(error) = result {
                self.generation = None;
                return Err(error);
            }
            self.kept = state.incomplete;
        }
        report.lacking = self.desired.lacking().to_vec();
        report.failed = self.failures();
        Ok(report)
    }

    /// Forgets what is known of the kernel: the next [`apply`](Self::apply) reads the table, repairs what somebody else
    /// changed, and tries again what the kernel refused.
    pub fn invalidate(&mut self) {
        self.generation = None;
        self.desired.forgive_all();
        self.stuck.clear();
    }

    /// The base chains of other tables that would drop forwarded packets which policy has let through, each with
    /// the command that helps; empty when there are none. Of legacy iptables the table `filter` of the calling
    /// thread's network namespace is looked at, which may be another than this table's.
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

    fn attempts(&mut self, state: &State, report: &mut Report) -> Result<(), Stop> {
        let mut last = None;
        let mut left = ATTEMPTS;
        while left > 0 {
            // Compiled anew when an attempt has shown that the kernel lacks or refuses something.
            if self.desired.is_outdated() {
                self.desired.update(state);
            }
            self.pending.merge(self.desired.take_dirty());
            let fresh = self.generation.is_none();
            let generation = match self.generation {
                Some(generation) => Some(generation),
                None => self.read(state, report)?,
            };
            let plan = match generation {
                Some(generation) => self.plan(state)?.map(|plan| (plan, generation)),
                None => None,
            };
            left -= 1;
            let Some((plan, generation)) = plan else {
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
                Err(Some(refused)) if fresh => match self.blame(&refused, left) {
                    // Progress: what is left out is one more.
                    Blame::Found => left += 1,
                    Blame::Again => last = Some(refused.error),
                    Blame::Unknown => return Err(Stop::Whole(refused)),
                },
                // With a table that was not what we thought: it is read, and the change tried once more.
                Err(Some(refused)) => last = Some(refused.error),
            }
            self.generation = None;
        }
        Err(Stop::Error(
            last.unwrap_or(Error::Contended { attempts: ATTEMPTS }),
        ))
    }

    /// Reads the table; `None` when it changed meanwhile.
    fn read(&mut self, state: &State, report: &mut Report) -> Result<Option<u32>, Error> {
        let failed = |errno: Errno| Error::Read {
            errno: kernel(errno),
        };
        report.read = true;
        let before = self.socket.generation().map_err(failed)?;
        let known = match dump::table(&mut self.socket) {
            Ok(known) => match known.owner {
                Some(port) => return Err(Error::Owned { port }),
                None => known,
            },
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

    fn goal<'a>(&'a self, state: &'a State) -> Goal<'a> {
        Goal {
            desired: &self.desired,
            sets: &state.sets,
            dirty: &self.pending,
            keep: state.incomplete,
            written: &self.written,
            stuck: &self.stuck,
        }
    }

    /// Reads the rules' numbers and the elements that a plan needs; false when the kernel was not as known.
    fn fill_in(&mut self, missing: plan::Missing) -> Result<bool, Error> {
        for name in missing.chains {
            let Some(have) = self.known.chains.get_mut(&name) else {
                continue;
            };
            match dump::rules(&mut self.socket, &name, have.hook) {
                Ok(Some(found)) if found.rules == have.rules => have.handles = found.handles,
                Ok(_) | Err(DumpError::Interrupted) => return Ok(false),
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
                Err(DumpError::Interrupted | DumpError::Kernel(Errno::ENOENT)) => return Ok(false),
                Err(DumpError::Kernel(errno)) => {
                    return Err(Error::Read {
                        errno: kernel(errno),
                    });
                }
            }
        }
        Ok(true)
    }

    /// The plan, after reading what it needs besides; `None` when the kernel was not as known.
    fn plan(&mut self, state: &State) -> Result<Option<Plan>, Error> {
        let goal = self.goal(state);
        let missing = plan::missing(&goal, &self.known);
        if !self.fill_in(missing)? {
            return Ok(None);
        }
        let goal = self.goal(state);
        let mangled = plan::mangled(&goal, &self.known);
        let uncut = match mangled {
            None => plan::uncut(&goal, &self.known),
            Some(_) => Vec::new(),
        };
        if mangled.is_some() {
            // Rules hold on to it: all goes and comes back in one transaction.
            self.known = Known::default();
            self.pending = plan::everything(&self.desired, &self.known);
        }
        if !uncut.is_empty() {
            for (id, variant) in &uncut {
                self.desired.rename(id, *variant);
            }
            self.desired.update(state);
            self.pending.merge(self.desired.take_dirty());
        }
        let goal = self.goal(state);
        let mut plan = plan::plan(&goal, &self.known);
        plan.anew = mangled;
        Ok(Some(plan))
    }
}

fn kernel(errno: Errno) -> KernelError {
    KernelError::new(errno as i32, None)
}
