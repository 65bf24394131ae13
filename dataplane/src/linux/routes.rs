//! Routes: what differs is replaced, in as few datagrams as there is room in.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

use super::links::NO_IPV6_IN_IPIP;
use super::view::View;
use crate::netlink::route::{Hops, KernelHop, KernelRoute, kernel_key};
use crate::netlink::{Batch, Socket};
use crate::report::{Fault, Object, Report};
use crate::state::{Hop, LinkName, Route, RouteKey};
use crate::{KernelError, Refusal, State};

mod diff;

pub(super) use diff::{departed, names};

/// Works on routes with one socket, for one apply.
pub(super) struct Routes<'a> {
    pub(super) socket: &'a mut Socket,
    pub(super) view: &'a mut View,
    pub(super) protocol: u8,
    pub(super) report: &'a mut Report,
}

/// A change on its way to the kernel: what was there before, should it be refused.
struct Change {
    key: RouteKey,
    before: Option<KernelRoute>,
}

impl Routes<'_> {
    /// Makes what is missing and replaces what differs; removes nothing. With `since`, a state that the kernel is known
    /// to be like, only what differs between the two is looked at.
    pub(super) async fn add(
        &mut self,
        wanted: &BTreeMap<RouteKey, Route>,
        since: Option<&BTreeMap<RouteKey, Route>>,
    ) -> Result<(), KernelError> {
        let mut taken = Vec::new();
        let mut changed: Vec<_> = diff::changed(wanted, since).collect();
        // Routes straight out of a link first: gateways of others may be behind them.
        changed.sort_by_key(|(_, route)| !is_straight(route));
        let mut batch = Batch::new();
        for (key, route) in changed {
            self.prepare(&mut batch, key, route);
            if batch.is_full() {
                self.run(&mut batch, &mut taken)?;
                tokio::task::yield_now().await;
            }
        }
        self.run(&mut batch, &mut taken)?;
        if taken.is_empty() {
            Ok(())
        } else {
            self.settle(&taken, wanted)
        }
    }

    /// Puts a route on its way, unless the kernel has it or it cannot be there now.
    fn prepare(&mut self, batch: &mut Batch<Change>, key: &RouteKey, route: &Route) {
        let resolved = match resolve(self.view, key, route, self.protocol) {
            Ok(resolved) => resolved,
            Err(fault) => {
                self.report.fail(Object::Route(key.clone()), fault);
                return;
            }
        };
        let key = kernel_key(key);
        match self.view.routes.entry(key.clone()) {
            Entry::Vacant(entry) => {
                let route = entry.insert(resolved);
                let change = Change {
                    key: key.clone(),
                    before: None,
                };
                batch.push_route(change, &key, route, NLM_F_CREATE | NLM_F_EXCL);
            }
            Entry::Occupied(entry) if resolved.satisfied_by(entry.get()) => {}
            Entry::Occupied(mut entry) => {
                let before = Some(entry.insert(resolved));
                let change = Change {
                    key: key.clone(),
                    before,
                };
                batch.push_route(change, &key, entry.get(), NLM_F_CREATE | NLM_F_REPLACE);
            }
        }
    }

    /// Removes what is ours and not wanted. With `since`, a state that the kernel is known to be like, only what that
    /// named is looked at.
    pub(super) async fn remove(
        &mut self,
        desired: &State,
        applied: Option<&BTreeMap<RouteKey, Route>>,
        since: Option<&BTreeMap<RouteKey, Route>>,
    ) -> Result<(), KernelError> {
        let gone = match since {
            Some(since) => diff::removed(since, &desired.routes),
            None => self.unwanted(desired, applied),
        };
        let mut batch = Batch::new();
        for key in gone {
            let Some(before) = self.view.routes.remove(&key) else {
                continue;
            };
            let change = Change {
                key: key.clone(),
                before: Some(before),
            };
            batch.push_removal(change, &key, self.protocol);
            if batch.is_full() {
                self.run_deletions(&mut batch)?;
                tokio::task::yield_now().await;
            }
        }
        self.run_deletions(&mut batch)
    }

    /// A route straight out of a pod's link that no state has named stays: an `Attach` made it a moment ago, before
    /// the state knows of the pod, and it goes with its link.
    fn unwanted(
        &self,
        desired: &State,
        applied: Option<&BTreeMap<RouteKey, Route>>,
    ) -> Vec<RouteKey> {
        let unnamed = diff::unnamed(self.view.routes.iter(), &desired.routes);
        unnamed
            .filter(|(key, route)| !self.is_fresh_pod(key, route, desired, applied))
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn is_fresh_pod(
        &self,
        key: &RouteKey,
        route: &KernelRoute,
        desired: &State,
        applied: Option<&BTreeMap<RouteKey, Route>>,
    ) -> bool {
        let Hops::One(KernelHop {
            gateway: None,
            link,
            ..
        }) = route.hops
        else {
            return false;
        };
        let of_pod = self.view.link(link).is_some_and(|link| {
            link.name
                .as_str()
                .starts_with(&*desired.host.workload_prefix)
        });
        let known = applied.is_some_and(|routes| diff::names(routes, key));
        of_pod && !known
    }

    fn run(
        &mut self,
        batch: &mut Batch<Change>,
        taken: &mut Vec<RouteKey>,
    ) -> Result<(), KernelError> {
        let all = batch.len();
        let refused = self.socket.run(batch)?;
        self.report.changed += all - refused.len();
        for (change, error) in refused {
            let Change { key, before } = change;
            let tried = match before {
                Some(before) => self.view.routes.insert(key.clone(), before),
                None => self.view.routes.remove(&key),
            };
            if error.refusal == Refusal::Exists {
                taken.push(key);
            } else {
                let fault = self.fault(tried, error);
                self.report.fail(Object::Route(key), fault);
            }
        }
        Ok(())
    }

    /// Why a route was refused. A link that went a moment ago, of which no notice has been heard, is awaited like one that
    /// was known to be gone.
    fn fault(&self, tried: Option<KernelRoute>, error: KernelError) -> Fault {
        let link = tried.and_then(|route| match route.hops {
            Hops::One(hop) => Some(hop.link),
            Hops::Many(hops) => hops.first().map(|hop| hop.link),
            _ => None,
        });
        let name = link.and_then(|index| self.view.link(index));
        match (error.refusal, name) {
            (Refusal::LinkDown, Some(link)) => Fault::LinkDown(link.name.clone()),
            (Refusal::NoLink, Some(link)) => Fault::LinkMissing(link.name.clone()),
            _ => error.into(),
        }
    }

    fn run_deletions(&mut self, batch: &mut Batch<Change>) -> Result<(), KernelError> {
        let all = batch.len();
        let refused = self.socket.run(batch)?;
        self.report.changed += all - refused.len();
        for (Change { key, before }, error) in refused {
            if error.refusal == Refusal::Missing {
                continue;
            }
            if let Some(before) = before {
                self.view.routes.insert(key.clone(), before);
            }
            self.report.fail(Object::Route(key), error.into());
        }
        Ok(())
    }

    /// Looks who has the keys that were refused: ours are adopted and put right, others' are left and reported.
    fn settle(
        &mut self,
        taken: &[RouteKey],
        wanted: &BTreeMap<RouteKey, Route>,
    ) -> Result<(), KernelError> {
        let mut found = BTreeMap::new();
        for v4 in [true, false] {
            if taken.iter().any(|key| key.prefix.is_ipv4() == v4) {
                found.extend(
                    self.socket
                        .dump_routes(v4, 0, |all: &mut Vec<_>, key, route| {
                            if taken.contains(&key) {
                                all.push((key, route));
                            }
                        })?,
                );
            }
        }
        let mut batch = Batch::new();
        for (key, route) in wanted.iter().map(|(key, route)| (kernel_key(key), route)) {
            if !taken.contains(&key) {
                continue;
            }
            let Some(before) = found.remove(&key) else {
                continue;
            };
            if before.protocol != self.protocol {
                let fault = Fault::Taken {
                    protocol: before.protocol,
                };
                self.report.fail(Object::Route(key), fault);
                continue;
            }
            self.view.routes.insert(key.clone(), before.clone());
            if let Ok(resolved) = resolve(self.view, &key, route, self.protocol)
                && !resolved.satisfied_by(&before)
            {
                let change = Change {
                    key: key.clone(),
                    before: Some(before),
                };
                batch.push_route(change, &key, &resolved, NLM_F_CREATE | NLM_F_REPLACE);
                self.view.routes.insert(key, resolved);
                if batch.is_full() {
                    self.run(&mut batch, &mut Vec::new())?;
                }
            }
        }
        self.run(&mut batch, &mut Vec::new())
    }
}

fn is_straight(route: &Route) -> bool {
    matches!(route.hops.as_slice(), [Hop::Link(_)])
}

const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The route in the kernel's terms, or why it cannot be there now.
pub(super) fn resolve(
    view: &View,
    key: &RouteKey,
    route: &Route,
    protocol: u8,
) -> Result<KernelRoute, Fault> {
    let v4 = key.prefix.is_ipv4();
    let ready = |name: &LinkName| match view.named(name) {
        Some(link) if link.kind == "ipip" && !v4 => Err(NO_IPV6_IN_IPIP),
        Some(link) if link.up => Ok(link.index),
        Some(_) => Err(Fault::LinkDown(name.clone())),
        None => Err(Fault::LinkMissing(name.clone())),
    };
    let one = |hop: &Hop| -> Result<KernelHop, Fault> {
        match hop {
            Hop::Link(name) => Ok(KernelHop {
                gateway: None,
                link: ready(name)?,
                onlink: false,
            }),
            Hop::Via { gateway, .. } if gateway.is_ipv4() && !v4 => Err(Fault::Unsupported {
                what: "IPv6 routes by way of an IPv4 gateway",
            }),
            Hop::Via {
                gateway,
                link: None,
                ..
            } if is_link_local(*gateway) => Err(Fault::Invalid {
                why: "a link-local gateway without the link that it is on",
            }),
            Hop::Via {
                gateway,
                link,
                onlink,
            } => Ok(KernelHop {
                gateway: Some(*gateway),
                link: link.as_ref().map_or(Ok(0), ready)?,
                onlink: *onlink,
            }),
            Hop::Blackhole => Err(Fault::Invalid {
                why: "a blackhole beside other next hops",
            }),
        }
    };
    let hops = match route.hops.as_slice() {
        [] => {
            return Err(Fault::Invalid {
                why: "a route without a next hop",
            });
        }
        [Hop::Blackhole] => Hops::Blackhole,
        [hop] => Hops::One(one(hop)?),
        many => Hops::Many(many.iter().map(one).collect::<Result<_, _>>()?),
    };
    Ok(KernelRoute {
        hops,
        source: route.source,
        protocol,
    })
}
