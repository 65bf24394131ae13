use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::conntrack::Connections;
use super::follow::{Effect, Interest};
use super::monitor::{Heard, Monitor};
use super::netns::Home;
use super::options::Options;
use super::recheck::recheck_connections;
use super::sysctl::Sysctl;
use super::view::View;
use crate::netlink::Socket;
use crate::nft;
use crate::report::{Failure, Fault, Object};
use crate::state::{LinkName, Setting};
use crate::{ApplyError, Counters, Dataplane, KernelError, OpenError, Refusal, Report, State};

mod network;

/// The node's kernel, in the network namespace of the thread that opened it.
///
/// It reads the kernel once and then knows it: our own changes and the kernel's notices keep what it knows true. Its
/// first `apply` adopts what is there already; an agent that was restarted with the same state changes nothing.
///
/// What others change is heard by `changed` alone: whoever does not wait there calls
/// [`invalidate`](Dataplane::invalidate) from time to time. Waiting needs a tokio runtime with I/O; everything else does
/// not. Netlink is answered at once, so nothing here blocks for longer than the kernel works; after each datagram of
/// routes other tasks get a turn.
pub struct LinuxDataplane {
    options: Options,
    home: Home,
    socket: Socket,
    monitor: Monitor,
    connections: Connections,
    /// The policy half; `None` where the options leave it out.
    table: Option<nft::Table>,
    /// Whether policy has been in force since this dataplane began.
    guarded: bool,
    view: View,
    /// The links that are ours: by the options and by the last state.
    owned: BTreeSet<LinkName>,
    awaited: BTreeSet<LinkName>,
    /// The links that the last state has settings for.
    set: BTreeSet<LinkName>,
    applied: Option<State>,
    /// What the last apply could not do.
    failed: Vec<Failure>,
    /// The view must be read again.
    stale: bool,
    /// The kernel may not be as last applied.
    dirty: bool,
    /// Somebody changed something since the last apply began.
    noticed: bool,
}

impl LinuxDataplane {
    /// Opens the kernel of the calling thread's network namespace. Changes nothing yet.
    ///
    /// # Errors
    /// No socket, or no right to use it.
    pub fn new(options: Options) -> Result<Self, OpenError> {
        let failed = |what| move |source| OpenError::Socket { what, source };
        let socket = Socket::open().map_err(failed("route netlink"))?;
        let monitor = Monitor::open(socket.port(), options.protocol);
        Ok(Self {
            home: Home::here().map_err(failed("network namespace"))?,
            monitor: monitor.map_err(failed("route netlink listening"))?,
            connections: Connections::default(),
            socket,
            table: options
                .policy
                .then(nft::Table::open)
                .transpose()
                .map_err(|error| OpenError::Nftables {
                    why: error.to_string(),
                })?,
            guarded: false,
            view: View::default(),
            owned: options.links.clone(),
            awaited: BTreeSet::new(),
            set: BTreeSet::new(),
            applied: None,
            failed: Vec::new(),
            stale: true,
            dirty: true,
            noticed: false,
            options,
        })
    }

    /// How many routes of ours the kernel holds, as far as known: none before the first `apply`.
    #[must_use]
    pub fn routes(&self) -> usize {
        self.view.routes.len()
    }

    /// Removes everything of ours from the kernel: policy, routes, tunnels, rules. For whoever uninstalls; pods' links are
    /// their attachments' business.
    ///
    /// # Errors
    /// When the kernel cannot be read or written. What could be removed is gone.
    pub async fn remove(&mut self) -> Result<(), ApplyError> {
        // Policy last: what is still forwarded until then is still judged.
        let others = self.apply(&State::default()).await.map(drop);
        let policy = match &mut self.table {
            Some(table) => table.remove().map_err(|error| ApplyError::Policy {
                doing: "removed",
                why: error.to_string(),
            }),
            None => Ok(()),
        };
        others.and(policy)
    }

    /// Takes in what happened in the kernel.
    fn listen(&mut self) {
        let interest = Interest {
            port: self.socket.port(),
            protocol: self.options.protocol,
            owned: &self.owned,
            awaited: &self.awaited,
            set: &self.set,
            applied: self.applied.as_ref(),
        };
        let (view, mut effect) = (&mut self.view, Effect::None);
        let heard = self
            .monitor
            .drain(|notice| effect = effect.max(interest.note(view, notice)));
        if heard == Heard::Gaps {
            effect = Effect::Stale;
        }
        self.noticed |= effect != Effect::None;
        self.dirty |= effect != Effect::None;
        self.stale |= effect == Effect::Stale;
    }

    /// Reads the kernel. What was heard until then is older than what is read.
    fn reload(&mut self) -> Result<(), KernelError> {
        self.view = View::read(&mut self.socket, self.options.protocol, &self.owned)?;
        Ok(())
    }

    fn is_applied(&self, desired: &State) -> bool {
        let same_links = |a: &State, b: &State| {
            a.links.len() == b.links.len()
                && a.links
                    .iter()
                    .zip(&b.links)
                    .all(|((name, link), (other, same))| {
                        name == other && (Arc::ptr_eq(link, same) || link == same)
                    })
        };
        self.applied.as_ref().is_some_and(|applied| {
            Arc::ptr_eq(&applied.routes, &desired.routes)
                && Arc::ptr_eq(&applied.neighbours, &desired.neighbours)
                && Arc::ptr_eq(&applied.fdb, &desired.fdb)
                && applied.rules == desired.rules
                && applied.settings == desired.settings
                && applied.incomplete == desired.incomplete
                && same_links(applied, desired)
        })
    }

    /// Puts policy in force, before there is a route to an endpoint that it is for.
    ///
    /// Without a table nothing is routed: the packets of pods would pass unasked. With one, an endpoint that is not in
    /// it yet is denied, so what else changed need not wait for a rule that the kernel refuses.
    fn apply_policy(&mut self, desired: &State, report: &mut Report) -> Result<(), ApplyError> {
        let Some(table) = &mut self.table else {
            return Ok(());
        };
        match table.apply(desired) {
            Ok(done) => {
                self.guarded = true;
                report.changed += done.changed;
                report.failed.extend(done.failed);
                if done.changed > 0
                    && let Err(error) = recheck_connections(desired)
                {
                    report.fail(Object::Policies, error.into());
                }
                Ok(())
            }
            Err(error) if self.guarded => {
                let why = error.to_string();
                report.fail(Object::Policies, Fault::Policy { why });
                Ok(())
            }
            Err(error) => Err(ApplyError::Policy {
                doing: "written",
                why: error.to_string(),
            }),
        }
    }

    fn forward(&self) -> Result<(), ApplyError> {
        if !self.options.forwarding {
            return Ok(());
        }
        let sysctl = Sysctl::new(self.options.sysctl.as_deref());
        self.home
            .run(|| {
                for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                    if sysctl.get(setting)?.is_some() {
                        sysctl.set(setting, "1")?;
                    }
                }
                Ok(())
            })
            .map_err(|source: KernelError| ApplyError::Network {
                doing: "made to forward packets",
                source,
            })
    }
}

#[async_trait]
impl Dataplane for LinuxDataplane {
    async fn apply(&mut self, desired: &State) -> Result<Report, ApplyError> {
        let mut report = Report::default();
        self.apply_policy(desired, &mut report)?;
        if !self.failed.is_empty() {
            // What failed may be possible by now.
            self.listen();
        }
        if !self.stale && !self.dirty && self.is_applied(desired) {
            report.failed.extend_from_slice(&self.failed);
            return Ok(report);
        }
        let policy = std::mem::take(&mut report.failed);
        let network = |(doing, source)| ApplyError::Network { doing, source };
        self.listen();
        if self.stale {
            self.forward()?;
            self.reload().map_err(|error| network(("read", error)))?;
        }
        // What was left in the kernel by an incomplete state is known to the view alone.
        let whole = self
            .applied
            .as_ref()
            .is_some_and(|applied| !applied.incomplete);
        let known = whole && !self.stale && !self.dirty && self.failed.is_empty();
        // Until the last await is past, what is known may be half true.
        self.stale = true;
        self.noticed = false;
        self.apply_network(desired, known, &mut report)
            .await
            .map_err(network)?;
        self.stale = false;
        self.awaited = awaited(&report);
        self.set = desired.settings.keys().filter_map(Setting::link).collect();
        self.dirty = report
            .failed
            .iter()
            .any(|failure| !matches!(failure.fault, Fault::LinkMissing(_) | Fault::LinkDown(_)));
        self.applied = Some(desired.clone());
        self.failed.clone_from(&report.failed);
        report.failed.extend(policy);
        Ok(report)
    }

    fn invalidate(&mut self) {
        self.stale = true;
        self.dirty = true;
        if let Some(table) = &mut self.table {
            table.invalidate();
        }
    }

    fn counters(&mut self) -> Result<Counters, ApplyError> {
        let Some(table) = &mut self.table else {
            return Ok(Counters::default());
        };
        table.counters().map_err(|error| ApplyError::Policy {
            doing: "read",
            why: error.to_string(),
        })
    }

    async fn changed(&mut self) {
        loop {
            self.listen();
            if self.noticed {
                return;
            }
            if self.monitor.readable().await.is_err() {
                // No reactor to wait with: the caller's own resync has to do.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The links that something failed for want of.
fn awaited(report: &Report) -> BTreeSet<LinkName> {
    let missing =
        report
            .failed
            .iter()
            .filter_map(|failure| match (&failure.fault, &failure.object) {
                (Fault::LinkMissing(name) | Fault::LinkDown(name), _) => Some(name.clone()),
                (Fault::Kernel(error), Object::Link(name)) if error.refusal == Refusal::NoLink => {
                    Some(name.clone())
                }
                _ => None,
            });
    missing.collect()
}

#[cfg(all(test, feature = "testing"))]
mod tests;
