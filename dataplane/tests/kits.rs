//! The kits: the kernel in memory passes them, and wrong implementations do not.

#![cfg(feature = "testing")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use ocicat_dataplane::state::{Address, Hop, Link, LinkName, Route, RouteKey, RoutingRule};
use ocicat_dataplane::testing::dataplane_kit::{self, Bench};
use ocicat_dataplane::testing::{FakeDataplane, FakeKernel, attach_kit, ready};
use ocicat_dataplane::{
    ApplyError, Attach, AttachError, Attached, Attachment, Dataplane, Detachment, Difference,
    Fault, KernelError, Object, Report, State, names,
};

/// Ways to get it wrong.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Overwrites,
    RemovesNothing,
    RemovesForeign,
    RemovesTooEarly,
    SaysNothing,
    IsDeaf,
    RewritesAlways,
    ForgetsPods,
    ForgetsRules,
    TakesRules,
    LeavesLinks,
    TakesOtherMetrics,
    KnowsOneFamily,
}

struct Memory {
    kernel: FakeKernel,
    wrong: Option<Wrong>,
}

impl Bench for Memory {
    fn open(&mut self) -> Box<dyn Dataplane> {
        let inner = FakeDataplane::new(&self.kernel);
        match self.wrong {
            None => Box::new(inner),
            Some(wrong) => Box::new(Broken {
                inner,
                kernel: self.kernel.clone(),
                wrong,
            }),
        }
    }
    fn add_link(&mut self, name: &LinkName) {
        self.kernel.add_link(name);
    }
    fn set_link(&mut self, name: &LinkName, up: bool) {
        self.kernel.set_link(name, up);
    }
    fn remove_link(&mut self, name: &LinkName) {
        self.kernel.remove_link(name);
    }
    fn add_route(&mut self, key: &RouteKey, route: &Route, protocol: u8) {
        self.kernel.set_route(key.clone(), route.clone(), protocol);
    }
    fn remove_route(&mut self, key: &RouteKey) {
        self.kernel.remove_route(key);
    }
    fn routes(&mut self) -> BTreeMap<RouteKey, (u8, Route)> {
        self.kernel.routes()
    }
    fn add_rule(&mut self, rule: &RoutingRule, protocol: u8) {
        self.kernel.set_rule(rule.clone(), protocol);
    }
    fn remove_rule(&mut self, rule: &RoutingRule, protocol: u8) {
        self.kernel.remove_rule(rule, protocol);
    }
    fn rules(&mut self) -> BTreeSet<(RoutingRule, u8)> {
        self.kernel.rules()
    }
    fn link(&mut self, name: &LinkName) -> Option<(BTreeSet<Address>, u32)> {
        let found = self.kernel.links().remove(name)?;
        Some((found.addresses, found.mtu))
    }
}

struct Broken {
    inner: FakeDataplane,
    kernel: FakeKernel,
    wrong: Wrong,
}

#[async_trait]
impl Dataplane for Broken {
    async fn apply(&mut self, desired: &State) -> Result<Report, ApplyError> {
        let mut desired = desired.clone();
        let before = self.kernel.routes();
        match self.wrong {
            Wrong::Overwrites => {
                for key in desired.routes.keys() {
                    if before
                        .get(key)
                        .is_some_and(|(owner, _)| *owner != names::ROUTE_PROTOCOL)
                    {
                        self.kernel.remove_route(key);
                    }
                }
            }
            Wrong::RemovesNothing => desired.incomplete = true,
            Wrong::RemovesTooEarly => desired.incomplete = false,
            Wrong::ForgetsRules => desired.rules = Arc::default(),
            Wrong::TakesRules => {
                for (rule, owner) in self.kernel.rules() {
                    if owner != names::ROUTE_PROTOCOL {
                        self.kernel.remove_rule(&rule, owner);
                    }
                }
            }
            Wrong::KnowsOneFamily => drop_mixed(&mut desired),
            Wrong::LeavesLinks => {
                for (name, found) in self.kernel.links() {
                    if let Some(kind) = found.kind {
                        let link = Link::new(kind, found.mtu);
                        desired.links.entry(name).or_insert_with(|| Arc::new(link));
                    }
                }
            }
            Wrong::TakesOtherMetrics => {
                let other = |key: &&RouteKey| key.metric == 500;
                before
                    .keys()
                    .filter(other)
                    .for_each(|key| self.kernel.remove_route(key));
            }
            _ => {}
        }
        let mut report = self.inner.apply(&desired).await?;
        match self.wrong {
            Wrong::SaysNothing => report.failed.clear(),
            Wrong::RewritesAlways => report.changed += 1,
            Wrong::RemovesForeign if desired.routes.is_empty() => {
                before.keys().for_each(|key| self.kernel.remove_route(key));
            }
            Wrong::ForgetsPods => {
                for (key, (_, route)) in before {
                    let pod = format!("{:?}", route.hops).contains("cali");
                    if pod && !desired.routes.contains_key(&key) {
                        self.kernel.remove_route(&key);
                    }
                }
            }
            _ => {}
        }
        Ok(report)
    }

    fn invalidate(&mut self) {
        self.inner.invalidate();
    }

    async fn changed(&mut self) {
        if matches!(self.wrong, Wrong::IsDeaf) {
            std::future::pending::<()>().await;
        }
        self.inner.changed().await;
    }
}

/// Takes out the routes by way of a gateway of the other family.
fn drop_mixed(desired: &mut State) {
    Arc::make_mut(&mut desired.routes).retain(|key, route| {
        let v4 = key.prefix.is_ipv4();
        let mixed = |hop: &Hop| matches!(hop, Hop::Via { gateway, .. } if gateway.is_ipv4() != v4);
        !route.hops.iter().any(mixed)
    });
}

fn kit(wrong: Option<Wrong>) -> Result<(), ocicat_dataplane::testing::Violation> {
    let mut bench = Memory {
        kernel: FakeKernel::new(),
        wrong,
    };
    ready(dataplane_kit::check(&mut bench)).expect("a kernel in memory waits for nothing")
}

#[test]
fn the_kernel_in_memory_passes_the_dataplane_kit() {
    assert_eq!(kit(None), Ok(()));
}

#[test]
fn wrong_dataplanes_fail_the_kit() {
    use Wrong::*;
    for wrong in [
        Overwrites,
        RemovesNothing,
        RemovesForeign,
        RemovesTooEarly,
        SaysNothing,
        IsDeaf,
        RewritesAlways,
        ForgetsPods,
        ForgetsRules,
        TakesRules,
        LeavesLinks,
        TakesOtherMetrics,
        KnowsOneFamily,
    ] {
        assert!(kit(Some(wrong)).is_err(), "{wrong:?}");
    }
}

fn container() -> Arc<OwnedFd> {
    Arc::new(std::fs::File::open("/dev/null").unwrap().into())
}

#[test]
fn the_kernel_in_memory_passes_the_attach_kit() {
    assert_eq!(attach_kit::check(&FakeKernel::new(), container), Ok(()));
}

#[test]
fn an_attach_that_takes_other_containers_links_fails_the_kit() {
    struct Careless(FakeKernel);
    impl Attach for Careless {
        fn attach(&self, attachment: &Attachment) -> Result<Attached, AttachError> {
            self.0.attach(attachment)
        }
        fn detach(&self, detachment: &Detachment) -> Result<bool, AttachError> {
            self.0.remove_link(&detachment.host_link);
            Ok(true)
        }
        fn check(&self, attachment: &Attachment) -> Result<Vec<Difference>, AttachError> {
            self.0.check(attachment)
        }
    }
    let violation = attach_kit::check(&Careless(FakeKernel::new()), container).unwrap_err();
    assert_eq!(
        violation.case,
        "the old container's removal leaves the new one's link"
    );
}

#[test]
fn faults_come_on_demand() {
    let kernel = FakeKernel::new();
    let mut dataplane = FakeDataplane::new(&kernel);
    let key = RouteKey::main("10.1.0.0/26".parse().unwrap());
    let route = Route {
        hops: vec![ocicat_dataplane::state::Hop::Blackhole],
        source: None,
    };
    let state = State {
        routes: Arc::new([(key.clone(), route)].into()),
        ..State::default()
    };
    let busy = Fault::Kernel(KernelError::new(16, None));
    kernel.refuse(Object::Route(key.clone()), busy.clone());
    let report = ready(dataplane.apply(&state)).unwrap().unwrap();
    assert_eq!(report.failed[0].fault, busy);
    kernel.fail_next(KernelError::new(105, None));
    assert!(ready(dataplane.apply(&state)).unwrap().is_err());
    kernel.relent();
    assert!(
        ready(dataplane.apply(&state))
            .unwrap()
            .unwrap()
            .is_complete()
    );
    assert!(kernel.routes().contains_key(&key));
}

#[test]
fn an_attachment_is_refused_on_demand() {
    let kernel = FakeKernel::new();
    let name = |text: &str| LinkName::new(text).unwrap();
    let wanted = Attachment::new(container(), name("eth0"), name("cali1"), "one/eth0");
    let busy = AttachError::Kernel {
        step: "the pair of links could not be made",
        source: KernelError::new(16, None),
    };
    kernel.refuse_attach(name("cali1"), busy.clone());
    assert_eq!(kernel.attach(&wanted), Err(busy.clone()));
    assert!(busy.is_transient());
    kernel.relent();
    assert!(kernel.attach(&wanted).is_ok());
}
