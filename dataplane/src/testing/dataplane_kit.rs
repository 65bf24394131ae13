//! What every [`Dataplane`] must do, as a check that runs on any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Violation, expect, ready};
use crate::state::{
    Address, Hop, IpVersion, Link, LinkKind, LinkName, Route, RouteKey, RoutingAction, RoutingRule,
};
use crate::{Dataplane, Fault, Object, Report, State, names};

/// A kernel on which dataplanes are checked: the administrator's and other programs' hands.
///
/// It starts without any link but the loopback. A change must have reached the kernel when the call returns.
pub trait Bench: Send {
    /// A new dataplane of this kernel, which owns routes of protocol
    /// [`names::ROUTE_PROTOCOL`].
    fn open(&mut self) -> Box<dyn Dataplane>;
    /// Adds a link that is up.
    fn add_link(&mut self, name: &LinkName);
    /// Brings a link up or down.
    fn set_link(&mut self, name: &LinkName, up: bool);
    /// Removes a link.
    fn remove_link(&mut self, name: &LinkName);
    /// Adds a route of a protocol.
    fn add_route(&mut self, key: &RouteKey, route: &Route, protocol: u8);
    /// Removes a route.
    fn remove_route(&mut self, key: &RouteKey);
    /// All routes of these protocols: [`names::ROUTE_PROTOCOL`] and [`FOREIGN`]. Those of the kit have one next hop, which
    /// may be a gateway of the other address family.
    fn routes(&mut self) -> BTreeMap<RouteKey, (u8, Route)>;
    /// Adds a rule of a protocol: one for all packets of a family, with a priority and a table.
    fn add_rule(&mut self, rule: &RoutingRule, protocol: u8);
    /// Removes a rule of a protocol.
    fn remove_rule(&mut self, rule: &RoutingRule, protocol: u8);
    /// All rules of these protocols: [`names::ROUTE_PROTOCOL`] and [`FOREIGN`].
    fn rules(&mut self) -> BTreeSet<(RoutingRule, u8)>;
    /// The addresses of a link but link-local ones, and its MTU; `None` when it is not there.
    fn link(&mut self, name: &LinkName) -> Option<(BTreeSet<Address>, u32)>;
}

/// The protocol number of the routes that the kit adds as somebody else.
pub const FOREIGN: u8 = 99;

/// Runs every check on a bench that nothing has been done with.
///
/// # Errors
/// The first promise that is not kept.
pub async fn check(bench: &mut dyn Bench) -> Result<(), Violation> {
    let mut kit = Kit { bench };
    kit.follows().await?;
    kit.leaves_others().await?;
    kit.holds_back().await?;
    kit.waits_for_links().await?;
    kit.repairs().await?;
    kit.adopts_pods().await?;
    kit.shares_destinations().await?;
    kit.mixes_families().await?;
    kit.follows_rules().await?;
    kit.follows_links().await
}

struct Kit<'a> {
    bench: &'a mut dyn Bench,
}

impl Kit<'_> {
    async fn follows(&mut self) -> Result<(), Violation> {
        let case = "the kernel follows the state, and a state that did not change changes nothing";
        self.bench.add_link(&link("eth8"));
        let mut dataplane = self.bench.open();
        let first = state([
            straight("10.1.0.1/32", "eth8"),
            blackhole("10.2.0.0/26"),
            blackhole("fd02::/122"),
        ]);
        let report = apply(case, &mut *dataplane, &first).await?;
        complete(case, &report)?;
        self.hold(case, &first)?;
        unchanged(case, apply(case, &mut *dataplane, &first).await?)?;
        let mut another = self.bench.open();
        unchanged(
            "what is there is adopted",
            apply(case, &mut *another, &first).await?,
        )?;

        let second = state([blackhole("10.1.0.1/32"), straight("10.3.0.1/32", "eth8")]);
        complete(case, &apply(case, &mut *another, &second).await?)?;
        self.hold("routes are replaced and removed", &second)?;
        apply(case, &mut *another, &State::default()).await?;
        self.hold("an empty state leaves nothing of ours", &State::default())
    }

    async fn leaves_others(&mut self) -> Result<(), Violation> {
        let case = "what is somebody else's is left and reported";
        let (key, theirs) = blackhole("10.4.0.0/26");
        self.bench.add_route(&key, &theirs, FOREIGN);
        let mut dataplane = self.bench.open();
        let desired = state([straight("10.4.0.0/26", "eth8"), blackhole("10.5.0.0/26")]);
        let report = apply(case, &mut *dataplane, &desired).await?;
        let taken = Fault::Taken { protocol: FOREIGN };
        let reported = report
            .failed
            .iter()
            .any(|f| f.object == Object::Route(key.clone()) && f.fault == taken);
        expect(case, reported, || format!("{:?}", report.failed))?;
        apply(case, &mut *dataplane, &State::default()).await?;
        let routes = self.bench.routes();
        expect(
            case,
            routes.get(&key) == Some(&(FOREIGN, theirs)) && routes.len() == 1,
            || format!("{routes:?}"),
        )?;
        self.bench.remove_route(&key);
        Ok(())
    }

    async fn holds_back(&mut self) -> Result<(), Violation> {
        let case = "an incomplete state removes nothing";
        let (key, route) = blackhole("10.6.0.0/26");
        self.bench.add_route(&key, &route, names::ROUTE_PROTOCOL);
        let mut dataplane = self.bench.open();
        let mut desired = state([blackhole("10.7.0.0/26")]);
        desired.incomplete = true;
        apply(case, &mut *dataplane, &desired).await?;
        let routes = self.bench.routes();
        expect(case, routes.len() == 2, || format!("{routes:?}"))?;
        desired.incomplete = false;
        apply(case, &mut *dataplane, &desired).await?;
        self.hold("a complete one removes the rest", &desired)?;
        apply(case, &mut *dataplane, &State::default()).await?;
        Ok(())
    }

    async fn waits_for_links(&mut self) -> Result<(), Violation> {
        let case = "a link that is missing is reported, and its coming is noticed";
        let later = link("later0");
        let mut dataplane = self.bench.open();
        let desired = state([
            straight("10.8.0.1/32", "later0"),
            straight("10.8.0.2/32", "eth8"),
        ]);
        let report = apply(case, &mut *dataplane, &desired).await?;
        failed(case, &report, &Fault::LinkMissing(later.clone()))?;
        expect(
            "one failure stops no other",
            self.bench.routes().len() == 1,
            String::new,
        )?;
        self.bench.add_link(&later);
        noticed(case, &mut *dataplane)?;
        complete(case, &apply(case, &mut *dataplane, &desired).await?)?;
        self.hold(case, &desired)?;

        let case = "a link that flaps gets its routes back";
        self.bench.set_link(&later, false);
        noticed(case, &mut *dataplane)?;
        let report = apply(case, &mut *dataplane, &desired).await?;
        failed(case, &report, &Fault::LinkDown(later.clone()))?;
        self.bench.set_link(&later, true);
        noticed(case, &mut *dataplane)?;
        complete(case, &apply(case, &mut *dataplane, &desired).await?)?;
        self.hold(case, &desired)?;

        let case = "a link that is replaced by another of its name gets its routes back";
        self.bench.remove_link(&later);
        self.bench.add_link(&later);
        noticed(case, &mut *dataplane)?;
        complete(case, &apply(case, &mut *dataplane, &desired).await?)?;
        self.hold(case, &desired)?;
        apply(case, &mut *dataplane, &State::default()).await?;
        self.bench.remove_link(&later);
        Ok(())
    }

    async fn repairs(&mut self) -> Result<(), Violation> {
        let case = "what somebody else changed of ours is noticed and repaired";
        let mut dataplane = self.bench.open();
        let (key, route) = blackhole("10.9.0.0/26");
        let desired = state([(key.clone(), route)]);
        apply(case, &mut *dataplane, &desired).await?;
        self.bench.remove_route(&key);
        noticed(case, &mut *dataplane)?;
        complete(case, &apply(case, &mut *dataplane, &desired).await?)?;
        self.hold(case, &desired)?;
        let (more, route) = blackhole("10.9.1.0/26");
        self.bench.add_route(&more, &route, names::ROUTE_PROTOCOL);
        dataplane.invalidate();
        apply(case, &mut *dataplane, &desired).await?;
        self.hold("a resync removes what is ours and not desired", &desired)?;
        apply(case, &mut *dataplane, &State::default()).await?;
        Ok(())
    }

    async fn adopts_pods(&mut self) -> Result<(), Violation> {
        let case = "a route to a pod that the state does not know yet stays";
        let pod = link("cali0123456789a");
        self.bench.add_link(&pod);
        let (key, route) = straight("10.10.0.1/32", pod.as_str());
        let mut dataplane = self.bench.open();
        apply(case, &mut *dataplane, &State::default()).await?;
        self.bench.add_route(&key, &route, names::ROUTE_PROTOCOL);
        dataplane.invalidate();
        apply(case, &mut *dataplane, &State::default()).await?;
        expect(case, self.bench.routes().contains_key(&key), || {
            "it was removed".into()
        })?;
        let known = state([(key, route)]);
        unchanged("it is adopted", apply(case, &mut *dataplane, &known).await?)?;
        apply(case, &mut *dataplane, &State::default()).await?;
        self.hold("once named, it goes with its name", &State::default())?;
        self.bench.remove_link(&pod);
        Ok(())
    }

    async fn shares_destinations(&mut self) -> Result<(), Violation> {
        let case = "a route of somebody else with another metric is beside ours";
        let (mut other, theirs) = blackhole("10.11.0.0/26");
        other.metric = 500;
        self.bench.add_route(&other, &theirs, FOREIGN);
        let mut dataplane = self.bench.open();
        let desired = state([blackhole("10.11.0.0/26")]);
        complete(case, &apply(case, &mut *dataplane, &desired).await?)?;
        let found = self.bench.routes();
        expect(case, found.len() == 2, || format!("{found:?}"))?;
        apply(case, &mut *dataplane, &State::default()).await?;
        let found = self.bench.routes();
        expect(
            case,
            found.len() == 1 && found.get(&other) == Some(&(FOREIGN, theirs)),
            || format!("{found:?}"),
        )?;
        self.bench.remove_route(&other);
        Ok(())
    }

    async fn mixes_families(&mut self) -> Result<(), Violation> {
        let case = "an IPv4 route goes by way of an IPv6 gateway, never the other way round";
        let mut dataplane = self.bench.open();
        let desired = state([by_way("10.14.0.0/26", "fe80::2")]);
        complete(case, &apply(case, &mut *dataplane, &desired).await?)?;
        self.hold(case, &desired)?;
        let mut another = self.bench.open();
        unchanged(case, apply(case, &mut *another, &desired).await?)?;
        let wrong = state([by_way("fd14::/122", "192.0.2.1")]);
        let report = apply(case, &mut *another, &wrong).await?;
        let what = "IPv6 routes by way of an IPv4 gateway";
        failed(case, &report, &Fault::Unsupported { what })?;
        self.hold(case, &State::default())
    }

    async fn follows_rules(&mut self) -> Result<(), Violation> {
        let case = "rules are made, removed, repaired, and others' left";
        let rule = |priority| {
            RoutingRule::new(
                IpVersion::V4,
                priority,
                RoutingAction::Table(1000 + priority),
            )
        };
        let ours = |found: BTreeSet<(RoutingRule, u8)>| -> BTreeSet<RoutingRule> {
            let ours = found
                .into_iter()
                .filter(|(_, of)| *of == names::ROUTE_PROTOCOL);
            ours.map(|(rule, _)| rule).collect()
        };
        self.bench.add_rule(&rule(9), FOREIGN);
        let mut dataplane = self.bench.open();
        let wanted = BTreeSet::from([rule(7), rule(8)]);
        let mut desired = State {
            rules: Arc::new(wanted.clone()),
            ..State::default()
        };
        complete(case, &apply(case, &mut *dataplane, &desired).await?)?;
        expect(case, ours(self.bench.rules()) == wanted, String::new)?;
        unchanged(case, apply(case, &mut *dataplane, &desired).await?)?;
        self.bench.remove_rule(&rule(7), names::ROUTE_PROTOCOL);
        noticed(case, &mut *dataplane)?;
        complete(case, &apply(case, &mut *dataplane, &desired).await?)?;
        expect(case, ours(self.bench.rules()) == wanted, String::new)?;
        desired.rules = Arc::default();
        apply(case, &mut *dataplane, &desired).await?;
        let found = self.bench.rules();
        let left = BTreeSet::from([(rule(9), FOREIGN)]);
        expect(case, found == left, || format!("{found:?}"))?;
        self.bench.remove_rule(&rule(9), FOREIGN);
        Ok(())
    }

    async fn follows_links(&mut self) -> Result<(), Violation> {
        let case = "a link of the state is made with its addresses, repaired and removed";
        let bridge = link("br8");
        let mut dataplane = self.bench.open();
        let mut desired = state([straight("10.12.0.0/26", "br8")]);
        let addresses = BTreeSet::from([address("10.13.0.1/24")]);
        let wanted = Link::new(LinkKind::Bridge { mac: None }, 1400).addresses(addresses.clone());
        desired.links.insert(bridge.clone(), Arc::new(wanted));
        complete(case, &apply(case, &mut *dataplane, &desired).await?)?;
        let made = Some((addresses, 1400));
        let found = self.bench.link(&bridge);
        expect(case, found == made, || format!("{found:?}"))?;
        unchanged(case, apply(case, &mut *dataplane, &desired).await?)?;
        self.bench.remove_link(&bridge);
        noticed(case, &mut *dataplane)?;
        complete(case, &apply(case, &mut *dataplane, &desired).await?)?;
        let found = self.bench.link(&bridge);
        expect(case, found == made, || format!("{found:?}"))?;
        self.hold(case, &desired)?;
        apply(case, &mut *dataplane, &State::default()).await?;
        let found = self.bench.link(&bridge);
        expect(case, found.is_none(), || format!("{found:?}"))?;
        self.hold(case, &State::default())
    }

    /// The kernel holds the state's routes and no other of these protocols.
    fn hold(&mut self, case: &'static str, desired: &State) -> Result<(), Violation> {
        let found = self.bench.routes();
        let same = found.len() == desired.routes.len()
            && desired.routes.iter().all(|(key, route)| {
                found
                    .get(key)
                    .is_some_and(|(owner, is)| *owner == names::ROUTE_PROTOCOL && is == route)
            });
        expect(case, same, || {
            format!("{found:?} instead of {:?}", desired.routes)
        })
    }
}

async fn apply(
    case: &'static str,
    dataplane: &mut dyn Dataplane,
    desired: &State,
) -> Result<Report, Violation> {
    let result = dataplane.apply(desired).await;
    result.map_err(|error| Violation {
        case,
        why: error.to_string(),
    })
}

fn noticed(case: &'static str, dataplane: &mut dyn Dataplane) -> Result<(), Violation> {
    let ready = ready(dataplane.changed());
    expect(case, ready.is_some(), || "`changed` still waits".into())
}

fn unchanged(case: &'static str, report: Report) -> Result<(), Violation> {
    expect(case, report == Report::default(), || format!("{report:?}"))
}

fn complete(case: &'static str, report: &Report) -> Result<(), Violation> {
    expect(case, report.is_complete(), || {
        format!("{:?}", report.failed)
    })
}

fn failed(case: &'static str, report: &Report, fault: &Fault) -> Result<(), Violation> {
    let named = report.failed.iter().any(|failure| failure.fault == *fault);
    expect(case, named, || {
        format!("{:?} without {fault:?}", report.failed)
    })
}

fn state(routes: impl IntoIterator<Item = (RouteKey, Route)>) -> State {
    State {
        routes: Arc::new(routes.into_iter().collect()),
        ..State::default()
    }
}

fn straight(prefix: &str, by: &str) -> (RouteKey, Route) {
    route(prefix, Hop::Link(link(by)))
}

/// By way of a gateway on the link that every check may use.
#[expect(clippy::expect_used, reason = "the kit's own constants")]
fn by_way(prefix: &str, gateway: &str) -> (RouteKey, Route) {
    let hop = Hop::Via {
        gateway: gateway.parse().expect("an address"),
        link: Some(link("eth8")),
        onlink: true,
    };
    route(prefix, hop)
}

fn blackhole(prefix: &str) -> (RouteKey, Route) {
    route(prefix, Hop::Blackhole)
}

#[expect(clippy::expect_used, reason = "the kit's own constants")]
fn route(prefix: &str, hop: Hop) -> (RouteKey, Route) {
    let mut key = RouteKey::main(prefix.parse().expect("a prefix"));
    if !key.prefix.is_ipv4() {
        key.metric = 1024; // As the kernel reads it back.
    }
    (
        key,
        Route {
            hops: vec![hop],
            source: None,
        },
    )
}

#[expect(clippy::expect_used, reason = "the kit's own constants")]
fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

#[expect(clippy::expect_used, reason = "the kit's own constants")]
fn link(name: &str) -> LinkName {
    LinkName::new(name).expect("a link's name")
}
