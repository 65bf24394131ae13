//! Statements as nf_tables expressions.

use std::net::IpAddr;

use super::statement::{Field, Statement, Value, Verdict};
use super::wire::Buffer;
use crate::state::{IpVersion, PortRange};

const EXPRESSION: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
/// `NFT_REG_1`: 16 bytes. The 4-byte registers 8 to 11 are its parts, 12 to 15 those of the next.
const REG: u32 = 1;
const REG32: u32 = 8;
const REG_VERDICT: u32 = 0;
/// `NFT_REG_2`.
const REG_2: u32 = 2;

/// `NF_DROP`, `NF_ACCEPT`, `NFT_JUMP`, `NFT_GOTO`, `NFT_RETURN`.
const DROP: i32 = 0;
pub(crate) const ACCEPT: i32 = 1;
pub(crate) const JUMP: i32 = -3;
pub(crate) const GOTO: i32 = -4;
pub(crate) const RETURN: i32 = -5;

const CT_MARK: u32 = 3;
const META_MARK: u32 = 3;
const META_IN_NAME: u32 = 6;
const META_OUT_NAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// `NF_NAT_RANGE_PROTO_SPECIFIED`.
const PORTS_GIVEN: u32 = 2;

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// The value of `NFTA_RULE_EXPRESSIONS`.
pub(crate) fn expressions(statements: &[Statement]) -> Vec<u8> {
    let mut buffer = Buffer::with_capacity(512);
    for statement in statements {
        encode(&mut buffer, statement);
    }
    buffer.into_bytes()
}

/// A verdict as `NFTA_DATA_VERDICT` of a nest.
pub(crate) fn verdict(buffer: &mut Buffer, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (DROP, None),
        Verdict::Accept => (ACCEPT, None),
        Verdict::Jump(chain) => (JUMP, Some(chain)),
        Verdict::Goto(chain) => (GOTO, Some(chain)),
        Verdict::Return => (RETURN, None),
    };
    buffer.nest(2, |b| {
        b.attribute(1, &i32::to_be_bytes(code));
        if let Some(chain) = chain {
            b.text(2, chain);
        }
    });
}

/// A link's name as nf_tables compares it: 16 bytes, filled with zeros.
pub(crate) fn link_key(link: &str) -> [u8; 16] {
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(link.bytes()) {
        *to = from;
    }
    key
}

/// An address in network order.
pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn expression(buffer: &mut Buffer, name: &str, data: impl FnOnce(&mut Buffer)) {
    buffer.nest(EXPRESSION, |b| {
        b.text(NAME, name);
        b.nest(DATA, data);
    });
}

fn encode(b: &mut Buffer, statement: &Statement) {
    match statement {
        Statement::Is { field, not, value } => is(b, *field, *not, value),
        Statement::In { fields, not, set } => lookup(b, fields, *not, set),
        Statement::State(states) => {
            expression(b, "ct", |b| {
                b.be32(1, REG);
                b.be32(2, 0);
            });
            any_bit(b, *states);
        }
        Statement::ConnectionMarked(bits) => {
            expression(b, "ct", |b| {
                b.be32(1, REG);
                b.be32(2, CT_MARK);
            });
            any_bit(b, *bits);
        }
        Statement::Marked(bits) => {
            meta(b, META_MARK, REG);
            any_bit(b, *bits);
        }
        Statement::Mark { clear, set } => {
            meta(b, META_MARK, REG);
            bitwise(b, &(!(clear | set)).to_ne_bytes(), &set.to_ne_bytes());
            expression(b, "meta", |b| {
                b.be32(2, META_MARK);
                b.be32(3, REG);
            });
        }
        Statement::Map { field, map } => {
            load(b, *field, REG);
            expression(b, "lookup", |b| {
                b.text(1, map);
                b.be32(2, REG);
                b.be32(3, REG_VERDICT);
            });
        }
        Statement::Verdict(code) => expression(b, "immediate", |b| {
            b.be32(1, REG_VERDICT);
            b.nest(2, |b| verdict(b, code));
        }),
        _ => effect(b, statement),
    }
}

/// Statements that look at nothing.
fn effect(b: &mut Buffer, statement: &Statement) {
    match statement {
        Statement::NoTrack => expression(b, "notrack", |_| {}),
        Statement::Counter => expression(b, "counter", |b| {
            b.be64(1, 0);
            b.be64(2, 0);
        }),
        Statement::Limit { per_minute } => expression(b, "limit", |b| {
            b.be64(1, u64::from(*per_minute));
            b.be64(2, 60);
            b.be32(3, 5);
            b.be32(4, 0);
            b.be32(5, 0);
        }),
        Statement::Log { prefix, group } => expression(b, "log", |b| {
            if let Some(group) = group {
                b.attribute(1, &group.to_be_bytes());
            }
            b.text(2, prefix);
        }),
        Statement::Reset => expression(b, "reject", |b| b.be32(1, 1)),
        Statement::Prohibit => expression(b, "reject", |b| {
            // ICMPX "administratively prohibited": right for both families.
            b.be32(1, 2);
            b.attribute(2, &[3]);
        }),
        Statement::Masquerade { ports } => {
            let last = ports.map(|ports| port_registers(b, ports, REG));
            expression(b, "masq", |b| {
                if let Some(last) = last {
                    b.be32(1, PORTS_GIVEN);
                    b.be32(2, REG);
                    b.be32(3, last);
                }
            });
        }
        Statement::SourceNat { address, ports } => source_nat(b, *address, *ports),
        Statement::LocalSource { on_link, not } => {
            expression(b, "fib", |b| {
                b.be32(1, REG);
                b.be32(2, 3);
                b.be32(3, if *on_link { 1 | 16 } else { 1 });
            });
            // RTN_LOCAL, in the host's order.
            compare(b, *not, &2_u32.to_ne_bytes());
        }
        _ => {}
    }
}

fn source_nat(b: &mut Buffer, address: IpAddr, ports: Option<PortRange>) {
    immediate(b, REG, &address_bytes(address));
    let last = ports.map(|ports| port_registers(b, ports, REG_2));
    expression(b, "nat", |b| {
        b.be32(1, 0);
        b.be32(2, if address.is_ipv4() { 2 } else { 10 });
        b.be32(3, REG);
        if let Some(last) = last {
            b.be32(5, REG_2);
            b.be32(6, last);
            b.be32(7, PORTS_GIVEN);
        }
    });
}

/// Loads the ends of a port range; the register of the last one.
fn port_registers(b: &mut Buffer, ports: PortRange, register: u32) -> u32 {
    immediate(b, register, &ports.first.to_be_bytes());
    immediate(b, register + 1, &ports.last.to_be_bytes());
    register + 1
}

fn immediate(b: &mut Buffer, register: u32, value: &[u8]) {
    expression(b, "immediate", |b| {
        b.be32(1, register);
        b.nest(2, |b| b.attribute(1, value));
    });
}

fn is(b: &mut Buffer, field: Field, not: bool, value: &Value) {
    match value {
        Value::Net(net) => {
            let mut address = address_bytes(net.address());
            if let Some(bytes) = whole_bytes(field, net.length()) {
                // As nft does: the bytes that matter, and no mask.
                payload(b, REG, NETWORK_HEADER, offset(field), bytes);
                address.truncate(usize::from(net.length() / 8));
                compare(b, not, &address);
                return;
            }
            load(b, field, REG);
            if !net.is_host() {
                let mask = mask_bytes(net.length(), address.len());
                bitwise(b, &mask, &vec![0; address.len()]);
            }
            compare(b, not, &address);
        }
        Value::Ports(ports) if ports.first != ports.last => {
            load(b, field, REG);
            expression(b, "range", |b| {
                b.be32(1, REG);
                b.be32(2, if not { NOT_EQUAL } else { EQUAL });
                b.nest(3, |b| b.attribute(1, &ports.first.to_be_bytes()));
                b.nest(4, |b| b.attribute(1, &ports.last.to_be_bytes()));
            });
        }
        _ => {
            load(b, field, REG);
            compare(b, not, &plain_bytes(value));
        }
    }
}

/// The bytes of a prefix that the kernel loads and compares as one number; others need a mask anyway.
fn whole_bytes(field: Field, length: u8) -> Option<u32> {
    let bytes = match (field, length) {
        (Field::Source(_) | Field::Destination(_), 8) => 1,
        (Field::Source(_) | Field::Destination(_), 16) => 2,
        (Field::Source(IpVersion::V6) | Field::Destination(IpVersion::V6), 32) => 4,
        _ => return None,
    };
    Some(bytes)
}

/// Where an address is in the network header.
const fn offset(field: Field) -> u32 {
    match field {
        Field::Source(IpVersion::V4) => 12,
        Field::Destination(IpVersion::V4) => 16,
        Field::Source(IpVersion::V6) => 8,
        Field::Destination(IpVersion::V6) => 24,
        Field::ArpSender => 14,
        _ => 0,
    }
}

fn plain_bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Version(IpVersion::V4) => vec![2],
        Value::Version(IpVersion::V6) => vec![10],
        Value::Protocol(protocol) => vec![protocol.0],
        Value::Link(link) => link_key(link.as_str()).to_vec(),
        // Without the zero at the end: the kernel compares only so many bytes.
        Value::Links(prefix) => prefix.bytes().take(15).collect(),
        Value::Ports(ports) => ports.first.to_be_bytes().to_vec(),
        Value::IcmpType(kind) => vec![*kind],
        Value::Icmp(kind, code) => vec![*kind, *code],
        Value::Net(net) => address_bytes(net.address()),
    }
}

pub(crate) fn mask_bytes(length: u8, bytes: usize) -> Vec<u8> {
    let bits = (0..bytes).map(|at| usize::from(length).saturating_sub(at * 8).min(8));
    bits.map(|bits| u8::try_from((0xff00_u32 >> bits) & 0xff).unwrap_or(0))
        .collect()
}

fn lookup(b: &mut Buffer, fields: &[Field], not: bool, set: &str) {
    let mut register = REG32;
    for (at, field) in fields.iter().enumerate() {
        load(b, *field, if at == 0 { REG } else { register });
        register += u32::try_from(width(*field).div_ceil(4)).unwrap_or(0);
    }
    expression(b, "lookup", |b| {
        b.text(1, set);
        b.be32(2, REG);
        if not {
            b.be32(5, 1);
        }
    });
}

/// The bytes that a field takes in a register.
const fn width(field: Field) -> usize {
    match field {
        Field::Version | Field::Protocol | Field::IcmpType => 1,
        Field::SourcePort | Field::DestinationPort | Field::Icmp => 2,
        Field::Source(IpVersion::V4) | Field::Destination(IpVersion::V4) | Field::ArpSender => 4,
        Field::InLink
        | Field::OutLink
        | Field::Source(_)
        | Field::Destination(_)
        | Field::NeighbourTarget => 16,
    }
}

fn load(b: &mut Buffer, field: Field, register: u32) {
    match field {
        Field::Version => meta(b, META_NFPROTO, register),
        Field::Protocol => meta(b, META_L4PROTO, register),
        Field::InLink => meta(b, META_IN_NAME, register),
        Field::OutLink => meta(b, META_OUT_NAME, register),
        Field::Source(version) | Field::Destination(version) => {
            let bytes = if version == IpVersion::V4 { 4 } else { 16 };
            payload(b, register, NETWORK_HEADER, offset(field), bytes);
        }
        Field::SourcePort => payload(b, register, TRANSPORT_HEADER, 0, 2),
        Field::DestinationPort => payload(b, register, TRANSPORT_HEADER, 2, 2),
        Field::Icmp => payload(b, register, TRANSPORT_HEADER, 0, 2),
        Field::IcmpType => payload(b, register, TRANSPORT_HEADER, 0, 1),
        Field::ArpSender => payload(b, register, NETWORK_HEADER, offset(field), 4),
        Field::NeighbourTarget => payload(b, register, TRANSPORT_HEADER, 8, 16),
    }
}

fn meta(b: &mut Buffer, key: u32, register: u32) {
    expression(b, "meta", |b| {
        b.be32(1, register);
        b.be32(2, key);
    });
}

fn payload(b: &mut Buffer, register: u32, base: u32, offset: u32, length: u32) {
    expression(b, "payload", |b| {
        b.be32(1, register);
        b.be32(2, base);
        b.be32(3, offset);
        b.be32(4, length);
    });
}

fn compare(b: &mut Buffer, not: bool, value: &[u8]) {
    expression(b, "cmp", |b| {
        b.be32(1, REG);
        b.be32(2, if not { NOT_EQUAL } else { EQUAL });
        b.nest(3, |b| b.attribute(1, value));
    });
}

fn bitwise(b: &mut Buffer, mask: &[u8], xor: &[u8]) {
    expression(b, "bitwise", |b| {
        b.be32(1, REG);
        b.be32(2, REG);
        b.be32(3, u32::try_from(mask.len()).unwrap_or(0));
        b.nest(4, |b| b.attribute(1, mask));
        b.nest(5, |b| b.attribute(1, xor));
    });
}

/// Goes on only when one of the bits is set in the register.
fn any_bit(b: &mut Buffer, bits: u32) {
    bitwise(b, &bits.to_ne_bytes(), &[0; 4]);
    compare(b, true, &[0; 4]);
}
