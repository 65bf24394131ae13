//! The kinds of updates under which a permitted flow goes on.

use std::sync::Arc;

use ocicat_dataplane::State;
use ocicat_dataplane::state::{
    Action, Denied, EndTier, EndpointId, FailsafePort, HostEndpoint, HostRules, Member, Nat,
    Policy, PolicyId, ProfileId, Protocol, Rule, Set, SetId, TunnelGuard,
};

use crate::lab::*;

/// Two pods, of which the first may send to the second's UDP port 5000.
pub(crate) fn flow() -> State {
    let mut state = small();
    let policy = Policy {
        ingress: vec![allow_from("s:senders", Protocol::UDP, 5000)],
        egress: Vec::new(),
    };
    state
        .policies
        .insert(PolicyId::new("np/default/default/flow"), policy.into());
    state
        .sets
        .insert(SetId::new("s:senders"), Set::new([host("10.65.0.2")]));
    let ingress = vec![tier(&["np/default/default/flow"])];
    let receiver = workload(&["10.65.0.3", "fd00::3"], ingress, Vec::new());
    state.workloads.insert(link("cali2"), receiver.into());
    state
}

/// Changes the state, differently for odd and even numbers.
pub(crate) type Update = fn(&mut State, usize);

/// Every kind of update, by name; `resync` is one by a newcomer.
pub(crate) const UPDATES: [(&str, Update); 16] = [
    ("nothing", nothing),
    ("rules", rules),
    ("members", members),
    ("ranges", ranges),
    ("cover", cover),
    ("nets", nets),
    ("endpoints", endpoints),
    ("tiers", tiers),
    ("profiles", profiles),
    ("policies", policies),
    ("named ports", named_ports),
    ("sources", sources),
    ("host rules", host_rules),
    ("host endpoints", host_endpoints),
    ("nat", nat),
    ("resync", nothing),
];

fn rules(state: &mut State, number: usize) {
    let mut policy = Policy {
        ingress: vec![allow_from("s:senders", Protocol::UDP, 5000)],
        egress: Vec::new(),
    };
    for _ in 0..number % 3 {
        policy.ingress.insert(0, Rule::new(Action::Log));
    }
    if number % 2 == 0 {
        // Nothing of the chain stays.
        policy.ingress = vec![Rule {
            protocol: Some(Protocol::UDP),
            ..Rule::new(Action::Allow)
        }];
    }
    state
        .policies
        .insert(PolicyId::new("np/default/default/flow"), policy.into());
}

fn members(state: &mut State, number: usize) {
    let set = state.sets.get_mut(&SetId::new("s:senders")).unwrap();
    for at in 0..50 {
        let member = host(&format!("10.66.{}.{at}", number % 200));
        set.insert(member);
    }
    let old = number.saturating_sub(1) % 200;
    for at in 0..50 {
        set.remove(&host(&format!("10.66.{old}.{at}")));
    }
}

fn ranges(state: &mut State, number: usize) {
    // From a hash set to one of ranges and back: another set each time, and other rules.
    let set = state.sets.get_mut(&SetId::new("s:senders")).unwrap();
    let wide = range("10.65.0.0/24");
    if number % 2 == 0 {
        set.insert(wide)
    } else {
        set.remove(&wide)
    };
}

fn cover(state: &mut State, number: usize) {
    // A range set whose elements cover each other in turn.
    let set = state.sets.get_mut(&SetId::new("s:senders")).unwrap();
    set.insert(range("172.16.0.0/12"));
    for (at, text) in ["10.65.0.0/24", "10.64.0.0/15", "10.0.0.0/8"]
        .into_iter()
        .enumerate()
    {
        if (number >> at) % 2 == 0 {
            set.insert(range(text))
        } else {
            set.remove(&range(text))
        };
    }
}

fn nets(state: &mut State, number: usize) {
    // The rule's own ranges: a new fixed set each time.
    let mut rule = Rule::new(Action::Allow);
    rule.source.nets = vec![
        net("10.65.0.0/24"),
        net(&format!("10.70.{}.0/24", number % 200)),
    ];
    let policy = Policy {
        ingress: vec![rule],
        egress: Vec::new(),
    };
    state
        .policies
        .insert(PolicyId::new("np/default/default/flow"), policy.into());
}

fn endpoints(state: &mut State, number: usize) {
    for at in 0..20 {
        let name = link(&format!("calix{at}"));
        if (number + at) % 2 == 0 {
            let address = format!("10.65.1.{at}");
            let web = vec![tier(&["np/default/default/web"])];
            let pod = workload(&[&address], web, Vec::new());
            state.workloads.insert(name, pod.into());
        } else {
            state.workloads.remove(&name);
        }
    }
}

fn tiers(state: &mut State, number: usize) {
    let mut first = tier(&["np/default/default/web"]);
    first.end = EndTier::Pass;
    let mut all = vec![tier(&["np/default/default/flow"])];
    if number % 2 == 0 {
        all.insert(0, first);
    }
    let receiver = workload(&["10.65.0.3", "fd00::3"], all, Vec::new());
    state.workloads.insert(link("cali2"), receiver.into());
}

fn profiles(state: &mut State, number: usize) {
    let mut profile = allow_all();
    profile
        .egress
        .splice(0..0, vec![Rule::new(Action::Log); number % 4]);
    state
        .profiles
        .insert(ProfileId::new("kns.default"), profile.into());
}

fn policies(state: &mut State, number: usize) {
    // Others come before the one that decides, and go.
    let id = |at: usize| format!("np/default/default/a{at}");
    let there: Vec<String> = (0..number % 4).map(id).collect();
    for at in 0..4 {
        let mut rule = allow_from("s:senders", Protocol::TCP, 5000);
        rule.source.ports.push(port(u16::try_from(number).unwrap()));
        let policy = Policy {
            ingress: vec![rule],
            egress: Vec::new(),
        };
        match there.get(at) {
            Some(id) => state.policies.insert(PolicyId::new(id), policy.into()),
            None => state.policies.remove(&PolicyId::new(&id(at))),
        };
    }
    let ids = there.iter().map(String::as_str);
    let all: Vec<&str> = ids.chain(["np/default/default/flow"]).collect();
    let receiver = workload(&["10.65.0.3", "fd00::3"], vec![tier(&all)], Vec::new());
    state.workloads.insert(link("cali2"), receiver.into());
}

fn named_ports(state: &mut State, number: usize) {
    // By a port that has a name, which some pods have and some have no more.
    let mut rule = Rule::new(Action::Allow);
    rule.protocol = Some(Protocol::UDP);
    rule.destination.port_sets = vec![SetId::new("n:flow")];
    let policy = Policy {
        ingress: vec![rule],
        egress: Vec::new(),
    };
    state
        .policies
        .insert(PolicyId::new("np/default/default/flow"), policy.into());
    let named = |at: usize| {
        let address = format!("10.66.0.{at}").parse().unwrap();
        Member::Port(address, Protocol::UDP, 5000)
    };
    let own = Member::Port("10.65.0.3".parse().unwrap(), Protocol::UDP, 5000);
    let others = (0..30).filter(|at| (at + number) % 3 == 0).map(named);
    let set = Set::new(others.chain([own]));
    state.sets.insert(SetId::new("n:flow"), set);
}

fn sources(state: &mut State, number: usize) {
    // What else the sender may say it is.
    let mut sender = workload(&["10.65.0.2", "fd00::2"], Vec::new(), Vec::new());
    sender.allowed_sources = (0..number % 3)
        .map(|at| net(&format!("10.7{at}.0.0/16")))
        .collect();
    state.workloads.insert(link("cali1"), sender.into());
}

fn host_rules(state: &mut State, number: usize) {
    let odd = number % 2 == 1;
    let sources = SetId::new("all-nodes");
    let nodes = (1..3 + number % 3).map(|at| host(&format!("192.0.2.{at}")));
    state.sets.insert(sources.clone(), Set::new(nodes));
    let guard = TunnelGuard {
        protocol: Protocol::UDP,
        port: Some(4789),
        sources,
    };
    state.host = Arc::new(HostRules {
        denied: if odd { Denied::Reject } else { Denied::Drop },
        tunnels: if number % 3 == 0 {
            Vec::new()
        } else {
            vec![guard]
        },
        closed_to_pods: vec![(Protocol::TCP, 179); number % 2],
        failsafe_in: vec![FailsafePort {
            protocol: Protocol::TCP,
            port: 22,
            net: odd.then(|| net("192.0.2.0/24")),
        }],
        ..HostRules::default()
    });
}

fn host_endpoints(state: &mut State, number: usize) {
    // Policy of the node's own links, and of what it forwards, comes and goes.
    let id = EndpointId::new("uplink");
    if number % 2 == 0 {
        state.hosts.remove(&id);
        return;
    }
    let tiers = || vec![tier(&["np/default/default/web"])];
    let endpoint = HostEndpoint {
        link: Some(link("eth9")),
        ingress: tiers(),
        egress: Vec::new(),
        forward_ingress: tiers(),
        forward_egress: tiers(),
        profiles: Vec::new(),
    };
    state.hosts.insert(id, endpoint.into());
}

fn nat(state: &mut State, number: usize) {
    let excluded = (0..1 + number % 3).map(|at| net(&format!("10.6{}.0.0/16", 5 + at)));
    let nat = Nat {
        sources: vec![net("10.65.0.0/16")],
        excluded: excluded.collect(),
        address: None,
        ports: None,
    };
    let nat = if number % 4 == 0 { Nat::default() } else { nat };
    state.nat = nat.into();
}

fn nothing(_: &mut State, _: usize) {}
