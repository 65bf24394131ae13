//! Messages as trees of attributes, in which the order of different kinds and padding do not matter.

use std::fmt;

/// A netlink message of nf_tables.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// `NFT_MSG_*`.
    pub(crate) kind: u8,
    /// `NFPROTO_*`.
    pub(crate) family: u8,
    /// Whether it creates, replaces, appends.
    pub(crate) flags: u16,
    pub(crate) attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) kind: u16,
    pub(crate) value: Value,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    Nest(Vec<Attribute>),
}

const HEADER: usize = 16;
const NFGENMSG: usize = 4;
/// `NFNL_SUBSYS_NFTABLES`.
const NF_TABLES: u8 = 10;
const NESTED: u16 = 0x8000;
const KIND: u16 = 0x3fff;
/// `NFT_MSG_NEWRULE`, its list of expressions, their name and data, and a lookup's number of a set.
pub(crate) const NEW_RULE: u8 = 6;
pub(crate) const EXPRESSIONS: u16 = 4;
const NAME: u16 = 1;
const DATA: u16 = 2;
const SET_ID: u16 = 4;
/// `NFT_MSG_NEWSETELEM`, `DELSETELEM`, and their list of elements.
const ELEMENTS: [u8; 2] = [12, 14];
const LIST: u16 = 3;
/// `NLM_F_EXCL`, `NLM_F_CREATE`, `NLM_F_APPEND`.
const MAKE: u16 = 0xe00;

/// The nf_tables messages in a datagram, as bytes; a transaction's begin and end are not of nf_tables.
pub(crate) fn split(mut datagram: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while datagram.len() >= HEADER {
        let length = u32::from_ne_bytes(datagram[..4].try_into().unwrap());
        let length = usize::try_from(length).unwrap();
        if datagram[5] == NF_TABLES {
            all.push(&datagram[..length]);
        }
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    all
}

impl Message {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut message = Self {
            kind: bytes[4],
            family: bytes[HEADER],
            flags: u16::from_ne_bytes([bytes[6], bytes[7]]) & MAKE,
            attributes: attributes(&bytes[HEADER + NFGENMSG..]),
        };
        if ELEMENTS.contains(&message.kind) {
            message.list_elements();
        }
        message
    }

    /// libnftnl numbers the elements of a list, where the kernel has one kind for all and looks at none.
    fn list_elements(&mut self) {
        let lists = self.attributes.iter_mut().filter(|one| one.kind == LIST);
        for list in lists {
            if let Value::Nest(all) = &mut list.value {
                all.iter_mut().for_each(|one| one.kind = 1);
            }
        }
    }

    /// The text in an attribute of the message itself.
    pub(crate) fn text(&self, kind: u16) -> &str {
        let found = self.attributes.iter().find(|one| one.kind == kind);
        match found.map(|one| &one.value) {
            Some(Value::Bytes(bytes)) => {
                std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).unwrap()
            }
            _ => panic!("no text {kind} in {self:?}"),
        }
    }

    /// The attributes in a nest of the message itself.
    pub(crate) fn nest(&self, kind: u16) -> &[Attribute] {
        let found = self.attributes.iter().find(|one| one.kind == kind);
        match found.map(|one| &one.value) {
            Some(Value::Nest(all)) => all,
            _ => panic!("no nest {kind} in {self:?}"),
        }
    }

    pub(crate) fn without(mut self, kinds: &[u16]) -> Self {
        self.attributes.retain(|one| !kinds.contains(&one.kind));
        self
    }
}

/// Attributes by kind; those of a kind, as in a list, in their order.
pub(crate) fn attributes(mut bytes: &[u8]) -> Vec<Attribute> {
    let mut all = Vec::new();
    while let Some([a, b, c, d]) = bytes.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let kind = u16::from_ne_bytes([*c, *d]);
        let value = &bytes[4..length];
        let value = if kind & NESTED == 0 {
            Value::Bytes(value.to_vec())
        } else {
            Value::Nest(attributes(value))
        };
        let kind = kind & KIND;
        all.push(Attribute { kind, value });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all.sort_by_key(|one| one.kind);
    all
}

/// The same with the nests that `model` says: not everybody marks them.
pub(crate) fn like(model: &[Attribute], all: &[Attribute]) -> Vec<Attribute> {
    let mut others = model.iter().peekable();
    let mut one_like = |one: &Attribute| {
        // Lists have many of a kind, in order; what the model has more of is passed over.
        while others.next_if(|model| model.kind < one.kind).is_some() {}
        let model = others.next_if(|model| model.kind == one.kind);
        let value = match (model.map(|model| &model.value), &one.value) {
            (Some(Value::Nest(model)), Value::Bytes(bytes)) => {
                Value::Nest(like(model, &attributes(bytes)))
            }
            (Some(Value::Nest(model)), Value::Nest(all)) => Value::Nest(like(model, all)),
            (_, other) => other.clone(),
        };
        Attribute {
            kind: one.kind,
            value,
        }
    };
    all.iter().map(&mut one_like).collect()
}

/// Fails, and says where, unless both are the same.
pub(crate) fn assert_same(ours: &Message, theirs: &Message, who: &str) {
    let (mut ours, mut theirs) = (
        ours.clone(),
        Message {
            attributes: like(&ours.attributes, &theirs.attributes),
            ..theirs.clone()
        },
    );
    for message in [&mut ours, &mut theirs] {
        plain_rule(message);
    }
    assert!(
        ours == theirs,
        "{who} differs.\nours:   {ours:?}\ntheirs: {theirs:?}"
    );
}

fn plain_rule(message: &mut Message) {
    let expressions = message.attributes.iter_mut();
    let rule = message.kind == NEW_RULE;
    for one in expressions.filter(|one| rule && one.kind == EXPRESSIONS) {
        if let Value::Nest(all) = &mut one.value {
            *all = plain(all);
        }
    }
}

/// Expressions without what means nothing: a counter's start at zero, the number of a set beside its name, the ICMP
/// code of a TCP reset, a nest of nothing.
pub(crate) fn plain(expressions: &[Attribute]) -> Vec<Attribute> {
    let mut all = expressions.to_vec();
    for one in &mut all {
        let Value::Nest(parts) = &mut one.value else {
            panic!("{one:?} is no expression");
        };
        let name = parts.iter().find(|part| part.kind == NAME).cloned();
        let name = format!("{name:?}");
        let zero = |one: &Attribute| match &one.value {
            Value::Bytes(bytes) => bytes.iter().all(|byte| *byte == 0),
            Value::Nest(_) => false,
        };
        for data in parts.iter_mut().filter(|part| part.kind == DATA) {
            let Value::Nest(data) = &mut data.value else {
                continue;
            };
            if name.contains("counter") {
                data.retain(|one| !zero(one));
            } else if name.contains("lookup") {
                data.retain(|one| one.kind != SET_ID);
            } else if name.contains("reject") {
                data.retain(|one| one.kind == 1 || !zero(one));
            }
        }
        parts.retain(|part| part.kind != DATA || part.value != Value::Nest(Vec::new()));
    }
    all
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            family,
            flags,
            attributes,
        } = self;
        write!(
            f,
            "message {kind} of family {family}, {flags:#x} {attributes:?}"
        )
    }
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Nest(all) => write!(f, "{}={all:?}", self.kind),
            Value::Bytes(bytes) => {
                write!(f, "{}=", self.kind)?;
                let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
                if text.len() > 2 && text.iter().all(u8::is_ascii_graphic) {
                    return write!(f, "{:?}", String::from_utf8_lossy(text));
                }
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}
