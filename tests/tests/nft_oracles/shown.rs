//! What the kernel shows of our table, read by others.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_netfilter::NetfilterMessageInner;
use netlink_packet_netfilter::nftables::{NfTablesMessage, RuleAttribute};
use nix::sys::socket::{MsgFlags, recv, send};
use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::Denied;

use crate::netfilter::netfilter_socket;
use crate::ours::{alone, state};
use crate::tree::{Message, NEW_RULE, Value, split};
use crate::{libnftnl, packet};

/// `NFT_MSG_GETCHAIN`, `GETRULE`, `GETSET`: what has no elements inside.
const GET: [u8; 3] = [4, 7, 10];
const CHAIN: u16 = 2;
const COMMENT: u16 = 7;

/// All answers of the kernel to a question about everything of the family inet.
fn dump(kind: u8) -> Vec<Vec<u8>> {
    let socket = netfilter_socket();
    // NLM_F_REQUEST | NLM_F_DUMP.
    let mut question = 20_u32.to_ne_bytes().to_vec();
    question.extend([kind, 10]);
    question.extend(0x301_u16.to_ne_bytes());
    question.extend([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    send(socket.as_raw_fd(), &question, MsgFlags::empty()).unwrap();
    let mut all = Vec::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
        let parts = split(&buffer[..length]);
        if parts.is_empty() {
            return all;
        }
        all.extend(parts.into_iter().map(<[u8]>::to_vec));
    }
}

/// The comments of rules, which have our hash of the rule in them, by chain.
type Comments = BTreeMap<String, Vec<Vec<u8>>>;

fn comments<'a>(rules: impl Iterator<Item = &'a Message>) -> Comments {
    let mut all = Comments::new();
    for rule in rules {
        let comment = rule.attributes.iter().find(|one| one.kind == COMMENT);
        let Some(Value::Bytes(comment)) = comment.map(|one| &one.value) else {
            panic!("a rule without a comment: {rule:?}");
        };
        let chain = all.entry(rule.text(CHAIN).to_owned()).or_default();
        chain.push(comment.clone());
    }
    all
}

#[test]
fn others_read_in_the_kernel_what_was_sent() {
    alone(|| {
        let mut table = Table::open().unwrap();
        table.record();
        table.apply(&state(Denied::Reject)).unwrap();
        let sent: Vec<Message> = table
            .recorded()
            .iter()
            .flat_map(|datagram| {
                split(datagram)
                    .into_iter()
                    .map(Message::read)
                    .collect::<Vec<_>>()
            })
            .filter(|message| message.kind == NEW_RULE && message.family == 1)
            .collect();
        let mut theirs = Comments::new();
        let mut c_library = Vec::new();
        for kind in GET {
            let answers = dump(kind);
            assert!(!answers.is_empty(), "the kernel shows nothing of {kind}");
            for answer in answers {
                let again = libnftnl::again(&answer);
                let again = again.unwrap_or_else(|| panic!("{:?}", Message::read(&answer)));
                let message = packet::read(&answer).payload;
                let NetlinkPayload::InnerMessage(message) = message else {
                    panic!("{message:?}");
                };
                let NetfilterMessageInner::NfTables(message) = message.inner else {
                    panic!("{message:?}");
                };
                if let NfTablesMessage::NewRule(rule) = message {
                    c_library.push(Message::read(&again));
                    note(&rule.attributes, &mut theirs);
                }
            }
        }
        let ours = comments(sent.iter());
        assert!(ours.len() > 10, "{} chains", ours.len());
        assert_eq!(ours, theirs, "netlink-packet-netfilter");
        assert_eq!(ours, comments(c_library.iter()), "libnftnl");
    });
}

fn note(rule: &[RuleAttribute], comments: &mut Comments) {
    let chain = rule.iter().find_map(|one| match one {
        RuleAttribute::Chain(chain) => Some(chain.clone()),
        _ => None,
    });
    let comment = rule.iter().find_map(|one| match one {
        RuleAttribute::UserData(data) => Some(data.clone()),
        _ => None,
    });
    let chain = comments.entry(chain.unwrap()).or_default();
    chain.push(comment.unwrap());
}
