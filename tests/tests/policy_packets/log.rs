//! The action Log: what is written where, read by another program's decoder of nflog messages.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nflog::{
    ConfigCmd, ConfigMode, ConfigNla, PacketNla, ULogMessage, config_request,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use ocicat_dataplane::State;
use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::{
    Action, HostRules, IpVersion, Logging, Policy, PolicyId, Protocol, Rule,
};
use ocicat_dataplane::verdict::{Connection, Packet};

use crate::lab::*;
use crate::netfilter::netfilter_socket;
use crate::wire::*;

/// Who listens to a group of nflog in the calling thread's namespace.
struct Listener(OwnedFd);

/// One logged packet: what the rule says, and the packet's own number.
#[derive(Debug, PartialEq, Eq)]
struct Logged {
    prefix: String,
    number: u16,
}

impl Listener {
    fn new(group: u16) -> Self {
        let socket = netfilter_socket();
        // One datagram for each packet, at once.
        let settings = vec![
            ConfigCmd::Bind.into(),
            ConfigMode::PACKET_MAX.into(),
            ConfigNla::QThresh(1),
        ];
        let question = config_request(NetfilterProtoFamily::Unspec, group, settings);
        let mut bytes = vec![0; question.buffer_len()];
        question.serialize(&mut bytes);
        send(socket.as_raw_fd(), &bytes, MsgFlags::empty()).unwrap();
        let listener = Self(socket);
        let answer = listener.next().expect("the kernel answers at once");
        assert!(
            matches!(&answer.payload, NetlinkPayload::Error(error) if error.code.is_none()),
            "{answer:?}"
        );
        listener
    }

    fn next(&self) -> Option<NetlinkMessage<NetfilterMessage>> {
        let mut buffer = vec![0; 1 << 16];
        match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => Some(NetlinkMessage::deserialize(&buffer[..length]).unwrap()),
            Err(Errno::EAGAIN) => None,
            Err(errno) => panic!("{errno}"),
        }
    }

    /// What was logged since the last call: the kernel logs before it hands a packet on.
    fn logged(&self) -> Vec<Logged> {
        std::iter::from_fn(|| self.next()).map(logged).collect()
    }
}

fn logged(message: NetlinkMessage<NetfilterMessage>) -> Logged {
    let NetlinkPayload::InnerMessage(message) = message.payload else {
        panic!("{message:?}");
    };
    let NetfilterMessageInner::ULog(ULogMessage::Packet(parts)) = message.inner else {
        panic!("{message:?}");
    };
    let prefix = parts.iter().find_map(|part| match part {
        PacketNla::Prefix(prefix) => Some(prefix.to_str().unwrap().to_owned()),
        _ => None,
    });
    let packet = parts.iter().find_map(|part| match part {
        PacketNla::Payload(packet) => Some(packet),
        _ => None,
    });
    let packet = packet.expect("the packet is part of the message");
    Logged {
        prefix: prefix.expect("the prefix is part of the message"),
        number: u16::from_be_bytes([packet[4], packet[5]]),
    }
}

/// A policy that logs UDP of IPv4 and then lets port 80 in.
fn state(logging: Logging) -> State {
    let mut state = small();
    let mut log = Rule::new(Action::Log);
    log.ip_version = Some(IpVersion::V4);
    log.protocol = Some(Protocol::UDP);
    let policy = Policy {
        ingress: vec![log, allow_from("s:friends", Protocol::UDP, 80)],
        egress: Vec::new(),
    };
    state
        .policies
        .insert(PolicyId::new("np/default/default/web"), policy.into());
    state.host = Arc::new(HostRules {
        logging,
        ..HostRules::default()
    });
    state
}

struct Lab {
    web: End,
    friend: End,
    table: Table,
    sent: u16,
}

impl Lab {
    /// Sends packets of connections of their own; the numbers of all, and of those that arrived.
    fn send(&mut self, count: u16, port: u16) -> (Vec<u16>, Vec<u16>) {
        let numbers: Vec<u16> = (self.sent + 1..=self.sent + count).collect();
        for number in &numbers {
            let packet = Packet {
                in_link: Some(link("cali2")),
                out_link: Some(link("cali1")),
                source: self.friend.address(true),
                destination: self.web.address(true),
                protocol: Protocol::UDP,
                ports: Some((20_000 + number, port)),
                icmp: None,
                connection: Connection::New,
            };
            self.friend.send(&packet, *number);
        }
        self.sent += count;
        (numbers, self.web.received())
    }
}

#[test]
fn goes_to_the_group_with_the_prefix_and_no_faster_than_allowed() {
    node(|| {
        forwarding();
        let mut lab = Lab {
            web: End::new("cali1", "10.65.0.2", "fd00::2"),
            friend: End::new("cali2", "10.65.0.3", "fd00::3"),
            table: Table::open().unwrap(),
            sent: 0,
        };
        let (listener, other) = (Listener::new(5), Listener::new(6));
        let logging = |per_minute| Logging {
            prefix: "oc-packet".into(),
            per_minute,
            group: Some(5),
        };
        lab.table.apply(&state(logging(None))).unwrap();
        careless();
        // Log does not decide: what comes behind it lets in, or not.
        for (port, arrives) in [(80, true), (81, false)] {
            let (numbers, arrived) = lab.send(20, port);
            assert_eq!(arrived, if arrives { numbers.clone() } else { Vec::new() });
            let expected: Vec<Logged> = numbers
                .into_iter()
                .map(|number| Logged {
                    prefix: "oc-packet: ".to_owned(),
                    number,
                })
                .collect();
            assert_eq!(listener.logged(), expected);
        }
        // Five at once, then one each second.
        lab.table.apply(&state(logging(Some(60)))).unwrap();
        let start = Instant::now();
        let (numbers, arrived) = lab.send(40, 80);
        let logged = listener.logged().len();
        let later = usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
        assert_eq!(arrived, numbers, "the limit is on the log alone");
        assert!(
            (5..=5 + later).contains(&logged),
            "{logged} lines in {later} s"
        );
        assert_eq!(other.logged(), [], "another group");
    });
}
