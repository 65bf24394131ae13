//! `netlink-packet-netfilter` reads a message into its own types and writes it anew.

use netlink_packet_core::NetlinkMessage;
use netlink_packet_netfilter::NetfilterMessage;

use crate::ours::messages;
use crate::tree::{Message, assert_same};

pub(crate) fn read(bytes: &[u8]) -> NetlinkMessage<NetfilterMessage> {
    NetlinkMessage::deserialize(bytes)
        .unwrap_or_else(|error| panic!("{error}: {:?}", Message::read(bytes)))
}

#[test]
fn reads_every_message_and_writes_the_same() {
    for (bytes, ours) in messages() {
        let mut message = read(&bytes);
        message.finalize();
        let mut again = vec![0; message.buffer_len()];
        message.serialize(&mut again);
        assert_same(&ours, &Message::read(&again), "netlink-packet-netfilter");
    }
}
