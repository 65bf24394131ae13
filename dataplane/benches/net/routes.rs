//! What many routes cost: programmed, read, changed and removed, beside `ip -batch` and beside the same messages made
//! beforehand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlink_sys::Socket;
use ocicat_dataplane::linux::{LinuxDataplane, Options};
use ocicat_dataplane::state::{Hop, LinkName, Route, RouteKey};
use ocicat_dataplane::{Dataplane as _, Prefix, State};

use crate::floor::{error, socket};
use crate::{allocated, ip, peak};

/// Times by what they are of, in the order of the first.
#[derive(Default)]
struct Times(Vec<(&'static str, Vec<Duration>)>);

impl Times {
    fn note(&mut self, what: &'static str, took: Duration) {
        match self.0.iter_mut().find(|(name, _)| *name == what) {
            Some((_, all)) => all.push(took),
            None => self.0.push((what, vec![took])),
        }
    }

    fn print(mut self, count: usize) {
        for (what, all) in &mut self.0 {
            all.sort_unstable();
            let ms = |took: Duration| took.as_secs_f64() * 1e3;
            println!(
                "{{\"bench\":\"routes\",\"what\":\"{what}\",\"count\":{count},\"runs\":{},\"min_ms\":{:.3},\"p50_ms\":{:.3}}}",
                all.len(),
                ms(all[0]),
                ms(all[all.len() / 2])
            );
        }
    }
}

pub(crate) fn bench(count: usize, runs: usize) {
    let mut times = Times::default();
    for _ in 0..runs {
        once(count, &mut times);
    }
    times.print(count);
    memory(count);
}

fn once(count: usize, times: &mut Times) {
    uplink();
    let first = state(count, 2);
    let mut kernel = open();
    times.note("program", apply(&mut kernel, &first));
    times.note("unchanged", apply(&mut kernel, &first));
    let second = state(count, 3);
    times.note("replace all", apply(&mut kernel, &second));
    let mut another = open();
    times.note("dump and adopt", apply(&mut another, &second));
    let mut routes = (*second.routes).clone();
    routes.insert(
        RouteKey::main("192.0.2.0/24".parse().expect("a prefix")),
        route(2),
    );
    times.note("one more", apply(&mut another, &with(routes)));
    times.note("remove all", apply(&mut another, &State::default()));
    drop((kernel, another, first, second));

    let datagrams = datagrams(count);
    let socket = socket();
    let started = Instant::now();
    for datagram in &datagrams {
        socket.send(datagram, 0).expect("netlink");
        let mut answer = Vec::with_capacity(4096);
        socket.recv(&mut answer, 0).expect("netlink");
        assert_eq!(error(&answer), Some(0));
    }
    times.note(
        "floor: program, the same messages prebuilt",
        started.elapsed(),
    );
    times.note("floor: dump, unread", dump(&socket));
    ip("route flush proto 80");
    peer(count, times);
    ip("route flush proto 80");
    ip("link del up0");
}

/// What is allocated, in a run of its own.
fn memory(count: usize) {
    uplink();
    let empty = allocated();
    let first = state(count, 2);
    let with_state = allocated();
    let mut kernel = open();
    let (_, programming) = peak(|| apply(&mut kernel, &first));
    let with_view = allocated();
    let mut another = open();
    let before = allocated();
    let (_, reading) = peak(|| apply(&mut another, &first));
    let again = allocated();
    let mb = |bytes: usize| bytes as f64 / 1e6;
    println!(
        "{{\"bench\":\"routes\",\"what\":\"memory\",\"count\":{count},\"state_mb\":{:.1},\"view_mb\":{:.1},\"netlink_program_mb\":{:.1},\"netlink_dump_mb\":{:.1},\"all_mb\":{:.1}}}",
        mb(with_state - empty),
        mb(with_view - with_state),
        mb(programming - with_view),
        mb(reading - again),
        mb((reading - before).max(programming - with_state) + with_state - empty),
    );
    drop((kernel, another));
    ip("route flush proto 80");
    ip("link del up0");
}

fn open() -> LinuxDataplane {
    LinuxDataplane::new(Options::routes_only(80)).expect("netlink")
}

/// The same routes by `ip`.
fn peer(count: usize, times: &mut Times) {
    let mut batch = String::new();
    for at in 0..count {
        let _ = writeln!(
            batch,
            "route add {} via 192.168.0.2 dev up0 onlink proto 80",
            prefix(at)
        );
    }
    let started = Instant::now();
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ip");
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), batch.as_bytes())
        .expect("a pipe");
    assert!(child.wait().expect("ip").success());
    times.note("peer: ip -batch", started.elapsed());
    let started = Instant::now();
    Command::new("ip")
        .args(["route", "show", "proto", "80"])
        .stdout(Stdio::null())
        .status()
        .expect("ip");
    times.note("peer: ip route show", started.elapsed());
}

/// Reads all IPv4 routes and looks at none.
fn dump(socket: &Socket) -> Duration {
    let mut request = header(28, 26, 0x301);
    request.extend_from_slice(&[2, 0, 0, 0, 0, 80, 0, 0, 0, 0, 0, 0]);
    let started = Instant::now();
    socket.send(&request, 0).expect("netlink");
    let mut part = Vec::with_capacity(64 * 1024);
    loop {
        part.clear();
        socket.recv(&mut part, 0).expect("netlink");
        // NLMSG_DONE begins a part of its own.
        if part[4] == 3 {
            return started.elapsed();
        }
    }
}

/// The messages of all routes, 128 to a datagram, the last of each acknowledged.
fn datagrams(count: usize) -> Vec<Vec<u8>> {
    let link = nix::net::if_::if_nametoindex("up0").expect("up0");
    let numbers: Vec<usize> = (0..count).collect();
    let datagram = |part: &[usize]| {
        let mut bytes = Vec::new();
        for (at, number) in part.iter().enumerate() {
            let ack = if at + 1 == part.len() { 4 } else { 0 };
            // NLM_F_REQUEST, NLM_F_CREATE, NLM_F_EXCL
            bytes.extend(header(52, 24, 0x601 | ack));
            bytes.extend_from_slice(&[2, 26, 0, 0, 254, 80, 0, 1, 4, 0, 0, 0]);
            bytes.extend_from_slice(&[8, 0, 1, 0]);
            let network = u32::try_from(*number).expect("small") << 6;
            bytes.extend_from_slice(&(0x0a00_0000 + network).to_be_bytes());
            bytes.extend_from_slice(&[8, 0, 4, 0]);
            bytes.extend_from_slice(&link.to_ne_bytes());
            bytes.extend_from_slice(&[8, 0, 5, 0, 192, 168, 0, 2]);
        }
        bytes
    };
    numbers.chunks(128).map(datagram).collect()
}

fn header(length: u32, kind: u16, flags: u16) -> Vec<u8> {
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

fn apply(kernel: &mut LinuxDataplane, state: &State) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let started = Instant::now();
    let report = runtime.block_on(kernel.apply(state)).expect("an apply");
    let took = started.elapsed();
    assert_eq!(report.failed, [], "nothing fails here");
    took
}

fn state(count: usize, gateway: u8) -> State {
    let routes = (0..count).map(|at| (RouteKey::main(prefix(at)), route(gateway)));
    with(routes.collect())
}

fn with(routes: BTreeMap<RouteKey, Route>) -> State {
    State {
        routes: Arc::new(routes),
        ..State::default()
    }
}

fn route(gateway: u8) -> Route {
    let link = LinkName::new("up0").expect("a name");
    let hop = Hop::Via {
        gateway: [192, 168, 0, gateway].into(),
        link: Some(link),
        onlink: true,
    };
    Route {
        hops: vec![hop],
        source: None,
    }
}

fn prefix(at: usize) -> Prefix {
    let address = Ipv4Addr::from(0x0a00_0000 + (u32::try_from(at).expect("small") << 6));
    Prefix::containing(address.into(), 26).expect("a prefix")
}

fn uplink() {
    ip("link add up0 type bridge");
    ip("addr add 192.168.0.1/24 dev up0");
    ip("link set up0 up");
}
