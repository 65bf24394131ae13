//! An apply, but for policy: links, settings, neighbours, routes, rules, in an order that loses no packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::LinuxDataplane;
use crate::linux::links::Links;
use crate::linux::routes::{Routes, departed};
use crate::linux::sysctl::Sysctl;
use crate::linux::view::View;
use crate::linux::{entries, rules, settings};
use crate::state::{Route, RouteKey};
use crate::{KernelError, Report, State};

/// What was being done when the kernel could not be written, and what it said.
pub(super) type Failed = (&'static str, KernelError);

fn doing(what: &'static str) -> impl Fn(KernelError) -> Failed {
    move |error| (what, error)
}

impl LinuxDataplane {
    /// Brings links, settings, neighbours, routes and rules to what the state says: what is new first.
    pub(super) async fn apply_network(
        &mut self,
        desired: &State,
        known: bool,
        report: &mut Report,
    ) -> Result<(), Failed> {
        let ours = self.options.links.iter().chain(desired.links.keys());
        self.owned = ours.cloned().collect();
        self.apply_links(desired, report)
            .map_err(doing("written (links)"))?;
        let since = self.applied.as_ref().filter(|_| known);
        let sysctl = Sysctl::new(self.options.sysctl.as_deref());
        settings::ensure((&self.home, sysctl), &self.view, desired, since, report)
            .map_err(doing("written (settings)"))?;
        entries::add(&mut self.socket, &mut self.view, desired, report)
            .map_err(doing("written (neighbours)"))?;
        let (moved, gone) = self
            .applied
            .as_ref()
            .filter(|_| self.options.connections)
            .map(|applied| departed(applied, desired))
            .unwrap_or_default();
        // A packet of an old connection must not find the new way with the old translation.
        self.forget(&moved)?;
        let before = self.applied.as_ref().filter(|_| known);
        let before = before.map(|state| Arc::clone(&state.routes));
        let since = before.as_deref();
        self.routes_work(report)
            .add(&desired.routes, since)
            .await
            .map_err(doing("written (routes)"))?;
        // A table is filled before it is looked into, and no longer looked into before it is emptied.
        rules::add(
            &mut self.socket,
            &mut self.view,
            desired,
            self.options.protocol,
            report,
        )
        .map_err(doing("written (rules)"))?;
        if !desired.incomplete {
            self.remove_network(desired, since, report).await?;
        }
        self.forget(&gone)
    }

    /// Forgets the connections of addresses that are not behind a pod's link any more.
    fn forget(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), Failed> {
        let done = self.connections.forget(Some(&self.home), addresses);
        done.map(drop).map_err(doing("written (connections)"))
    }

    /// Removes what is ours and not named, in the opposite order.
    async fn remove_network(
        &mut self,
        desired: &State,
        since: Option<&BTreeMap<RouteKey, Route>>,
        report: &mut Report,
    ) -> Result<(), Failed> {
        rules::remove(
            &mut self.socket,
            &mut self.view,
            desired,
            self.options.protocol,
            report,
        )
        .map_err(doing("written (rules)"))?;
        let applied = self.applied.as_ref();
        let applied = applied.map(|state| Arc::clone(&state.routes));
        self.routes_work(report)
            .remove(desired, applied.as_deref(), since)
            .await
            .map_err(doing("written (routes)"))?;
        entries::remove(&mut self.socket, &mut self.view, desired, report)
            .map_err(doing("written (neighbours)"))?;
        self.links(report)
            .remove(desired)
            .map_err(doing("written (links)"))
    }

    fn routes_work<'a>(&'a mut self, report: &'a mut Report) -> Routes<'a> {
        Routes {
            socket: &mut self.socket,
            view: &mut self.view,
            protocol: self.options.protocol,
            report,
        }
    }

    fn apply_links(&mut self, desired: &State, report: &mut Report) -> Result<(), KernelError> {
        let before = report.changed;
        self.links(report).ensure(desired)?;
        if report.changed > before {
            // What our own changes made the kernel say is heard now, and then the links are read as they ended up.
            self.monitor_links()?;
        }
        Ok(())
    }

    fn links<'a>(&'a mut self, report: &'a mut Report) -> Links<'a> {
        Links {
            socket: &mut self.socket,
            view: &mut self.view,
            home: &self.home,
            options: &self.options,
            report,
        }
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
}
