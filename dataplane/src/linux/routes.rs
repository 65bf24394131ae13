//! Routes: what differs is replaced, in as few datagrams as there is room in.

use std::collections::BTreeMap;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;

use super::view::View;
use crate::netlink::route::{Hops, KernelHop, KernelRoute, kernel_key};
use crate::netlink::{Batch, Socket, route};
use crate::report::{Fault, Object, Report};
use crate::state::{Hop, LinkName, Route, RouteKey};
use crate::{KernelError, Refusal, State};

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
    /// Makes what is missing and replaces what differs; removes nothing.
    pub(super) async fn add(
        &mut self,
        wanted: &BTreeMap<RouteKey, Route>,
    ) -> Result<(), KernelError> {
        let mut taken = Vec::new();
        // Routes straight out of a link first: gateways of others may be behind them.
        for straight in [true, false] {
            let mut batch = Batch::new();
            for (key, route) in wanted {
                if is_straight(route) != straight {
                    continue;
                }
                let resolved = match resolve(self.view, key, route, self.protocol) {
                    Ok(resolved) => resolved,
                    Err(fault) => {
                        self.report.fail(Object::Route(key.clone()), fault);
                        continue;
                    }
                };
                let key = kernel_key(key);
                let before = self.view.routes.get(&key);
                if before.is_some_and(|before| resolved.satisfied_by(before)) {
                    continue;
                }
                let flags = if before.is_some() {
                    NLM_F_REPLACE
                } else {
                    NLM_F_EXCL
                };
                let message = route::new(&key, &resolved);
                let before = self.view.routes.insert(key.clone(), resolved);
                batch.push(Change { key, before }, message, NLM_F_CREATE | flags);
                if batch.is_full() {
                    self.run(&mut batch, &mut taken)?;
                    tokio::task::yield_now().await;
                }
            }
            self.run(&mut batch, &mut taken)?;
        }
        if taken.is_empty() {
            Ok(())
        } else {
            self.settle(&taken, wanted)
        }
    }

    /// Removes what is ours and not wanted.
    pub(super) async fn remove(
        &mut self,
        desired: &State,
        applied: Option<&State>,
    ) -> Result<(), KernelError> {
        let gone: Vec<RouteKey> = self.unwanted(desired, applied);
        let mut batch = Batch::new();
        for key in gone {
            let before = self.view.routes.remove(&key);
            batch.push(
                Change {
                    key: key.clone(),
                    before,
                },
                route::delete(&key, self.protocol),
                0,
            );
            if batch.is_full() {
                self.run_deletions(&mut batch)?;
                tokio::task::yield_now().await;
            }
        }
        self.run_deletions(&mut batch)
    }

    /// A route straight out of a pod's link that no state has named stays: an `Attach` made it a moment ago, before
    /// the state knows of the pod, and it goes with its link.
    fn unwanted(&self, desired: &State, applied: Option<&State>) -> Vec<RouteKey> {
        let mut wanted = desired.routes.keys().map(kernel_key).peekable();
        let ordered = desired
            .routes
            .keys()
            .all(|key| key.metric != 0 || key.prefix.is_ipv4());
        let all: std::collections::BTreeSet<RouteKey> = if ordered {
            Default::default()
        } else {
            desired.routes.keys().map(kernel_key).collect()
        };
        let mut gone = Vec::new();
        for (key, route) in &self.view.routes {
            let named = if ordered {
                while wanted.next_if(|next| next < key).is_some() {}
                wanted.peek() == Some(key)
            } else {
                all.contains(key)
            };
            if named || self.is_fresh_pod(key, route, desired, applied) {
                continue;
            }
            gone.push(key.clone());
        }
        gone
    }

    fn is_fresh_pod(
        &self,
        key: &RouteKey,
        route: &KernelRoute,
        desired: &State,
        applied: Option<&State>,
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
        let mut plain = key.clone();
        plain.metric = 0;
        let known = applied.is_some_and(|state| {
            state.routes.contains_key(key) || state.routes.contains_key(&plain)
        });
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
            match before {
                Some(before) => self.view.routes.insert(key.clone(), before),
                None => self.view.routes.remove(&key),
            };
            if error.refusal == Refusal::Exists {
                taken.push(key);
            } else {
                self.report.fail(Object::Route(key), error.into());
            }
        }
        Ok(())
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
                found.extend(self.socket.dump(
                    &route::list(v4, 0),
                    |all: &mut Vec<_>, object| {
                        if let RouteNetlinkMessage::NewRoute(message) = object {
                            all.extend(
                                route::parse(&message).filter(|(key, _)| taken.contains(key)),
                            );
                        }
                    },
                )?);
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
                let message = route::new(&key, &resolved);
                self.view.routes.insert(key.clone(), resolved);
                batch.push(
                    Change {
                        key,
                        before: Some(before),
                    },
                    message,
                    NLM_F_CREATE | NLM_F_REPLACE,
                );
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

/// The route in the kernel's terms, or why it cannot be there now.
pub(super) fn resolve(
    view: &View,
    key: &RouteKey,
    route: &Route,
    protocol: u8,
) -> Result<KernelRoute, Fault> {
    let v4 = key.prefix.is_ipv4();
    let one = |hop: &Hop| -> Result<KernelHop, Fault> {
        match hop {
            Hop::Link(name) => Ok(KernelHop {
                gateway: None,
                link: ready(view, name)?,
                onlink: false,
            }),
            Hop::Via { gateway, .. } if gateway.is_ipv4() != v4 => Err(Fault::Invalid {
                why: "the gateway is of the other address family",
            }),
            Hop::Via {
                gateway,
                link,
                onlink,
            } => Ok(KernelHop {
                gateway: Some(*gateway),
                link: link.as_ref().map_or(Ok(0), |name| ready(view, name))?,
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

fn ready(view: &View, name: &LinkName) -> Result<u32, Fault> {
    match view.named(name) {
        Some(link) if link.up => Ok(link.index),
        Some(_) => Err(Fault::LinkDown(name.clone())),
        None => Err(Fault::LinkMissing(name.clone())),
    }
}
