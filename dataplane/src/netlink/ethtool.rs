//! One feature of a network device, over generic netlink (`ethtool_netlink.h`): whether it fills in checksums.

use super::{Batch, Socket, codec};
use crate::{KernelError, Refusal};

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY` and its attributes.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `ETHTOOL_MSG_FEATURES_GET`, `_SET` and their attributes.
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const HEADER: u16 = 1;
const HEADER_INDEX: u16 = 1;
const WANTED: u16 = 3;
const ACTIVE: u16 = 4;
const BITS: u16 = 3;
const BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

const NESTED: u16 = 0x8000;

const CHECKSUMS: &[u8] = b"tx-checksum-ip-generic\0";

/// A socket to the kernel's `ethtool` family.
pub(crate) struct Ethtool {
    socket: Socket,
    family: u16,
}

impl Ethtool {
    /// Opens a socket in the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self, KernelError> {
        let mut socket = Socket::open_generic()?;
        let request = request(CONTROL, GET_FAMILY, |bytes| {
            padded(bytes, FAMILY_NAME, b"ethtool\0");
        });
        let family = socket.get_raw(request, |_, payload| {
            let found = codec::attributes(payload.get(4..).unwrap_or(&[]))
                .find(|(kind, _)| *kind == FAMILY_ID)
                .and_then(|(_, value)| Some(u16::from_ne_bytes(value.try_into().ok()?)));
            found.ok_or_else(|| KernelError::malformed("a family without a number"))
        })?;
        Ok(Self { socket, family })
    }

    /// Whether checksums of what a link sends are left to the device.
    pub(crate) fn fills_checksums(&mut self, link: u32) -> Result<bool, KernelError> {
        let request = request(self.family, FEATURES_GET, |bytes| header(bytes, link));
        self.socket.get_raw(request, |_, payload| {
            let all = payload.get(4..).unwrap_or(&[]);
            let active = codec::attributes(all).find(|(kind, _)| *kind == ACTIVE);
            let bits =
                active.and_then(|(_, set)| codec::attributes(set).find(|(kind, _)| *kind == BITS));
            let named = bits.is_some_and(|(_, bits)| {
                codec::attributes(bits).any(|(_, bit)| {
                    codec::attributes(bit)
                        .any(|(kind, value)| kind == BIT_NAME && value.starts_with(CHECKSUMS))
                })
            });
            Ok(named)
        })
    }

    /// Leaves the checksums of what a link sends to the device, or not.
    pub(crate) fn fill_checksums(&mut self, link: u32, fill: bool) -> Result<(), KernelError> {
        let mut batch = Batch::new();
        batch.raw((), self.family, 0, |bytes| {
            bytes.extend_from_slice(&[FEATURES_SET, 1, 0, 0]);
            header(bytes, link);
            nested(bytes, WANTED, |bytes| {
                nested(bytes, BITS, |bytes| {
                    nested(bytes, BIT, |bytes| {
                        padded(bytes, BIT_NAME, CHECKSUMS);
                        if fill {
                            padded(bytes, BIT_VALUE, &[]);
                        }
                    });
                });
            });
        });
        if let Some(((), error)) = self.socket.run(&mut batch)?.pop() {
            return Err(error);
        }
        if self.fills_checksums(link)? == fill {
            Ok(())
        } else {
            Err(KernelError {
                refusal: Refusal::Unsupported,
                errno: 95, // EOPNOTSUPP
                message: Some("the device's checksums cannot be switched".into()),
            })
        }
    }
}

fn request(family: u16, command: u8, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    super::message(&mut bytes, family, REQUEST, |bytes| {
        bytes.extend_from_slice(&[command, 1, 0, 0]);
        write(bytes);
    });
    bytes
}

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;

fn header(bytes: &mut Vec<u8>, link: u32) {
    nested(bytes, HEADER, |bytes| {
        padded(bytes, HEADER_INDEX, &link.to_ne_bytes());
    });
}

fn nested(bytes: &mut Vec<u8>, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    padded(bytes, kind | NESTED, &[]);
    write(bytes);
    let length = u16::try_from(bytes.len() - start).unwrap_or(u16::MAX);
    if let Some(field) = bytes.get_mut(start..start + 2) {
        field.copy_from_slice(&length.to_ne_bytes());
    }
}

fn padded(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
