use std::collections::BTreeMap;

use super::*;
use crate::State;
use crate::nft::ruleset::Part;
use crate::nft::statement::{Statement, Verdict};
use crate::state::{
    Action, EndTier, EndpointId, HostEndpoint, IpVersion, LinkName, Member, Policy, PolicyId, Rule,
    Tier, Workload,
};

/// The kernel, as far as transactions go: it refuses what the real one would.
#[derive(Default)]
struct Kernel {
    /// The rules of each chain, as number and hash.
    chains: BTreeMap<Name, Vec<(u64, u64)>>,
    handle: u64,
    /// The chains that packets may be in while the group is executed.
    live: BTreeSet<Name>,
    sets: BTreeMap<Name, BTreeSet<Element>>,
    /// The sets that were filled in the group that is being executed.
    fresh: BTreeSet<Name>,
}

impl Kernel {
    fn execute(&mut self, group: &[Op]) {
        self.fresh.clear();
        self.live = self.chains.keys().cloned().collect();
        for op in group {
            self.operate(op);
        }
    }

    fn operate(&mut self, op: &Op) {
        match op {
            Op::NewTable(_) => {}
            Op::DelTable(_) => panic!("the table is never made anew here"),
            Op::NewChain(name, _) => {
                assert!(
                    self.chains.insert(name.clone(), Vec::new()).is_none(),
                    "{op}"
                );
            }
            Op::NewSet(name, _) => {
                assert!(
                    self.sets.insert(name.clone(), BTreeSet::new()).is_none(),
                    "{op}"
                );
                self.fresh.insert(name.clone());
            }
            Op::NewElements(name, all) => {
                for element in all {
                    if let Some(to) = element.target() {
                        assert!(self.chains.contains_key(to), "{op} leads to {to}");
                        // A packet on its way may meet the element, and the chain without rules.
                        let closed = self.live.contains(to) || self.fresh.contains(name);
                        assert!(closed, "{op} leads to {to}, which has no rules yet");
                    }
                }
                self.sets
                    .get_mut(name)
                    .expect("the set is there")
                    .extend(all.iter().cloned());
            }
            Op::DelElements(name, all) => {
                let set = self.sets.get_mut(name).expect("the set is there");
                assert!(all.iter().all(|element| set.remove(element)), "{op}");
            }
            Op::NewRule {
                chain,
                rule,
                before,
            } => self.add_rule(op, chain, *rule, *before),
            Op::DelRule { chain, handle } => {
                let rules = self.chains.get_mut(chain).expect("the chain is there");
                rules.retain(|(one, _)| one != handle);
            }
            Op::Flush(name) => self
                .chains
                .get_mut(name)
                .expect("the chain is there")
                .clear(),
            Op::DelChain(name) => {
                let leads = |element: &Element| match &element.verdict {
                    Some(Verdict::Goto(to)) => to == name,
                    _ => false,
                };
                assert!(
                    !self.sets.values().flatten().any(leads),
                    "{op}: a map leads to it"
                );
                assert_eq!(self.chains.remove(name), Some(Vec::new()), "{op}");
            }
            Op::DelSet(name) => assert!(self.sets.remove(name).is_some(), "{op}"),
        }
    }

    fn add_rule(&mut self, op: &Op, chain: &Chain, rule: usize, before: Option<u64>) {
        for statement in &chain.rules[rule].statements {
            if let Statement::In { set, .. } = statement {
                assert!(self.sets.contains_key(set), "{op} looks into {set}");
                let filled = !self.sets[set].is_empty() && self.fresh.contains(set);
                let live = self.live.contains(&chain.name);
                assert!(
                    !(filled && live),
                    "{op} switches to a set of its transaction"
                );
            }
        }
        let rules = self
            .chains
            .get_mut(&chain.name)
            .expect("the chain is there");
        let at = before.map_or(rules.len(), |before| {
            rules
                .iter()
                .position(|(handle, _)| *handle == before)
                .expect("the rule is there")
        });
        self.handle += 1;
        rules.insert(at, (self.handle, chain.rules[rule].hash));
    }

    fn known(&self, desired: &Desired) -> Known {
        let chain = |(name, rules): (&Name, &Vec<(u64, u64)>)| {
            let hook = desired.chains.get(name).and_then(|(chain, _)| chain.hook);
            let handles = Some(rules.iter().map(|(handle, _)| *handle).collect());
            let rules = rules.iter().map(|(_, hash)| Some(*hash)).collect();
            (
                name.clone(),
                KnownChain {
                    hook,
                    rules,
                    handles,
                    closed: false,
                },
            )
        };
        let set = |(name, elements): (&Name, &BTreeSet<Element>)| {
            let shape = shape(desired, name);
            (
                name.clone(),
                KnownSet {
                    shape,
                    content: Content::Elements(elements.clone()),
                },
            )
        };
        Known {
            tables: Family::BOTH.into(),
            owner: None,
            chains: self.chains.iter().map(chain).collect(),
            sets: self.sets.iter().map(set).collect(),
        }
    }
}

fn pod(policies: &[&str]) -> Arc<Workload> {
    let tier = Tier {
        name: "default".into(),
        policies: policies.iter().map(|id| PolicyId::new(id)).collect(),
        end: EndTier::Deny,
    };
    Arc::new(Workload {
        addresses: vec!["10.0.0.1".parse().unwrap()],
        allowed_sources: Vec::new(),
        ingress: vec![tier],
        egress: Vec::new(),
        profiles: Vec::new(),
        up: true,
    })
}

fn uplink(policies: &[&str]) -> Arc<HostEndpoint> {
    let tiers = &pod(policies).ingress;
    Arc::new(HostEndpoint {
        link: LinkName::new("eth0").ok(),
        ingress: tiers.clone(),
        egress: tiers.clone(),
        forward_ingress: tiers.clone(),
        forward_egress: Vec::new(),
        profiles: Vec::new(),
    })
}

fn from_set(id: &str) -> Arc<Policy> {
    let mut rule = Rule::new(Action::Allow);
    rule.source.sets.push(SetId::new(id));
    Arc::new(Policy {
        ingress: vec![rule],
        egress: Vec::new(),
    })
}

fn step(kernel: &mut Kernel, desired: &mut Desired, state: &State) -> Vec<Vec<Op>> {
    desired.update(state);
    desired.take_dirty();
    let known = kernel.known(desired);
    let dirty = everything(desired, &known);
    let goal = Goal {
        desired,
        sets: &state.sets,
        dirty: &dirty,
        keep: state.incomplete,
        written: &BTreeSet::new(),
        stuck: &BTreeMap::new(),
    };
    let groups = plan(&goal, &known).groups();
    for group in &groups {
        kernel.execute(group);
    }
    groups
}

#[test]
fn every_step_is_possible_and_the_last_one_is_nothing() {
    let (mut kernel, mut desired, mut state) =
        (Kernel::default(), Desired::default(), State::default());
    let link = |text: &str| LinkName::new(text).unwrap();
    let host = Member::Net("10.1.0.1/32".parse().unwrap());
    let check = |state: &State, kernel: &mut Kernel, desired: &mut Desired| {
        let groups = step(kernel, desired, state);
        assert!(!groups.is_empty());
        assert_eq!(step(kernel, desired, state), Vec::<Vec<Op>>::new());
        groups.len()
    };
    check(&state, &mut kernel, &mut desired);
    state.policies.insert(PolicyId::new("a"), from_set("s:a"));
    state.workloads.insert(link("cali1"), pod(&["a"]));
    // Its policy's set is new, but empty; its chains are new, and have rules before its link leads to them.
    assert_eq!(check(&state, &mut kernel, &mut desired), 2);
    state
        .sets
        .entry(SetId::new("s:a"))
        .or_default()
        .insert(host);
    assert_eq!(check(&state, &mut kernel, &mut desired), 1);
    // A new set with elements, the switch of the rule to it, the end of the old one.
    state.policies.insert(PolicyId::new("a"), from_set("s:b"));
    state
        .sets
        .entry(SetId::new("s:b"))
        .or_default()
        .insert(host);
    assert_eq!(check(&state, &mut kernel, &mut desired), 3);
    // Another list of policies.
    state.policies.insert(PolicyId::new("b"), from_set("s:b"));
    state.workloads.insert(link("cali1"), pod(&["a", "b"]));
    assert_eq!(check(&state, &mut kernel, &mut desired), 1);
    // Policy of the node's own interface: its maps come and go with it.
    state.hosts.insert(EndpointId::new("eth0"), uplink(&["a"]));
    assert_eq!(check(&state, &mut kernel, &mut desired), 2);
    state.hosts.clear();
    assert_eq!(check(&state, &mut kernel, &mut desired), 2);
    state.workloads.clear();
    assert_eq!(check(&state, &mut kernel, &mut desired), 2);
    assert!(
        !kernel.chains.keys().any(|name| name.contains('/')),
        "{:?}",
        kernel.chains
    );
}

#[test]
fn a_set_of_another_type_is_named() {
    let (mut desired, state) = (Desired::default(), State::default());
    desired.update(&state);
    let mut known = Known {
        tables: Family::BOTH.into(),
        ..Known::default()
    };
    let content = Content::Elements(BTreeSet::new());
    let shape = Some(Shape::plain(Part::Address(IpVersion::V6)));
    known
        .sets
        .insert("from-pod".into(), KnownSet { shape, content });
    let dirty = everything(&desired, &known);
    let goal = Goal {
        desired: &desired,
        sets: &state.sets,
        dirty: &dirty,
        keep: false,
        written: &BTreeSet::new(),
        stuck: &BTreeMap::new(),
    };
    assert_eq!(mangled(&goal, &known).as_deref(), Some("from-pod"));
}
