//! A pod is attached while the pair of an earlier sandbox is just being removed by somebody else.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use ocicat_dataplane::{Attach as _, AttachError, Attachment, Detachment, LinuxAttach, names};

use crate::sandbox::{container, inside, ip, name, node};

#[test]
fn a_pair_that_somebody_else_is_just_removing_is_not_in_the_way() {
    const ROUNDS: u64 = 40;
    node(|| {
        let (pod, attach) = (container(), LinuxAttach::new());
        let link = names::pod_link("default", "web");
        let wanted = |round: u64| {
            Attachment::new(
                Arc::clone(&pod),
                name("eth0"),
                link.clone(),
                names::alias(&format!("id{round}"), "eth0"),
            )
            .addresses(["10.1.0.5".parse().unwrap()])
        };
        let home = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let (begin, begun) = sync_channel(0);
        std::thread::scope(|scope| {
            let home = &home;
            scope.spawn(move || {
                setns(home, CloneFlags::CLONE_NEWNET).unwrap();
                // Ends when nobody asks any more.
                while let Ok((old, pause)) = begun.recv() {
                    let started = Instant::now();
                    while started.elapsed() < pause {}
                    LinuxAttach::new().detach(&old).unwrap();
                }
            });
            let begin = begin;
            for round in 0..ROUNDS {
                // The pair of the round before goes a little earlier or later than this attachment looks.
                let old = Detachment {
                    host_link: link.clone(),
                    alias: names::alias(&format!("id{}", round.wrapping_sub(1)), "eth0"),
                };
                let pause = Duration::from_micros(round * 20);
                begin.send((old, pause)).unwrap();
                attach.attach(&wanted(round)).unwrap();
            }
        });
        let last = wanted(ROUNDS - 1);
        assert_eq!(attach.check(&last).unwrap(), []);
    });
}

#[test]
fn a_containers_own_link_is_an_error_after_a_moment() {
    node(|| {
        let pod = container();
        inside(&pod, || ip("link add eth0 type bridge"));
        let link = names::pod_link("default", "web");
        let wanted = Attachment::new(pod, name("eth0"), link, "one/eth0");
        let started = Instant::now();
        let refused = LinuxAttach::new().attach(&wanted);
        let link = name("eth0");
        assert_eq!(refused, Err(AttachError::Exists { link }));
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "it is waited for, but not long"
        );
    });
}

/// The kernel makes a pair before it gets its alias: in between a removal that is late must not take it for a dead maker's.
#[test]
fn a_late_removal_leaves_a_pair_that_has_no_name_yet() {
    node(|| {
        let link = names::pod_link("default", "web");
        let old = Detachment {
            host_link: link.clone(),
            alias: names::alias("old", "eth0"),
        };
        let home = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        ip(&format!("link add {link} type veth peer name inner"));
        // Started before, so that the name comes at once.
        let mut namer = Command::new("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::scope(|scope| {
            let late = scope.spawn(|| {
                setns(&home, CloneFlags::CLONE_NEWNET).unwrap();
                LinuxAttach::new().detach(&old)
            });
            let mut input = namer.stdin.take().unwrap();
            writeln!(input, "link set {link} alias new/eth0").unwrap();
            drop(input);
            assert!(namer.wait().unwrap().success(), "the link is there");
            assert_eq!(late.join().unwrap(), Ok(false));
        });
        assert!(
            ip("link show").contains(link.as_str()),
            "the new one's stays"
        );
        // Nobody names it any more: its maker has died.
        ip(&format!("link del {link}"));
        ip(&format!("link add {link} type veth peer name inner"));
        assert_eq!(LinuxAttach::new().detach(&old), Ok(true));
        assert!(!ip("link show").contains(link.as_str()));
    });
}
