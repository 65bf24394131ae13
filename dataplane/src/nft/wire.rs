//! Netlink messages on a byte buffer: lengths are patched when a message or a nest ends.

/// `NLM_F_*` of a request (linux/netlink.h).
pub(crate) mod flags {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
    /// Of an answer: the dump was interrupted by a change.
    pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
}

/// `NFT_MSG_*` (linux/netfilter/nf_tables.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    DelChain = 5,
    NewRule = 6,
    GetRule = 7,
    DelRule = 8,
    NewSet = 9,
    GetSet = 10,
    DelSet = 11,
    NewElement = 12,
    GetElement = 13,
    DelElement = 14,
    NewGeneration = 15,
    GetGeneration = 16,
}

/// `NFNL_SUBSYS_NFTABLES`.
pub(crate) const SUBSYSTEM: u16 = 10;
/// `NFPROTO_INET`.
pub(crate) const INET: u8 = 1;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
const HEADER: usize = 16;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const BATCH_GENERATION: u16 = 1;

/// Bytes of netlink messages under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// An nf_tables message of a family, 0 for all; `body` writes its attributes.
    pub(crate) fn message_of(
        &mut self,
        family: u8,
        kind: Kind,
        flags: u16,
        sequence: u32,
        body: impl FnOnce(&mut Self),
    ) {
        let message = (SUBSYSTEM << 8) | kind as u16;
        self.raw(message, flags | flags::REQUEST, sequence, family, 0, body);
    }

    /// The start of a transaction. With `generation` the kernel refuses it (ERESTART) when another has been
    /// committed since.
    pub(crate) fn batch_begin(&mut self, sequence: u32, generation: Option<u32>) {
        self.raw(BATCH_BEGIN, flags::REQUEST, sequence, 0, SUBSYSTEM, |b| {
            if let Some(generation) = generation {
                b.be32(BATCH_GENERATION, generation);
            }
        });
    }

    /// The end of a transaction.
    pub(crate) fn batch_end(&mut self, sequence: u32) {
        self.raw(BATCH_END, flags::REQUEST, sequence, 0, SUBSYSTEM, |_| {});
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Appends messages that were written elsewhere.
    pub(crate) fn append(&mut self, messages: &[u8]) {
        self.bytes.extend_from_slice(messages);
    }

    fn raw(
        &mut self,
        message: u16,
        flags: u16,
        sequence: u32,
        family: u8,
        resource: u16,
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&message.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        // nfgenmsg: family, version 0, resource id.
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(field) = self.bytes.get_mut(start..start + 4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }

    /// A text with the zero byte that the kernel wants at its end.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let length = u16::try_from(value.len() + 5).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        // At least the zero byte, at most three of padding behind it.
        let padded = (self.bytes.len() + 1).next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        if let Some(field) = self.bytes.get_mut(start..start + 2) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
    }
}

/// Asks for an acknowledgement of the last message in `messages`: the kernel sends it after the commit.
pub(crate) fn acknowledge_last(messages: &mut [u8]) {
    let mut at = 0;
    while let Some(length) = length_at(messages, at) {
        let next = at + length.next_multiple_of(4);
        if next >= messages.len() {
            if let Some(field) = messages.get_mut(at + 6..at + 8) {
                let old = u16::from_ne_bytes([field[0], field[1]]);
                field.copy_from_slice(&(old | flags::ACK).to_ne_bytes());
            }
            return;
        }
        at = next;
    }
}

fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let field: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    let length = usize::try_from(u32::from_ne_bytes(field)).ok()?;
    (length >= HEADER).then_some(length)
}

/// A message that the kernel sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// What follows the netlink header.
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The family in the `nfgenmsg`.
    pub(crate) fn family(&self) -> u8 {
        self.payload.first().copied().unwrap_or(0)
    }

    /// The attributes behind the `nfgenmsg`.
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(4..).unwrap_or_default())
    }
}

/// The messages in a datagram; a broken one ends it.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let length = length_at(datagram, at)?;
        let whole = datagram.get(at..at + length)?;
        at += length.next_multiple_of(4);
        Some(Message {
            kind: u16::from_ne_bytes([whole[4], whole[5]]),
            flags: u16::from_ne_bytes([whole[6], whole[7]]),
            sequence: u32::from_ne_bytes([whole[8], whole[9], whole[10], whole[11]]),
            payload: whole.get(HEADER..)?,
        })
    })
}

/// Attributes in the order they were sent, as (kind, value).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [a, b, c, d] = *self.0.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & 0x3fff, value))
    }
}

impl<'a> Attributes<'a> {
    /// The first attribute of a kind.
    pub(crate) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(found, value)| (found == kind).then_some(value))
    }

    pub(crate) fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.find(kind)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }

    pub(crate) fn be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(*self.find(kind)?.first_chunk()?))
    }

    pub(crate) fn be64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(*self.find(kind)?.first_chunk()?))
    }

    pub(crate) fn nested(self, kind: u16) -> Self {
        Self(self.find(kind).unwrap_or_default())
    }
}
