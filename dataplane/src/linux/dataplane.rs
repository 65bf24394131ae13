use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::conntrack::forget_connections;
use super::follow::{Effect, Interest};
use super::monitor::{Heard, Monitor};
use super::options::Options;
use super::routes::{Routes, departed};
use super::view::View;
use super::{entries, links, sysctl};
use crate::netlink::Socket;
use crate::nft;
use crate::report::{Failure, Fault, Object};
use crate::state::LinkName;
use crate::{ApplyError, Dataplane, KernelError, OpenError, Refusal, Report, State};

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
    socket: Socket,
    monitor: Monitor,
    /// The policy half; `None` where the options leave it out.
    table: Option<nft::Table>,
    /// Whether policy has been in force since this dataplane began.
    guarded: bool,
    view: View,
    /// The links that are ours: by the options and by the last state.
    owned: BTreeSet<LinkName>,
    awaited: BTreeSet<LinkName>,
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
            monitor: monitor.map_err(failed("route netlink listening"))?,
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

    /// Takes in what happened in the kernel.
    fn listen(&mut self) {
        let interest = Interest {
            port: self.socket.port(),
            protocol: self.options.protocol,
            owned: &self.owned,
            awaited: &self.awaited,
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
                && applied.incomplete == desired.incomplete
                && same_links(applied, desired)
        })
    }

    async fn apply_network(
        &mut self,
        desired: &State,
        known: bool,
        report: &mut Report,
    ) -> Result<(), (&'static str, KernelError)> {
        let doing = |doing| move |error| (doing, error);
        self.owned = self
            .options
            .links
            .iter()
            .chain(desired.links.keys())
            .cloned()
            .collect();
        self.apply_links(desired, report)
            .map_err(doing("written (links)"))?;
        entries::add(&mut self.socket, &mut self.view, desired, report)
            .map_err(doing("written (neighbours)"))?;
        let since = self
            .applied
            .as_ref()
            .filter(|_| known)
            .map(|state| &*state.routes);
        let mut routes = Routes {
            socket: &mut self.socket,
            view: &mut self.view,
            protocol: self.options.protocol,
            report,
        };
        let doing_routes = doing("written (routes)");
        let (moved, gone) = self
            .applied
            .as_ref()
            .filter(|_| self.options.connections)
            .map(|applied| departed(applied, desired))
            .unwrap_or_default();
        // A packet of an old connection must not find the new way with the old translation.
        forget_connections(&moved).map_err(doing("written (connections)"))?;
        routes
            .add(&desired.routes, since)
            .await
            .map_err(doing_routes)?;
        if !desired.incomplete {
            let applied = self.applied.as_ref();
            routes
                .remove(desired, applied, since)
                .await
                .map_err(doing_routes)?;
            entries::remove(&mut self.socket, &mut self.view, desired, report)
                .map_err(doing("written (neighbours)"))?;
            for name in &self.options.links {
                if !desired.links.contains_key(name) {
                    links::remove(&mut self.socket, &mut self.view, name, report);
                }
            }
        }
        forget_connections(&gone).map_err(doing("written (connections)"))?;
        Ok(())
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

    fn apply_links(&mut self, desired: &State, report: &mut Report) -> Result<(), KernelError> {
        let before = report.changed;
        for (name, wanted) in &desired.links {
            if let Some(index) = self.view.index(name)
                && !self.view.addresses.contains_key(&index)
            {
                self.view.read_entries(&mut self.socket, index)?;
            }
            let keep_more = desired.incomplete;
            links::ensure(
                &mut self.socket,
                &mut self.view,
                name,
                wanted,
                keep_more,
                report,
            )?;
        }
        if report.changed > before {
            // What our own changes made the kernel say is heard now, and then the links are read as they ended up.
            self.monitor_links()?;
        }
        Ok(())
    }

    fn monitor_links(&mut self) -> Result<(), KernelError> {
        let (stale, noticed) = (self.stale, self.noticed);
        self.listen();
        let fresh = View::read_links(&mut self.socket)?;
        self.view.replace_links(fresh);
        for name in self.owned.clone() {
            if let Some(index) = self.view.index(&name) {
                self.view.read_entries(&mut self.socket, index)?;
            }
        }
        (self.stale, self.noticed) = (stale, noticed);
        Ok(())
    }

    fn forward(&self) -> Result<(), ApplyError> {
        if !self.options.forwarding {
            return Ok(());
        }
        let mut settings = vec!["ipv4/ip_forward"];
        if sysctl::has_ipv6() {
            settings.push("ipv6/conf/all/forwarding");
        }
        for setting in settings {
            sysctl::set(setting, "1").map_err(|error| ApplyError::Network {
                doing: "made to forward packets",
                source: KernelError::new(error.source.errno, Some(&error.path)),
            })?;
        }
        Ok(())
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
