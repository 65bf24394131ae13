use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;

use super::FakeKernel;
use super::kernel::{FakeLink, Inner, by};
use crate::state::{Hop, LinkName, Route, RouteKey};
use crate::{ApplyError, Dataplane, Fault, Object, Report, State, names};

/// Makes a [`FakeKernel`] follow a state, with the ownership rules of the real one.
#[derive(Debug)]
pub struct FakeDataplane {
    kernel: FakeKernel,
    protocol: u8,
    applied: Option<State>,
    seen: u64,
    stale: bool,
}

impl FakeDataplane {
    /// A dataplane of this kernel, whose routes carry
    /// [`names::ROUTE_PROTOCOL`](crate::names::ROUTE_PROTOCOL).
    #[must_use]
    pub fn new(kernel: &FakeKernel) -> Self {
        Self {
            kernel: kernel.clone(),
            protocol: names::ROUTE_PROTOCOL,
            applied: None,
            seen: kernel.lock().changes,
            stale: true,
        }
    }

    /// Sets the protocol number of the routes.
    #[must_use]
    pub const fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = protocol;
        self
    }
}

#[async_trait]
impl Dataplane for FakeDataplane {
    async fn apply(&mut self, desired: &State) -> Result<Report, ApplyError> {
        let mut inner = self.kernel.lock();
        self.seen = inner.changes;
        if let Some(source) = inner.failure() {
            self.stale = true;
            return Err(ApplyError::Network {
                doing: "written",
                source,
            });
        }
        let mut report = Report::default();
        let mut work = Work {
            kernel: &mut inner,
            desired,
            applied: self.applied.as_ref(),
            protocol: self.protocol,
            report: &mut report,
        };
        work.links();
        work.policy();
        work.settings();
        work.entries();
        work.routes();
        work.rules();
        if !desired.incomplete {
            work.remove();
        }
        inner.writes += report.changed;
        drop(inner);
        self.stale = false;
        self.applied = Some(desired.clone());
        Ok(report)
    }

    fn invalidate(&mut self) {
        self.stale = true;
    }

    async fn changed(&mut self) {
        poll_fn(|context| {
            let mut inner = self.kernel.lock();
            if inner.changes != self.seen {
                return Poll::Ready(());
            }
            inner.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

struct Work<'a> {
    kernel: &'a mut Inner,
    desired: &'a State,
    applied: Option<&'a State>,
    protocol: u8,
    report: &'a mut Report,
}

impl Work<'_> {
    /// Notes a refusal on demand; true if there is one.
    fn refused(&mut self, object: Object) -> bool {
        let fault = self.kernel.refusal(&object);
        let refused = fault.is_some();
        if let Some(fault) = fault {
            self.report.fail(object, fault);
        }
        refused
    }

    fn links(&mut self) {
        for (name, wanted) in &self.desired.links {
            let link = FakeLink {
                kind: Some(wanted.kind.clone()),
                up: true,
                mtu: wanted.mtu,
                alias: None,
                addresses: wanted.addresses.clone(),
                bridge: wanted.bridge.clone(),
                checksum_offload: wanted.checksum_offload,
            };
            let found = self.kernel.links.get(name);
            if found == Some(&link) || self.refused(Object::Link(name.clone())) {
                continue;
            }
            let found = self.kernel.links.get(name);
            if found.is_some_and(|found| found.kind.is_none()) {
                let fault = Fault::Foreign {
                    found: "dummy".into(),
                };
                self.report.fail(Object::Link(name.clone()), fault);
                continue;
            }
            if found.is_some_and(|found| found.kind != link.kind) {
                self.kernel.drop_by(name);
            }
            self.kernel.links.insert(name.clone(), link);
            self.report.changed += 1;
        }
    }

    fn policy(&mut self) {
        let mut policy = self.desired.clone();
        policy.links.clear();
        policy.routes = Arc::default();
        policy.neighbours = Arc::default();
        policy.fdb = Arc::default();
        policy.rules = Arc::default();
        policy.settings = Arc::default();
        policy.incomplete = false;
        if self.kernel.policy != policy {
            self.kernel.policy = policy;
            self.report.changed += 1;
        }
    }

    fn ready(&mut self, name: &LinkName, object: Object) -> bool {
        let fault = match self.kernel.links.get(name) {
            Some(link) if link.up => return !self.refused(object),
            Some(_) => Fault::LinkDown(name.clone()),
            None => Fault::LinkMissing(name.clone()),
        };
        self.report.fail(object, fault);
        false
    }

    fn entries(&mut self) {
        for (key, mac) in self.desired.neighbours.iter() {
            if self.kernel.neighbours.get(key) != Some(mac)
                && self.ready(&key.link, Object::Neighbour(key.clone()))
            {
                self.kernel.neighbours.insert(key.clone(), *mac);
                self.report.changed += 1;
            }
        }
        for (key, remote) in self.desired.fdb.iter() {
            if self.kernel.fdb.get(key) != Some(remote)
                && self.ready(&key.link, Object::Fdb(key.clone()))
            {
                self.kernel.fdb.insert(key.clone(), *remote);
                self.report.changed += 1;
            }
        }
    }

    fn settings(&mut self) {
        for (name, value) in self.desired.settings.iter() {
            let object = Object::Setting(name.clone());
            let missing = name
                .link()
                .filter(|link| !self.kernel.links.contains_key(link));
            if let Some(link) = missing {
                self.report.fail(object, Fault::LinkMissing(link));
            } else if self.kernel.settings.get(name) != Some(value) && !self.refused(object) {
                self.kernel.settings.insert(name.clone(), value.clone());
                self.report.changed += 1;
            }
        }
    }

    fn rules(&mut self) {
        for rule in self.desired.rules.iter() {
            let ours = (rule.clone(), self.protocol);
            if !self.kernel.rules.contains(&ours) && !self.refused(Object::Rule(rule.clone())) {
                self.kernel.rules.insert(ours);
                self.report.changed += 1;
            }
        }
    }

    fn routes(&mut self) {
        for (key, wanted) in self.desired.routes.iter() {
            if let Some(fault) = self.obstacle(key, wanted) {
                self.report.fail(Object::Route(key.clone()), fault);
                continue;
            }
            let ours = (self.protocol, wanted.clone());
            if self.kernel.routes.get(key) != Some(&ours)
                && !self.refused(Object::Route(key.clone()))
            {
                self.kernel.routes.insert(key.clone(), ours);
                self.report.changed += 1;
            }
        }
    }

    fn obstacle(&self, key: &RouteKey, wanted: &Route) -> Option<Fault> {
        if wanted.hops.is_empty() {
            return Some(Fault::Invalid {
                why: "a route without a next hop",
            });
        }
        for hop in &wanted.hops {
            match hop {
                Hop::Via { gateway, .. } if gateway.is_ipv4() && !key.prefix.is_ipv4() => {
                    return Some(Fault::Unsupported {
                        what: "IPv6 routes by way of an IPv4 gateway",
                    });
                }
                Hop::Via {
                    gateway: IpAddr::V6(gateway),
                    link: None,
                    ..
                } if gateway.is_unicast_link_local() => {
                    return Some(Fault::Invalid {
                        why: "a link-local gateway without the link that it is on",
                    });
                }
                _ => {}
            }
        }
        for name in wanted.hops.iter().filter_map(by) {
            match self.kernel.links.get(name) {
                None => return Some(Fault::LinkMissing(name.clone())),
                Some(link) if !link.up => return Some(Fault::LinkDown(name.clone())),
                Some(_) => {}
            }
        }
        let (protocol, _) = self.kernel.routes.get(key)?;
        (*protocol != self.protocol).then_some(Fault::Taken {
            protocol: *protocol,
        })
    }

    fn remove(&mut self) {
        let (desired, applied, protocol) = (self.desired, self.applied, self.protocol);
        let before = self.size();
        let prefix = &*desired.host.workload_prefix;
        let fresh = |key: &RouteKey, route: &Route| {
            let known = applied.is_some_and(|state| state.routes.contains_key(key));
            let of_pod = matches!(route.hops.as_slice(), [Hop::Link(link)] if link.as_str().starts_with(prefix));
            of_pod && !known
        };
        self.kernel.routes.retain(|key, (owner, route)| {
            *owner != protocol || desired.routes.contains_key(key) || fresh(key, route)
        });
        let gone: Vec<LinkName> = self
            .kernel
            .links
            .iter()
            .filter(|(name, link)| link.kind.is_some() && !desired.links.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.kernel.links.remove(&name);
            self.kernel.drop_by(&name);
        }
        self.kernel
            .rules
            .retain(|(rule, owner)| *owner != protocol || desired.rules.contains(rule));
        self.kernel
            .neighbours
            .retain(|key, _| desired.neighbours.contains_key(key));
        self.kernel
            .fdb
            .retain(|key, _| desired.fdb.contains_key(key));
        self.report.changed += before - self.size();
    }

    fn size(&self) -> usize {
        let kernel = &self.kernel;
        let entries = kernel.neighbours.len() + kernel.fdb.len();
        kernel.routes.len() + kernel.rules.len() + kernel.links.len() + entries
    }
}
