//! Rules made by `netlink-packet-netfilter`.

use netlink_packet_core::{DefaultNla, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Lookup, Meta, MetaKey, NfTablesMessage,
    Operator, Payload, Register, RuleAttribute, RuleMessage, Verdict, VerdictAttribute,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use crate::rules::Word;

/// `NFT_PAYLOAD_NETWORK_HEADER` and `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// `NFT_LOOKUP_F_INV`.
const INVERT: u32 = 1;
/// `NF_DROP`, `NF_ACCEPT`.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// A rule of these words; `None` when the crate has no type for one.
pub(crate) fn rule(words: &[Word]) -> Option<Vec<u8>> {
    let expressions: Option<Vec<Expressions>> = words.iter().map(expression).collect();
    let expressions = expressions?.into_iter().map(Into::into).collect();
    let attributes = vec![
        RuleAttribute::Table("ocicat".to_owned()),
        RuleAttribute::Chain("any".to_owned()),
        RuleAttribute::Expressions(expressions),
    ];
    let header = NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0);
    let rule = NfTablesMessage::NewRule(RuleMessage { attributes });
    let mut message = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::from(NetfilterMessage::new(header, rule)),
    );
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    Some(bytes)
}

fn meta(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![
        Meta::DestinationRegister(Register::Reg1),
        Meta::Key(key),
    ])
}

fn payload(base: u32, offset: u32, length: u32) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

fn compare(operator: Operator, value: &[u8]) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value.to_vec())),
    ])
}

fn lookup(set: &str, more: Option<Lookup>) -> Expressions {
    let mut all = vec![
        Lookup::Set(set.to_owned()),
        Lookup::SourceRegister(Register::Reg1),
    ];
    all.extend(more);
    Expressions::Lookup(all)
}

fn verdict(code: Verdict, chain: Option<&str>) -> Expressions {
    let mut all = vec![VerdictAttribute::Code(code)];
    all.extend(chain.map(|chain| VerdictAttribute::Chain(chain.to_owned())));
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(all)),
    ])
}

/// An expression that the crate has no type for, by the numbers of its attributes in linux/netfilter/nf_tables.h.
fn other(name: &str, attributes: &[(u16, u32)]) -> Expressions {
    let attributes = attributes.iter();
    let attributes =
        attributes.map(|(kind, value)| DefaultNla::new(*kind, value.to_be_bytes().to_vec()));
    Expressions::Other {
        expression_type: name.to_owned(),
        attributes: attributes.collect(),
    }
}

fn expression(word: &Word) -> Option<Expressions> {
    Some(match word {
        Word::Version => meta(MetaKey::Nfproto),
        Word::Protocol => meta(MetaKey::L4Proto),
        Word::Mark => meta(MetaKey::Mark),
        Word::InName => meta(MetaKey::Iifname),
        Word::OutName => meta(MetaKey::Oifname),
        Word::SetMark => Expressions::Meta(vec![
            Meta::Key(MetaKey::Mark),
            Meta::SourceRegister(Register::Reg1),
        ]),
        Word::Network(offset, length) => payload(NETWORK, *offset, *length),
        Word::Transport(offset, length) => payload(TRANSPORT, *offset, *length),
        Word::Is(value) => compare(Operator::Equal, value),
        Word::IsNot(value) => compare(Operator::NotEqual, value),
        Word::Mask(mask, xor) => Expressions::Bitwise(vec![
            Bitwise::SourceRegister(Register::Reg1),
            Bitwise::DestinationRegister(Register::Reg1),
            Bitwise::Length(u32::try_from(mask.len()).unwrap()),
            Bitwise::Mask(DataAttribute::Value(mask.clone())),
            Bitwise::Xor(DataAttribute::Value(xor.clone())),
        ]),
        Word::In(set) => lookup(set, None),
        Word::NotIn(set) => lookup(set, Some(Lookup::Flags(INVERT))),
        Word::ByMap(map) => lookup(map, Some(Lookup::DestinationRegister(Register::Verdict))),
        Word::Accept => verdict(Verdict::Other(ACCEPT), None),
        Word::Drop => verdict(Verdict::Other(DROP), None),
        Word::Return => verdict(Verdict::Return, None),
        Word::Jump(chain) => verdict(Verdict::Jump, Some(chain)),
        Word::Count => other("counter", &[]),
        Word::CtState => other("ct", &[(1, 1), (2, 0)]),
        Word::CtMark => other("ct", &[(1, 1), (2, 3)]),
        Word::Reset | Word::Prohibited => return None,
    })
}
