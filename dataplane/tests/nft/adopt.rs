//! What is there is taken over, what differs is repaired, what is as it should be is left alone.

use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::{Action, PolicyId, Protocol, Rule, SetId};

use crate::lab::*;

#[test]
fn a_second_apply_does_nothing() {
    node(|| {
        let mut table = Table::open().unwrap();
        let mut state = small();
        assert!(table.apply(&state).unwrap().read);
        let report = table.apply(&state).unwrap();
        assert_eq!(
            (report.changed, report.transactions, report.read),
            (0, 0, false)
        );
        // Equal content that is not the same memory.
        state
            .workloads
            .values_mut()
            .for_each(|one| *one = (**one).clone().into());
        let report = table.apply(&state.clone()).unwrap();
        assert_eq!(
            (report.changed, report.transactions, report.read),
            (0, 0, false)
        );
    });
}

#[test]
fn a_restart_adopts_the_table() {
    node(|| {
        let state = small();
        Table::open().unwrap().apply(&state).unwrap();
        let before = run("nft -a list table inet ocicat");
        let report = Table::open().unwrap().apply(&state).unwrap();
        assert_eq!(
            (report.changed, report.transactions, report.read),
            (0, 0, true)
        );
        assert_eq!(run("nft -a list table inet ocicat"), before);
    });
}

#[test]
fn damage_is_repaired() {
    node(|| {
        let state = small();
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        let before = blocks();
        for damage in [
            "flush chain inet ocicat from-pods",
            "insert rule inet ocicat to-pods accept",
            "add rule inet ocicat policy-in/np/default/default/web accept",
            "delete element inet ocicat ip4/s.friends { 10.65.0.3 }",
            "add element inet ocicat ip4/s.friends { 10.66.0.1 }",
            "delete element inet ocicat to-pod { \"cali1\" }",
            "flush set inet ocicat pod-addresses6",
            "add chain inet ocicat forward { policy drop; }",
            "add chain inet ocicat evil; add rule inet ocicat forward jump evil",
            "add set inet ocicat evil { type ipv4_addr; }",
            "delete table inet ocicat",
            "add table inet ocicat { flags dormant; }",
            "delete table arp ocicat",
            "flush chain arp ocicat arp-input",
            "delete element arp ocicat arp-addresses { \"cali1\" . 10.65.0.2 }",
            "flush ruleset",
        ] {
            nft(damage);
            table.invalidate();
            let report = table.apply(&state).unwrap();
            assert!(report.changed > 0, "{damage}");
            assert_eq!(blocks(), before, "{damage}");
        }
    });
}

#[test]
fn another_rule_leaves_the_neighbours_alone() {
    node(|| {
        let mut state = small();
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        let id = PolicyId::new("np/default/default/web");
        let chain = "policy-in/np/default/default/web";
        let handles = || run(&format!("nft -a list chain inet ocicat {chain}"));
        let before = handles();
        let mut policy = (*state.policies[&id]).clone();
        policy.ingress.insert(1, Rule::new(Action::Pass));
        state.policies.insert(id.clone(), policy.clone().into());
        let report = table.apply(&state).unwrap();
        assert_eq!((report.changed, report.transactions), (1, 1));
        let kept = |old: &str, new: &str| old.lines().all(|line| new.contains(line));
        assert!(kept(&before, &handles()), "{before}\n{}", handles());
        policy.ingress.remove(1);
        state.policies.insert(id, policy.into());
        assert_eq!(table.apply(&state).unwrap().changed, 1);
        assert_eq!(handles(), before);
    });
}

#[test]
fn a_member_is_one_small_transaction() {
    node(|| {
        let mut state = small();
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        let set = state.sets.get_mut(&SetId::new("s:friends")).unwrap();
        set.insert(host("10.65.0.9"));
        set.remove(&host("fd00::3"));
        set.insert(host("fd00::9"));
        let report = table.apply(&state).unwrap();
        assert_eq!(
            (report.changed, report.transactions, report.read),
            (3, 1, false)
        );
        let blocks = blocks();
        assert!(blocks["set ip4/s.friends {"].contains("10.65.0.9"));
        assert!(!blocks["set ip6/s.friends {"].contains("fd00::3"));
        let report = Table::open().unwrap().apply(&state).unwrap();
        assert_eq!((report.changed, report.transactions), (0, 0));
    });
}

#[test]
fn what_nobody_wants_goes() {
    node(|| {
        let mut state = small();
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        let protocol = Protocol::TCP;
        assert!(blocks().contains_key("set ip4/s.friends {"), "{protocol}");
        state.workloads.clear();
        table.apply(&state).unwrap();
        let left = blocks();
        assert!(!left.keys().any(|name| name.contains('/')), "{left:#?}");
        let mut fresh = Table::open().unwrap();
        assert_eq!(fresh.apply(&state).unwrap().changed, 0);
    });
}

#[test]
fn others_commits_are_noticed() {
    node(|| {
        let mut state = small();
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        nft("delete element inet ocicat ip4/s.friends { 10.65.0.3 }");
        state
            .sets
            .get_mut(&SetId::new("s:friends"))
            .unwrap()
            .insert(host("10.65.0.9"));
        let report = table.apply(&state).unwrap();
        assert!(report.read);
        assert!(blocks()["set ip4/s.friends {"].contains("10.65.0.3"));
    });
}

#[test]
fn an_incomplete_state_removes_nothing() {
    node(|| {
        let mut whole = small();
        let wide = whole.sets.get_mut(&SetId::new("s:friends")).unwrap();
        wide.insert(range("10.66.0.0/24"));
        wide.insert(range("10.68.0.0/16"));
        Table::open().unwrap().apply(&whole).unwrap();
        let before = blocks();
        // The agent has been started again and knows one pod, of two, and a part of a set.
        let mut part = whole.clone();
        part.incomplete = true;
        part.workloads.remove(&link("cali2"));
        part.profiles.clear();
        let set = part.sets.get_mut(&SetId::new("s:friends")).unwrap();
        *set = ocicat_dataplane::state::Set::new([range("10.66.0.0/25"), range("10.70.0.0/16")]);
        let mut table = Table::open().unwrap();
        table.apply(&part).unwrap();
        let now = blocks();
        for (name, block) in &before {
            let there = now.get(name);
            let there = there.unwrap_or_else(|| panic!("{name} is gone"));
            if !name.starts_with("set net4") {
                assert_eq!(there, block, "{name}");
            }
        }
        let net = &now["set net4/s.friends {"];
        for member in ["10.66.0.0/24", "10.68.0.0/16", "10.70.0.0/16"] {
            assert!(net.contains(member), "{net}");
        }
        assert!(
            now["map from-pod {"].contains("cali2"),
            "the other pod is still let through"
        );
        // Away and back again, while the state is incomplete: nothing is doubled.
        part.workloads.remove(&link("cali1"));
        table.apply(&part).unwrap();
        part.workloads.clone_from(&whole.workloads);
        part.profiles.clone_from(&whole.profiles);
        table.apply(&part).unwrap();
        assert_eq!(blocks()["chain to/cali1 {"], before["chain to/cali1 {"]);
        // In sync: what is not wanted goes.
        assert!(table.apply(&whole).unwrap().read);
        assert_eq!(blocks(), before);
        let mut less = whole.clone();
        less.workloads.remove(&link("cali2"));
        table.apply(&less).unwrap();
        assert!(!blocks()["map from-pod {"].contains("cali2"));
    });
}

#[test]
fn a_pod_is_denied_until_its_policy_is_there() {
    node(|| {
        let mut state = small();
        let id = PolicyId::new("np/default/default/web");
        let policy = state.policies.remove(&id).unwrap();
        let mut one = (*state.workloads[&link("cali1")]).clone();
        // What the end of the tier would let pass, the profile would allow.
        one.ingress[0].end = ocicat_dataplane::state::EndTier::Pass;
        state.workloads.insert(link("cali1"), one.into());
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        let chain = "chain policy-in/np/default/default/web {";
        let text = blocks()[chain].clone();
        assert!(text.contains("drop") && !text.contains("accept"), "{text}");
        state.policies.insert(id, policy);
        table.apply(&state).unwrap();
        assert!(!blocks()[chain].contains("drop"));
    });
}
