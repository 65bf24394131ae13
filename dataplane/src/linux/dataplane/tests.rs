//! Faults that only the inside can provoke in a real kernel.

use std::collections::BTreeMap;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::Prefix;
use crate::state::{Hop, Route, RouteKey};
use crate::testing::ready;

fn node(test: impl FnOnce() + Send + 'static) {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("run as root or under `unshare -Urnm`");
        test();
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    let words = arguments.split_whitespace();
    assert!(
        Command::new("ip").args(words).status().unwrap().success(),
        "{arguments}"
    );
}

fn routes(count: u8, hop: &Hop) -> State {
    let route = Route {
        hops: vec![hop.clone()],
        source: None,
    };
    let key = |at| RouteKey::main(Prefix::host([10, 1, 0, at].into()));
    let routes: BTreeMap<_, _> = (0..count).map(|at| (key(at), route.clone())).collect();
    State {
        routes: Arc::new(routes),
        ..State::default()
    }
}

fn apply(kernel: &mut LinuxDataplane, state: &State) -> Result<Report, ApplyError> {
    // It yields after each datagram, and waits for nothing.
    let mut future = kernel.apply(state);
    loop {
        if let Some(result) = ready(&mut future) {
            return result;
        }
    }
}

fn open() -> LinuxDataplane {
    LinuxDataplane::new(Options::default().policy(false)).unwrap()
}

#[test]
fn answers_that_are_lost_leave_nothing_believed() {
    node(|| {
        ip("link set lo up");
        for at in 0..120 {
            ip(&format!("route add blackhole 10.1.0.{at} proto 99"));
        }
        let mut kernel = open();
        apply(&mut kernel, &State::default()).unwrap();
        kernel.socket.receive_buffer(1);
        // Every route is refused, and the refusals do not fit.
        let state = routes(200, &Hop::Blackhole);
        let error = apply(&mut kernel, &state).unwrap_err();
        let ApplyError::Network { source, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(source.refusal, Refusal::Overrun);
        assert!(source.is_transient());
        kernel.socket.receive_buffer(1 << 20);
        let report = apply(&mut kernel, &state).unwrap();
        let taken = Fault::Taken { protocol: 99 };
        assert!(report.failed.iter().all(|failure| failure.fault == taken));
        assert_eq!((report.failed.len(), kernel.routes()), (120, 80));
        ip("route flush proto 99");
        assert!(apply(&mut kernel, &state).unwrap().is_complete());
        assert_eq!(kernel.routes(), 200);
    });
}

#[test]
fn a_link_that_went_down_unheard_is_awaited() {
    node(|| {
        ip("link add up0 up type bridge");
        ip("addr add 192.168.0.1/24 dev up0");
        let mut kernel = open();
        apply(&mut kernel, &State::default()).unwrap();
        let name = LinkName::new("up0").unwrap();
        let up = kernel.view.named(&name).unwrap().clone();
        ip("link set up0 down");
        kernel.listen();
        // As if the notice were still on its way.
        kernel.view.put_link(up);
        let state = routes(3, &Hop::Link(name.clone()));
        let report = apply(&mut kernel, &state).unwrap();
        assert_eq!(report.failed.len(), 3);
        for failure in report.failed {
            assert_eq!(failure.fault, Fault::LinkDown(name.clone()));
        }
        let mut down = kernel.view.named(&name).unwrap().clone();
        down.up = false;
        kernel.view.put_link(down);
        ip("link set up0 up");
        assert!(ready(kernel.changed()).is_some(), "its coming is noticed");
        assert!(apply(&mut kernel, &state).unwrap().is_complete());
    });
}
