use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::state::{
    Address, Fdb, Hop, LinkKind, LinkName, MacAddr, Neighbour, Route, RouteKey, RoutingRule,
    Setting,
};
use crate::{
    Attach, AttachError, Attached, Attachment, Detachment, Difference, Fault, KernelError, Object,
    Prefix, State, names,
};

/// A kernel in memory: links, routes with their owners, neighbours, forwarding entries and policy.
///
/// Clones are handles of one kernel. As in Linux, a route goes when its link goes down or away, a route of a key that
/// is taken is refused whoever has it, and neighbours go with their link.
#[derive(Clone, Debug, Default)]
pub struct FakeKernel {
    inner: Arc<Mutex<Inner>>,
}

/// A link of a [`FakeKernel`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FakeLink {
    /// The kind and settings of a link that a state asked for; `None` for any other.
    pub kind: Option<LinkKind>,
    /// Whether it is up.
    pub up: bool,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// The alias.
    pub alias: Option<String>,
    /// Its addresses.
    pub addresses: BTreeSet<Address>,
    /// The bridge that it is a port of.
    pub bridge: Option<LinkName>,
    /// Whether checksums may be left to hardware; `None` where nobody said.
    pub checksum_offload: Option<bool>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) links: BTreeMap<LinkName, FakeLink>,
    pub(super) routes: BTreeMap<RouteKey, (u8, Route)>,
    pub(super) neighbours: BTreeMap<Neighbour, MacAddr>,
    pub(super) fdb: BTreeMap<Fdb, IpAddr>,
    pub(super) rules: BTreeSet<(RoutingRule, u8)>,
    pub(super) settings: BTreeMap<Setting, Box<str>>,
    pub(super) policy: State,
    pub(super) writes: usize,
    /// Counts what anybody changed, so that a dataplane knows what it has seen.
    pub(super) changes: u64,
    pub(super) wakers: Vec<Waker>,
    refusals: Vec<(Object, Fault)>,
    failures: VecDeque<KernelError>,
    unattachable: Vec<(LinkName, AttachError)>,
    containers: BTreeMap<LinkName, Attachment>,
}

impl FakeKernel {
    /// A kernel without links.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a link that is up, with an MTU of 1500 bytes, as the administrator would.
    pub fn add_link(&self, name: &LinkName) {
        let link = FakeLink {
            up: true,
            mtu: 1500,
            ..FakeLink::default()
        };
        self.change(|inner| inner.links.insert(name.clone(), link));
    }

    /// Brings a link up or down, as the administrator would; its routes go when it goes down.
    pub fn set_link(&self, name: &LinkName, up: bool) {
        self.change(|inner| {
            if let Some(link) = inner.links.get_mut(name) {
                link.up = up;
            }
            if !up {
                inner.drop_routes_by(name);
            }
        });
    }

    /// Removes a link with its routes and neighbours, as the administrator would.
    pub fn remove_link(&self, name: &LinkName) {
        self.change(|inner| {
            inner.links.remove(name);
            inner.drop_by(name);
        });
    }

    /// Adds or replaces a route, as somebody with this protocol number would.
    pub fn set_route(&self, key: RouteKey, route: Route, protocol: u8) {
        self.change(|inner| inner.routes.insert(key, (protocol, route)));
    }

    /// Removes a route, whoever has it.
    pub fn remove_route(&self, key: &RouteKey) {
        self.change(|inner| inner.routes.remove(key));
    }

    /// All links.
    #[must_use]
    pub fn links(&self) -> BTreeMap<LinkName, FakeLink> {
        self.lock().links.clone()
    }

    /// All routes, each with its protocol number.
    #[must_use]
    pub fn routes(&self) -> BTreeMap<RouteKey, (u8, Route)> {
        self.lock().routes.clone()
    }

    /// All permanent neighbours.
    #[must_use]
    pub fn neighbours(&self) -> BTreeMap<Neighbour, MacAddr> {
        self.lock().neighbours.clone()
    }

    /// All forwarding entries.
    #[must_use]
    pub fn fdb(&self) -> BTreeMap<Fdb, IpAddr> {
        self.lock().fdb.clone()
    }

    /// Adds a rule, as somebody with this protocol number would.
    pub fn set_rule(&self, rule: RoutingRule, protocol: u8) {
        self.change(|inner| inner.rules.insert((rule, protocol)));
    }

    /// Removes a rule of this protocol number, as the administrator would.
    pub fn remove_rule(&self, rule: &RoutingRule, protocol: u8) {
        self.change(|inner| inner.rules.remove(&(rule.clone(), protocol)));
    }

    /// All rules, each with its protocol number.
    #[must_use]
    pub fn rules(&self) -> BTreeSet<(RoutingRule, u8)> {
        self.lock().rules.clone()
    }

    /// Gives a setting a value, as the administrator would. A setting that nobody gave one has none here.
    pub fn set_setting(&self, name: Setting, value: &str) {
        self.change(|inner| inner.settings.insert(name, value.into()));
    }

    /// All settings that somebody gave a value.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<Setting, Box<str>> {
        self.lock().settings.clone()
    }

    /// From now on refuses to attach and to detach this link of the node, with this error.
    pub fn refuse_attach(&self, link: LinkName, error: AttachError) {
        self.lock().unattachable.push((link, error));
    }

    /// The sets, policies, endpoints and rules that are in force; links and routes of this state are empty.
    #[must_use]
    pub fn policy(&self) -> State {
        self.lock().policy.clone()
    }

    /// How many objects were written by dataplanes and attachments since the kernel began.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.lock().writes
    }

    /// From now on refuses to make or change an object, with this fault.
    pub fn refuse(&self, object: Object, fault: Fault) {
        self.lock().refusals.push((object, fault));
    }

    /// Takes all refusals back.
    pub fn relent(&self) {
        self.change(|inner| {
            inner.refusals.clear();
            inner.unattachable.clear();
        });
    }

    /// Lets the next apply fail as a whole with this error; several calls fail as many applies.
    pub fn fail_next(&self, error: KernelError) {
        self.lock().failures.push_back(error);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) {
        let mut inner = self.lock();
        change(&mut inner);
        inner.changes += 1;
        let wakers = std::mem::take(&mut inner.wakers);
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    pub(super) fn refusal(&self, object: &Object) -> Option<Fault> {
        let refused = self.refusals.iter().find(|(refused, _)| refused == object);
        refused.map(|(_, fault)| fault.clone())
    }

    pub(super) fn failure(&mut self) -> Option<KernelError> {
        self.failures.pop_front()
    }

    fn drop_routes_by(&mut self, name: &LinkName) {
        self.routes
            .retain(|_, (_, route)| !route.hops.iter().any(|hop| by(hop) == Some(name)));
    }

    /// Drops what is on a link: routes by it, neighbours, forwarding entries, settings.
    pub(super) fn drop_by(&mut self, name: &LinkName) {
        self.drop_routes_by(name);
        self.neighbours
            .retain(|neighbour, _| neighbour.link != *name);
        self.fdb.retain(|fdb, _| fdb.link != *name);
        self.settings
            .retain(|setting, _| setting.link().as_ref() != Some(name));
    }

    fn attachable(&self, name: &LinkName) -> Result<(), AttachError> {
        let refused = self
            .unattachable
            .iter()
            .find(|(refused, _)| refused == name);
        refused.map_or(Ok(()), |(_, error)| Err(error.clone()))
    }
}

/// The link that a hop leaves by, where it names one.
pub(super) const fn by(hop: &Hop) -> Option<&LinkName> {
    match hop {
        Hop::Link(link)
        | Hop::Via {
            link: Some(link), ..
        } => Some(link),
        _ => None,
    }
}

impl Attach for FakeKernel {
    fn attach(&self, attachment: &Attachment) -> Result<Attached, AttachError> {
        self.lock().attachable(&attachment.host_link)?;
        let taken = self.lock().route_taken(attachment);
        if let Some((address, protocol)) = taken {
            return Err(AttachError::RouteTaken { address, protocol });
        }
        let name = attachment.host_link.clone();
        let other = self
            .lock()
            .links
            .get(&name)
            .is_some_and(|link| link.alias.is_none());
        if other {
            return Err(AttachError::Foreign {
                link: name,
                found: String::new(),
            });
        }
        self.change(|inner| {
            let ours = inner
                .links
                .get(&name)
                .is_some_and(|link| link.alias.as_ref() == Some(&attachment.alias));
            if !ours {
                inner.drop_by(&name);
            }
            let link = FakeLink {
                up: true,
                mtu: attachment.mtu,
                alias: Some(attachment.alias.clone()),
                ..FakeLink::default()
            };
            inner.links.insert(name.clone(), link);
            inner.containers.insert(name.clone(), attachment.clone());
            for (key, route) in routes_to(attachment) {
                inner.routes.insert(key, (attachment.route_protocol, route));
            }
            inner.writes += 1;
        });
        let mac = attachment.mac.unwrap_or(MacAddr([2, 0, 0, 0, 0, 1]));
        Ok(Attached::new(names::HOST_MAC, mac, attachment.mtu))
    }

    fn detach(&self, detachment: &Detachment) -> Result<bool, AttachError> {
        self.lock().attachable(&detachment.host_link)?;
        let ours = self
            .lock()
            .links
            .get(&detachment.host_link)
            .is_some_and(|link| link.alias.as_ref() == Some(&detachment.alias));
        if ours {
            self.lock().containers.remove(&detachment.host_link);
            self.remove_link(&detachment.host_link);
        }
        Ok(ours)
    }

    fn check(&self, attachment: &Attachment) -> Result<Vec<Difference>, AttachError> {
        let inner = self.lock();
        let mut differences = Vec::new();
        let mut expect = |what: String, expected: String, found: String| {
            if expected != found {
                differences.push(Difference {
                    what,
                    expected,
                    found,
                });
            }
        };
        let name = &attachment.host_link;
        let Some(link) = inner.links.get(name).cloned() else {
            expect(name.to_string(), "there".into(), "missing".into());
            return Ok(differences);
        };
        expect(
            format!("alias of {name}"),
            attachment.alias.clone(),
            link.alias.unwrap_or_default(),
        );
        expect(
            format!("mtu of {name}"),
            attachment.mtu.to_string(),
            link.mtu.to_string(),
        );
        expect(
            format!("state of {name}"),
            "up".into(),
            if link.up { "up" } else { "down" }.into(),
        );
        for (key, route) in routes_to(attachment) {
            let found = inner
                .routes
                .get(&key)
                .is_some_and(|(_, found)| *found == route);
            let found = if found { "there" } else { "missing" };
            expect(
                format!("route {}", key.prefix),
                "there".into(),
                found.into(),
            );
        }
        Ok(differences)
    }
}

impl Inner {
    fn route_taken(&self, attachment: &Attachment) -> Option<(IpAddr, u8)> {
        attachment.addresses.iter().find_map(|address| {
            let (protocol, _) = self.routes.get(&RouteKey::main(Prefix::host(*address)))?;
            (*protocol != attachment.route_protocol).then_some((*address, *protocol))
        })
    }
}

fn routes_to(attachment: &Attachment) -> impl Iterator<Item = (RouteKey, Route)> {
    attachment.addresses.iter().map(|address| {
        let route = Route {
            hops: vec![Hop::Link(attachment.host_link.clone())],
            source: None,
        };
        (RouteKey::main(Prefix::host(*address)), route)
    })
}
