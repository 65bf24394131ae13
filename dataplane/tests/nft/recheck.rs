//! Connections that are open when policy comes to deny them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use ocicat_dataplane::State;
use ocicat_dataplane::linux::recheck_connections;
use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::{
    Action, HostRules, OpenConnections, Policy, PolicyId, Protocol, Rule,
};

use crate::lab::*;
use crate::wire::*;

/// Long enough for what must come, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to see that nothing comes: the retransmissions of some hundred milliseconds.
const SILENCE: Duration = Duration::from_millis(600);

/// Lets TCP and UDP in to these ports.
fn open_to(state: &mut State, ports: &[u16]) {
    let rules = ports.iter().flat_map(|number| {
        [Protocol::TCP, Protocol::UDP].map(|protocol| {
            let mut rule = Rule::new(Action::Allow);
            rule.protocol = Some(protocol);
            rule.destination.ports.push(port(*number));
            rule
        })
    });
    let policy = Policy {
        ingress: rules.collect(),
        egress: Vec::new(),
    };
    state
        .policies
        .insert(PolicyId::new("np/default/default/web"), policy.into());
}

/// A connection through the node, from the second pod to the first.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn open(ends: [&End; 2], listen: &str, connect: &str) -> Self {
        let [web, friend] = ends;
        let listener = inside(&web.namespace, || TcpListener::bind(listen).unwrap());
        let client = inside(&friend.namespace, || TcpStream::connect(connect).unwrap());
        let (server, _) = listener.accept().unwrap();
        Self { client, server }
    }

    /// Says a word each way; which of the two came.
    fn talk(&mut self, patience: Duration) -> [bool; 2] {
        let mut said = [false; 2];
        for (at, said) in said.iter_mut().enumerate() {
            let (from, to) = match at {
                0 => (&mut self.client, &mut self.server),
                _ => (&mut self.server, &mut self.client),
            };
            from.write_all(b"!").unwrap();
            to.set_read_timeout(Some(patience)).unwrap();
            *said = loop {
                match to.read(&mut [0; 64]) {
                    Ok(count) => break count > 0,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                    // A child of another thread has ended: the question stands.
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => panic!("{error}"),
                }
            };
        }
        said
    }
}

#[test]
fn denied_connections_are_cut_and_others_are_not() {
    node(|| {
        forwarding();
        let web = End::new("cali1", "10.65.0.2", "fd00::2");
        let friend = End::new("cali2", "10.65.0.3", "fd00::3");
        // A Service in front of the first pod.
        nft("table ip ocnft-service { chain prerouting {
                type nat hook prerouting priority dstnat;
                ip daddr 10.96.0.1 tcp dport 443 dnat to 10.65.0.2:80
            }
        }");
        let mut state = small();
        state.host = Arc::new(HostRules {
            open_connections: OpenConnections::Cut,
            ..HostRules::default()
        });
        open_to(&mut state, &[80, 81]);
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        let ends = [&web, &friend];
        let mut denied = Pair::open(ends, "10.65.0.2:80", "10.65.0.2:80");
        let mut denied_v6 = Pair::open(ends, "[fd00::2]:80", "[fd00::2]:80");
        let mut denied_service = Pair::open(ends, "10.65.0.2:80", "10.96.0.1:443");
        let mut allowed = Pair::open(ends, "10.65.0.2:81", "10.65.0.2:81");
        // The other way round: the first pod's own connection to the second.
        let mut outward = Pair::open([&friend, &web], "10.65.0.3:80", "10.65.0.3:80");
        assert_eq!(recheck_connections(&state).unwrap().cut, 0);

        open_to(&mut state, &[81]);
        table.apply(&state).unwrap();
        assert_eq!(recheck_connections(&state).unwrap().cut, 3);
        for (name, pair) in [
            ("IPv4", &mut denied),
            ("IPv6", &mut denied_v6),
            ("a Service", &mut denied_service),
        ] {
            // Not even what the first pod says, which its own policy lets out.
            assert_eq!(pair.talk(SILENCE), [false, false], "{name}");
        }
        assert_eq!(allowed.talk(PATIENCE), [true, true]);
        assert_eq!(outward.talk(PATIENCE), [true, true]);
        let counters = table.counters().unwrap();
        let count = counters.denied["a later policy denies the connection"];
        assert!(count.packets >= 6, "{count:?}");
        // Nothing is done twice.
        let again = recheck_connections(&state).unwrap();
        assert_eq!((again.cut, again.mended), (0, 0));

        open_to(&mut state, &[80, 81]);
        table.apply(&state).unwrap();
        assert_eq!(recheck_connections(&state).unwrap().mended, 3);
        // What was said meanwhile arrives late, since TCP says it again.
        assert_eq!(denied.talk(PATIENCE), [true, true]);
    });
}

#[test]
fn a_stream_of_packets_is_cut_too() {
    node(|| {
        forwarding();
        let web = End::new("cali1", "10.65.0.2", "fd00::2");
        let friend = End::new("cali2", "10.65.0.3", "fd00::3");
        let mut state = small();
        open_to(&mut state, &[80]);
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        let server = inside(&web.namespace, || UdpSocket::bind("10.65.0.2:80").unwrap());
        let client = inside(&friend.namespace, || {
            UdpSocket::bind("10.65.0.3:0").unwrap()
        });
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(b"?", "10.65.0.2:80").unwrap();
        let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
        server.send_to(b"!", from).unwrap();
        client.recv_from(&mut [0; 8]).unwrap();
        // By default it stays open.
        open_to(&mut state, &[]);
        table.apply(&state).unwrap();
        assert_eq!(recheck_connections(&state).unwrap().cut, 0);
        client.send_to(b"?", "10.65.0.2:80").unwrap();
        server.recv_from(&mut [0; 8]).expect("it was open before");
        state.host = Arc::new(HostRules {
            open_connections: OpenConnections::Cut,
            ..HostRules::default()
        });
        table.apply(&state).unwrap();
        assert_eq!(recheck_connections(&state).unwrap().cut, 1);
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(SILENCE)).unwrap();
        }
        client.send_to(b"?", "10.65.0.2:80").unwrap();
        assert!(server.recv_from(&mut [0; 8]).is_err());
        server.send_to(b"!", from).unwrap();
        assert!(client.recv_from(&mut [0; 8]).is_err());
    });
}
