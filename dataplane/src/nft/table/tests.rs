//! What the kernel may answer, and what somebody else may do meanwhile, in a network namespace of the test's own.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::nft::messages::Transaction;
use crate::nft::socket::{Failure, Refusal, faults::Faults};
use crate::report::Object;
use crate::state::{
    Action, EndTier, LinkName, Logging, Member, Policy, PolicyId, Rule, Set, SetId, Tier, Workload,
};

fn node(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("run as root or under `unshare -Urnm`");
            test();
        };
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn nft(line: &str) -> String {
    let output = Command::new("nft").args(line.split(' ')).output();
    let output = output.expect("nft(8) is needed");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {err}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn link(number: usize) -> LinkName {
    LinkName::new(format!("cali{number}")).unwrap()
}

fn id(number: usize) -> PolicyId {
    PolicyId::new(&format!("np/default/default/{number}"))
}

/// Pods with a policy each, which lets the members of a set in.
fn pods(count: usize) -> State {
    let mut state = State::default();
    for number in 0..count {
        let mut rule = Rule::new(Action::Allow);
        let set = SetId::new(&format!("s:{number}"));
        rule.source.sets.push(set.clone());
        let policy = Policy {
            ingress: vec![rule],
            egress: Vec::new(),
        };
        state.policies.insert(id(number), policy.into());
        let address: std::net::IpAddr = format!("10.65.0.{number}").parse().unwrap();
        let member = Member::Net(crate::Prefix::host(address));
        state.sets.insert(set, Set::new([member]));
        let tier = Tier {
            name: "default".into(),
            policies: vec![id(number)],
            end: EndTier::Deny,
        };
        let workload = Workload {
            addresses: vec![address],
            allowed_sources: Vec::new(),
            ingress: vec![tier],
            egress: Vec::new(),
            profiles: Vec::new(),
            up: true,
        };
        state.workloads.insert(link(number), workload.into());
    }
    state
}

/// Refuses messages that hold a text, always.
fn refusing(text: &'static str, errno: Errno) -> Faults {
    Faults(Some(Box::new(move |transaction| {
        let refusals: Vec<Refusal> = messages_with(transaction, text)
            .map(|message| Refusal {
                message: Some(message),
                errno,
            })
            .collect();
        (!refusals.is_empty()).then_some(Failure::Refused(refusals))
    })))
}

fn messages_with<'a>(
    transaction: &'a Transaction,
    text: &'a str,
) -> impl Iterator<Item = usize> + 'a {
    let mut at = 0;
    let all = std::iter::from_fn(move || {
        let head = transaction.messages.get(at..at + 4)?;
        let length = u32::from_ne_bytes(*head.first_chunk()?) as usize;
        let message = transaction.messages.get(at..at + length)?;
        at += length.next_multiple_of(4);
        Some(message)
    });
    all.enumerate().filter_map(move |(at, message)| {
        let mut windows = message.windows(text.len());
        windows
            .any(|window| window == text.as_bytes())
            .then_some(at)
    })
}

/// Answers the first transactions so.
fn first(count: usize, failure: Failure) -> Faults {
    let left = AtomicUsize::new(count);
    Faults(Some(Box::new(move |_| {
        let take = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        take.is_ok().then(|| failure.clone())
    })))
}

fn objects(report: &Report) -> Vec<Object> {
    report
        .failed
        .iter()
        .map(|failure| failure.object.clone())
        .collect()
}

fn chain(name: &str) -> String {
    nft(&format!("list chain inet ocicat {name}"))
}

#[test]
fn what_passes_is_waited_for() {
    let whole = |errno| {
        Failure::Refused(vec![Refusal {
            message: None,
            errno,
        }])
    };
    let one = |errno| {
        Failure::Refused(vec![Refusal {
            message: Some(0),
            errno,
        }])
    };
    for failure in [
        Failure::Outdated,
        Failure::Lost,
        one(Errno::EBUSY),
        one(Errno::EAGAIN),
        one(Errno::ENOMEM),
        whole(Errno::ENOBUFS),
    ] {
        node(|| {
            let state = pods(3);
            let mut table = Table::open().unwrap();
            table.socket.faults = first(2, failure.clone());
            let report = table.apply(&state);
            let report = report.unwrap_or_else(|error| panic!("{failure:?}: {error}"));
            assert_eq!(report.failed, [], "{failure:?}");
            assert_eq!(Table::open().unwrap().apply(&state).unwrap().changed, 0);
        });
    }
}

#[test]
fn contention_without_end_is_an_error_and_nothing_is_lost() {
    node(|| {
        let mut state = pods(1);
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        let before = nft("-a list table inet ocicat");
        state.workloads.clear();
        table.socket.faults = first(usize::MAX, Failure::Outdated);
        let error = table.apply(&state).unwrap_err();
        assert_eq!(error, Error::Contended { attempts: ATTEMPTS });
        assert_eq!(nft("-a list table inet ocicat"), before);
        table.socket.faults = Faults::default();
        assert!(table.apply(&state).unwrap().changed > 0);
    });
}

#[test]
fn an_unchanged_state_asks_the_kernel_nothing() {
    node(|| {
        let mut state = pods(3);
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        // Each message to the kernel takes a number.
        let sent = *table.socket.sequence();
        table.apply(&state).unwrap();
        let again = std::sync::Arc::new((*state.workloads[&link(1)]).clone());
        state.workloads.insert(link(1), again);
        table.apply(&state.clone()).unwrap();
        assert_eq!(*table.socket.sequence(), sent);
        state.workloads.remove(&link(1));
        table.apply(&state).unwrap();
        assert_ne!(*table.socket.sequence(), sent);
    });
}

#[test]
fn a_refused_rule_costs_its_policy_alone() {
    node(|| {
        let mut state = pods(3);
        let mut table = Table::open().unwrap();
        table.socket.faults = refusing("ip4/s.1", Errno::EINVAL);
        let report = table.apply(&state).unwrap();
        assert_eq!(
            objects(&report),
            [Object::Set(SetId::new("s:1")), Object::Policy(id(1))]
        );
        let text = report.failed[0].to_string();
        assert!(
            text.contains("set s:1") && text.contains("errno 22"),
            "{text}"
        );
        assert!(chain("policy-in/np/default/default/1").contains("drop"));
        assert!(chain("policy-in/np/default/default/2").contains("@ip4/s.2"));
        // It is said again, and the kernel is not asked again.
        let again = table.apply(&state).unwrap();
        assert_eq!((objects(&again), again.transactions), (objects(&report), 0));
        // The policy no longer needs the set.
        state.policies.insert(id(1), Policy::default().into());
        let report = table.apply(&state).unwrap();
        assert_eq!(objects(&report), [Object::Set(SetId::new("s:1"))]);
        assert!(!chain("policy-in/np/default/default/1").contains("drop"));
        table.socket.faults = Faults::default();
        table.invalidate();
        assert_eq!(table.apply(&state).unwrap().failed, []);
    });
}

#[test]
fn a_refused_element_costs_its_pod_alone() {
    node(|| {
        let state = pods(5);
        let mut table = Table::open().unwrap();
        table.socket.faults = refusing("to/cali3", Errno::EEXIST);
        let report = table.apply(&state).unwrap();
        assert_eq!(objects(&report), [Object::Workload(link(3))]);
        let map = nft("list map inet ocicat to-pod");
        assert!(
            !map.contains("cali3") && map.contains("cali2") && map.contains("cali4"),
            "{map}"
        );
        // Without a place in the map all of its packets are dropped.
        assert!(chain("to-pods").contains("without an endpoint"));
        table.socket.faults = Faults::default();
        table.invalidate();
        assert_eq!(table.apply(&state).unwrap().failed, []);
        assert!(nft("list map inet ocicat to-pod").contains("cali3"));
    });
}

#[test]
fn a_refusal_that_names_nothing_is_found_by_halves() {
    node(|| {
        let state = pods(9);
        let mut table = Table::open().unwrap();
        table.apply(&State::default()).unwrap();
        table.socket.faults = Faults(Some(Box::new(|transaction| {
            let mut bad = messages_with(transaction, "@ip4/s.6");
            let mut rule = messages_with(transaction, "np/default/default/6");
            let switched = bad.next().or_else(|| {
                rule.next()?;
                messages_with(transaction, "ip4/s.6").next()
            });
            let whole = Refusal {
                message: None,
                errno: Errno::EMFILE,
            };
            switched.map(|_| Failure::Refused(vec![whole]))
        })));
        let report = table.apply(&state).unwrap();
        assert_eq!(objects(&report), [Object::Policy(id(6))]);
        for number in [0, 5, 7, 8] {
            let text = chain(&format!("policy-in/np/default/default/{number}"));
            assert!(text.contains("@ip4/s."), "{text}");
        }
        assert!(chain("policy-in/np/default/default/6").contains("refused by the kernel"));
    });
}

#[test]
fn a_real_refusal_names_the_policy() {
    node(|| {
        let mut state = pods(2);
        let log = Policy {
            ingress: vec![Rule::new(Action::Log), Rule::new(Action::Allow)],
            egress: Vec::new(),
        };
        state.policies.insert(id(1), log.into());
        // Longer than the kernel takes.
        state.host = std::sync::Arc::new(crate::state::HostRules {
            logging: Logging {
                prefix: "x".repeat(300).into(),
                ..Logging::default()
            },
            ..crate::state::HostRules::default()
        });
        let mut table = Table::open().unwrap();
        let report = table.apply(&state).unwrap();
        assert_eq!(objects(&report), [Object::Policy(id(1))]);
        assert!(
            report.failed[0].to_string().contains("log prefix"),
            "{:?}",
            report.failed
        );
        assert!(chain("policy-in/np/default/default/1").contains("drop"));
        assert!(chain("policy-in/np/default/default/0").contains("@ip4/s.0"));
        // Another prefix is another state of everything: all is tried again.
        state.host = std::sync::Arc::default();
        assert_eq!(table.apply(&state).unwrap().failed, []);
    });
}

#[test]
fn the_table_deleted_between_two_transactions() {
    node(|| {
        let state = pods(20);
        let mut table = Table::with_send_buffer(16 << 10).unwrap();
        let count = AtomicUsize::new(0);
        table.socket.faults = Faults(Some(Box::new(move |_| {
            if count.fetch_add(1, Ordering::Relaxed) == 2 {
                nft("delete table inet ocicat");
            }
            None
        })));
        let report = table.apply(&state).unwrap();
        assert!(report.transactions > 4, "{report:?}");
        table.socket.faults = Faults::default();
        assert_eq!(Table::open().unwrap().apply(&state).unwrap().changed, 0);
    });
}

#[test]
fn a_set_of_another_type_is_replaced_with_the_table() {
    node(|| {
        let state = pods(2);
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        nft(
            "flush chain inet ocicat policy-in/np/default/default/1; delete set inet ocicat ip4/s.1; \
             add set inet ocicat ip4/s.1 { type ipv6_addr; }",
        );
        table.invalidate();
        table.apply(&state).unwrap();
        assert!(nft("list set inet ocicat ip4/s.1").contains("10.65.0.1"));
        assert_eq!(Table::open().unwrap().apply(&state).unwrap().changed, 0);
    });
}

#[test]
fn an_old_object_that_does_not_go_is_named() {
    node(|| {
        let mut state = pods(2);
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        state.workloads.remove(&link(1));
        state.policies.remove(&id(1));
        let old = |transaction: &Transaction| transaction.operations.len() > 1;
        table.socket.faults = Faults(Some(Box::new(move |transaction| {
            // Deletions of the policy's chain are busy, for good.
            let message = messages_with(transaction, "policy-in/np/default/default/1").next();
            let refusal = message.filter(|_| old(transaction)).map(|message| Refusal {
                message: Some(message),
                errno: Errno::EBUSY,
            });
            refusal.map(|refusal| Failure::Refused(vec![refusal]))
        })));
        let report = table.apply(&state).unwrap();
        // The set that the chain's rules look into does not go either.
        assert_eq!(objects(&report), [Object::Policies, Object::Policies]);
        let text = format!("{} {}", report.failed[0], report.failed[1]);
        assert!(
            text.contains("policy-in/np/default/default/1") && text.contains("ip4/s.1"),
            "{text}"
        );
        assert!(!nft("list map inet ocicat to-pod").contains("cali1"));
    });
}

/// Ends the program, whatever happens.
struct Owner(std::process::Child);

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_table_of_somebody_else_is_left_alone() {
    use std::io::Write as _;
    node(|| {
        let mut owner = Command::new("nft");
        owner.arg("-i").stdin(std::process::Stdio::piped());
        let mut owner = Owner(owner.stdout(std::process::Stdio::null()).spawn().unwrap());
        let script = b"add table inet ocicat { flags owner; }\n";
        owner.0.stdin.as_mut().unwrap().write_all(script).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !nft("list tables").contains("ocicat") {
            assert!(std::time::Instant::now() < deadline, "nft made no table");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let mut table = Table::open().unwrap();
        let error = table.apply(&pods(1)).unwrap_err();
        assert!(
            matches!(error, Error::Owned { port } if port != 0),
            "{error}"
        );
        assert!(!nft("list table inet ocicat").contains("chain"));
        // Its table goes with it.
        drop(owner);
        assert!(table.apply(&pods(1)).unwrap().changed > 0);
    });
}
