//! The pair of links: found, or made.

use std::os::fd::AsFd as _;
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};

use super::{container, lookup, remove, run};
use crate::linux::netns::within;
use crate::netlink::link::{KernelLink, VethEnd};
use crate::netlink::{Batch, Socket, link};
use crate::state::LinkName;
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

/// How often a name that nobody seems to have and that is taken all the same is tried again, and how far apart: a pair that
/// somebody else removes is gone for those who look before its names are free.
const TRIES: usize = 10;
const STEP: Duration = Duration::from_millis(5);

/// Makes the pair, unless it is there and ours.
///
/// It is made first, and looked for only when its names are taken: nearly always they are not.
pub(super) fn ensure(socket: &mut Socket, attachment: &Attachment) -> Result<Pair, AttachError> {
    let link = &attachment.container_link;
    retried(link, |look| {
        if look {
            adopt(socket, attachment)
        } else {
            make(socket, attachment)
        }
    })
}

/// Makes (`false`), and when that finds a name taken looks (`true`), in turns.
fn retried<T>(
    link: &LinkName,
    mut step: impl FnMut(bool) -> Result<Option<T>, AttachError>,
) -> Result<T, AttachError> {
    for _ in 0..TRIES {
        if let Some(made) = step(false)? {
            return Ok(made);
        }
        match step(true) {
            Ok(Some(found)) => return Ok(found),
            // What was in the way is removed.
            Ok(None) => {}
            Err(AttachError::Exists { .. }) => std::thread::sleep(STEP),
            Err(error) => return Err(error),
        }
    }
    Err(AttachError::Exists { link: link.clone() })
}

/// Makes the pair; `None` when one of its names is taken.
fn make(socket: &mut Socket, attachment: &Attachment) -> Result<Option<Pair>, AttachError> {
    let here = VethEnd {
        name: &attachment.host_link,
        mac: Some(names::HOST_MAC),
        mtu: attachment.mtu,
        queues: Some(attachment.queues.max(1)),
    };
    let there = VethEnd {
        name: &attachment.container_link,
        mac: attachment.mac,
        mtu: attachment.mtu,
        queues: Some(attachment.queues.max(1)),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says to making and looking in turns, and what comes of it.
    fn outcome(answers: &[Result<Option<u8>, AttachError>]) -> (Result<u8, AttachError>, usize) {
        let mut asked = 0;
        let result = retried(&LinkName::known("eth0".into()), |look| {
            assert_eq!(look, asked % 2 == 1);
            let answer = &answers[asked.min(answers.len() - 2 + asked % 2)];
            asked += 1;
            answer.clone()
        });
        (result, asked)
    }

    #[test]
    fn a_name_that_is_just_becoming_free_is_tried_again_and_not_for_ever() {
        let exists = || {
            let link = LinkName::known("eth0".into());
            AttachError::Exists { link }
        };
        let taken = || Ok(None);
        assert_eq!(outcome(&[Ok(Some(1)), taken()]), (Ok(1), 1));
        // Somebody's pair that is ours to take over.
        assert_eq!(outcome(&[taken(), Ok(Some(2))]), (Ok(2), 2));
        // An old pair, removed by us.
        assert_eq!(
            outcome(&[taken(), taken(), Ok(Some(3)), taken()]),
            (Ok(3), 3)
        );
        // Taken, and yet not to be found, twice.
        let going = [
            taken(),
            Err(exists()),
            taken(),
            Err(exists()),
            Ok(Some(4)),
            taken(),
        ];
        assert_eq!(outcome(&going), (Ok(4), 5));
        // The container's own.
        assert_eq!(
            outcome(&[taken(), Err(exists())]),
            (Err(exists()), 2 * TRIES)
        );
        let foreign = || {
            let link = LinkName::known("cali1".into());
            let found = "bridge".into();
            AttachError::Foreign { link, found }
        };
        assert_eq!(outcome(&[taken(), Err(foreign())]), (Err(foreign()), 2));
    }
}
