//! Ways to remove a pod's link, and when each is done for its caller and for everybody else.
//!
//! The kernel waits for a grace period before it answers a removal; the link is gone long before.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use crate::attach::percentiles;
use crate::container;
use crate::floor::{Floor, datagram, done, error, look, send, socket};

/// Removes the links of `count` pods in each way.
pub(crate) fn bench(count: usize, pod: impl Fn(usize) -> Floor) {
    let (mut answered, mut gone) = (Vec::new(), Vec::new());
    for at in 0..count {
        let mut floor = pod(at);
        floor.attach();
        let (first, second) = watched(&floor);
        gone.push(first);
        answered.push(second);
    }
    percentiles("removal: until it is gone for everybody", &mut gone);
    percentiles("removal: until the kernel answers", &mut answered);

    let mut moved = Vec::new();
    for at in 0..count {
        let mut floor = pod(at);
        floor.attach();
        moved.push(moved_away(&floor));
    }
    percentiles("removal: moved to a namespace that ends", &mut moved);

    let mut floors: Vec<Floor> = (0..count).map(&pod).collect();
    for floor in &mut floors {
        floor.attach();
    }
    let took = grouped(&floors) / u32::try_from(count).expect("few");
    percentiles(
        "removal: all in one message by their group, each",
        &mut [took],
    );
}

/// One thread removes, another looks: when it was gone, and when the remover was answered.
fn watched(floor: &Floor) -> (Duration, Duration) {
    let name = floor.attachment().host_link.as_str().to_owned();
    let (remover, watcher) = (socket(), socket());
    let bytes = datagram(vec![(removal(floor.index()), 0)]);
    let question = crate::floor::datagram_of(vec![(look(&name), 0)], false);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| {
            done(&send(&remover, &bytes));
            started.elapsed()
        });
        while error(&send(&watcher, &question)).is_none() {
            std::thread::sleep(Duration::from_micros(100));
        }
        (started.elapsed(), removing.join().expect("a thread"))
    })
}

/// Gives the link to a namespace that nobody holds afterwards: the kernel removes both in its own time.
fn moved_away(floor: &Floor) -> Duration {
    let socket = socket();
    let started = Instant::now();
    let elsewhere = container();
    let mut message = LinkMessage::default();
    message.header.index = floor.index();
    message.attributes = vec![LinkAttribute::NetNsFd(elsewhere.as_raw_fd())];
    done(&send(
        &socket,
        &datagram(vec![(RouteNetlinkMessage::SetLink(message), 0)]),
    ));
    drop(elsewhere);
    started.elapsed()
}

/// Puts all links into a group, and removes the group.
fn grouped(floors: &[Floor]) -> Duration {
    const GROUP: u32 = 4711;
    let socket = socket();
    let started = Instant::now();
    for floor in floors {
        let mut message = LinkMessage::default();
        message.header.index = floor.index();
        message.attributes = vec![LinkAttribute::Group(GROUP)];
        done(&send(
            &socket,
            &datagram(vec![(RouteNetlinkMessage::SetLink(message), 0)]),
        ));
    }
    let mut all = LinkMessage::default();
    all.attributes = vec![LinkAttribute::Group(GROUP)];
    done(&send(
        &socket,
        &datagram(vec![(RouteNetlinkMessage::DelLink(all), 0)]),
    ));
    started.elapsed()
}

fn removal(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    RouteNetlinkMessage::DelLink(message)
}
