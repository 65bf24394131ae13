//! The pair of links: found, or made.

use std::os::fd::AsFd as _;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};

use super::{container, lookup, remove, run};
use crate::linux::netns::within;
use crate::netlink::link::{KernelLink, VethEnd};
use crate::netlink::{Batch, Socket, link};
use crate::{AttachError, Attachment, KernelError, Refusal, names};

/// The two ends of an attachment.
pub(super) struct Pair {
    /// The node's end.
    pub(super) host: KernelLink,
    /// The index of the container's end.
    pub(super) inner: u32,
    /// The container's end, where it was there already.
    pub(super) end: Option<KernelLink>,
    /// Whether it was made a moment ago.
    pub(super) is_new: bool,
}

/// Makes the pair, unless it is there and ours.
///
/// It is made first, and looked for only when its names are taken: nearly always they are not.
pub(super) fn ensure(socket: &mut Socket, attachment: &Attachment) -> Result<Pair, AttachError> {
    match make(socket, attachment)? {
        Some(pair) => Ok(pair),
        None => {
            if let Some(pair) = adopt(socket, attachment)? {
                return Ok(pair);
            }
            make(socket, attachment)?.ok_or_else(|| AttachError::Exists {
                link: attachment.container_link.clone(),
            })
        }
    }
}

/// Makes the pair; `None` when one of its names is taken.
fn make(socket: &mut Socket, attachment: &Attachment) -> Result<Option<Pair>, AttachError> {
    let here = VethEnd {
        name: &attachment.host_link,
        mac: Some(names::HOST_MAC),
        mtu: attachment.mtu,
    };
    let there = VethEnd {
        name: &attachment.container_link,
        mac: attachment.mac,
        mtu: attachment.mtu,
    };
    let pair = link::veth(&here, &there, attachment.namespace.as_fd());
    let mut batch = Batch::new();
    batch.push(
        "the pair of links could not be made",
        pair,
        NLM_F_CREATE | NLM_F_EXCL,
    );
    match run(socket, &mut batch)?.pop() {
        Some((_, error)) if error.refusal == Refusal::Exists => return Ok(None),
        Some((step, source)) => {
            // Invalid may be the descriptor: entering it tells.
            within::<_, AttachError>(attachment.namespace.as_fd(), || Ok(()))?;
            return Err(AttachError::Kernel { step, source });
        }
        None => {}
    }
    let host = lookup(socket, &attachment.host_link)?;
    host.and_then(|host| {
        Some(Pair {
            inner: host.peer?,
            host,
            end: None,
            is_new: true,
        })
    })
    .map(Some)
    .ok_or_else(|| AttachError::Kernel {
        step: "the node's end is gone",
        source: KernelError::new(19, None),
    })
}

/// Finds the pair that is there already. One of an earlier sandbox of the same pod is removed; what is no pod's is an
/// error; and when the node's name is free, it is the container's that is taken.
fn adopt(socket: &mut Socket, attachment: &Attachment) -> Result<Option<Pair>, AttachError> {
    let Some(found) = lookup(socket, &attachment.host_link)? else {
        return Err(AttachError::Exists {
            link: attachment.container_link.clone(),
        });
    };
    let foreign = |found: KernelLink, what: String| AttachError::Foreign {
        link: found.name,
        found: what,
    };
    if found.kind != "veth" {
        let kind = found.kind.clone();
        return Err(foreign(found, kind));
    }
    match found.alias.clone() {
        Some(alias) if alias == attachment.alias => {
            let peer = found.peer;
            let end = within(attachment.namespace.as_fd(), || {
                container::end_of(attachment)
            })?;
            let end = end.filter(|end| Some(end.index) == peer && end.peer == Some(found.index));
            if let Some(end) = end {
                return Ok(Some(Pair {
                    host: found,
                    inner: end.index,
                    end: Some(end),
                    is_new: false,
                }));
            }
        }
        // Ours are `containerid/ifname`, or have none: their maker died before it named them.
        Some(alias) if !alias.contains('/') => {
            return Err(foreign(found, format!("veth of {alias}")));
        }
        _ => {}
    }
    remove(socket, &found)?;
    Ok(None)
}
