//! A pool's mode changes while two pods talk: not one packet may be lost.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ocicat_dataplane::State;
use ocicat_dataplane::hop::{Encapsulation, When};
use ocicat_dataplane::state::Hop;

use crate::pair::{Node, two};
use crate::sandbox::{inside, node};

/// Packets of a stream between two pods, both ways, while `work` goes on: how many were sent, and which were lost.
fn lost_while(one: &Node, two: &Node, v4: bool, work: impl FnOnce()) -> (u32, Vec<u32>) {
    let socket = |node: &Node| {
        let address = SocketAddr::new(node.pod_address(v4), 9000);
        inside(&node.pod, || UdpSocket::bind(address).unwrap())
    };
    let (here, there) = (socket(one), socket(two));
    here.connect(there.local_addr().unwrap()).unwrap();
    there.connect(here.local_addr().unwrap()).unwrap();
    for socket in [&here, &there] {
        let patience = Some(Duration::from_secs(2));
        socket.set_read_timeout(patience).unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The other pod sends everything back, until a packet says that it was the last.
        scope.spawn(|| {
            let mut bytes = [0; 4];
            while there.recv(&mut bytes).is_ok() && bytes != u32::MAX.to_be_bytes() {
                let _ = there.send(&bytes);
            }
        });
        let sender = scope.spawn(|| {
            let mut sent = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let _ = here.send(&sent.to_be_bytes());
                sent += 1;
                std::thread::sleep(Duration::from_micros(500));
            }
            sent
        });
        let receiver = scope.spawn(|| {
            let (mut seen, mut bytes) = (BTreeSet::new(), [0; 4]);
            while here.recv(&mut bytes).is_ok() {
                seen.insert(u32::from_be_bytes(bytes));
            }
            seen
        });
        work();
        stop.store(true, Ordering::Relaxed);
        let sent = sender.join().unwrap();
        let seen = receiver.join().unwrap();
        here.send(&u32::MAX.to_be_bytes()).unwrap();
        let lost = (0..sent).filter(|number| !seen.contains(number)).collect();
        (sent, lost)
    })
}

/// `state`, with the tunnels of `other` beside its own: what a node has while others may still, or may already, use
/// them.
fn beside(mut state: State, other: &State) -> State {
    for (name, link) in &other.links {
        state
            .links
            .entry(name.clone())
            .or_insert_with(|| link.clone());
    }
    let state_routes = std::sync::Arc::make_mut(&mut state.routes);
    for (key, route) in other.routes.iter() {
        let by_tunnel = matches!(&*route.hops, [Hop::Link(link)] if other.links.contains_key(link));
        if by_tunnel {
            state_routes
                .entry(key.clone())
                .or_insert_with(|| route.clone());
        }
    }
    let neighbours = other
        .neighbours
        .iter()
        .map(|(key, mac)| (key.clone(), *mac));
    std::sync::Arc::make_mut(&mut state.neighbours).extend(neighbours);
    let fdb = other.fdb.iter().map(|(key, to)| (key.clone(), *to));
    std::sync::Arc::make_mut(&mut state.fdb).extend(fdb);
    state
}

fn change_through(modes: &[Encapsulation]) {
    let (one, two) = two();
    let mut nodes = [(&one, &two, one.kernel()), (&two, &one, two.kernel())];
    for (node, other, kernel) in &mut nodes {
        node.apply(kernel, &node.state(other, modes[0]));
    }
    assert!(one.pings(two.pod_address(true), 56));
    for v4 in [true, false] {
        let (sent, lost) = lost_while(&one, &two, v4, || {
            for pair in modes.windows(2) {
                let (before, after) = (pair[0], pair[1]);
                // First the tunnels are there, then routes lead into them, then the old ones go.
                for (node, other, kernel) in &mut nodes {
                    let new = node.state(other, after);
                    node.apply(kernel, &beside(node.state(other, before), &new));
                }
                for (node, other, kernel) in &mut nodes {
                    let old = node.state(other, before);
                    node.apply(kernel, &beside(node.state(other, after), &old));
                    std::thread::sleep(Duration::from_millis(20));
                }
                for (node, other, kernel) in &mut nodes {
                    node.apply(kernel, &node.state(other, after));
                }
            }
        });
        assert!(sent > 100, "{sent}");
        assert_eq!(lost, [] as [u32; 0], "of {sent}");
        let (first, last) = (modes.first(), modes.last());
        assert_eq!(first, last, "the next family starts where this one ended");
    }
}

fn encapsulation(vxlan: When, ipip: When) -> Encapsulation {
    Encapsulation { vxlan, ipip }
}

#[test]
fn no_packet_is_lost_from_none_to_vxlan_and_back() {
    use When::{Always, CrossSubnet, Never};
    node(|| {
        change_through(&[
            encapsulation(Never, Never),
            encapsulation(Always, Never),
            encapsulation(CrossSubnet, Never),
            encapsulation(Always, Never),
            encapsulation(Never, Never),
        ]);
    });
}

/// `cargo xtask vm` runs it in a kernel that has IP in IP.
#[test]
#[ignore = "needs a kernel with ipip"]
fn no_packet_is_lost_between_ip_in_ip_and_the_other_modes() {
    use When::{Always, Never};
    node(|| {
        change_through(&[
            encapsulation(Never, Never),
            encapsulation(Never, Always),
            encapsulation(Always, Never),
            encapsulation(Never, Always),
            encapsulation(Never, Never),
        ]);
    });
}
