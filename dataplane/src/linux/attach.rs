use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};

use super::netns::{EnterError, is_own, within};
use crate::netlink::link::{KernelLink, Settings, VethEnd};
use crate::netlink::{Batch, Socket, link};
use crate::state::LinkName;
use crate::{
    Attach, AttachError, Attached, Attachment, Detachment, Difference, KernelError, Refusal, names,
};

mod container;
mod host;

/// The node's kernel, in the network namespace of the calling thread.
///
/// The other end of each link is made straight in the container's namespace, which is entered on a thread of its own
/// for the settings there. A process that has no `CAP_NET_ADMIN` is told so by the first call.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinuxAttach {
    _private: (),
}

impl LinuxAttach {
    /// The kernel of the calling thread's network namespace, looked up anew by each call.
    #[must_use]
    pub const fn new() -> Self {
        Self { _private: () }
    }
}

impl Attach for LinuxAttach {
    fn attach(&self, attachment: &Attachment) -> Result<Attached, AttachError> {
        if attachment.alias.len() > 255 {
            return Err(AttachError::Alias(attachment.alias.clone()));
        }
        let namespace = attachment.namespace.as_fd();
        refuse_own(namespace)?;
        let mut socket = open()?;
        let created = make_pair(&mut socket, attachment)?;
        let wired = host::find(&mut socket, &attachment.host_link).and_then(|link| {
            host::configure(&mut socket, attachment, &link)?;
            let container = within(namespace, || container::configure(attachment, &link))?;
            host::await_active(&mut socket, &attachment.host_link)?;
            Ok(container)
        });
        match wired {
            Ok(container_mac) => Ok(Attached::new(
                names::HOST_MAC,
                container_mac,
                attachment.mtu,
            )),
            Err(error) => {
                if created {
                    // The first error is the one to report; a pair that stays is found by its name and replaced.
                    let _ = self.detach(&Detachment {
                        host_link: attachment.host_link.clone(),
                        alias: attachment.alias.clone(),
                    });
                }
                Err(error)
            }
        }
    }

    fn detach(&self, detachment: &Detachment) -> Result<bool, AttachError> {
        let mut socket = open()?;
        let Some(found) = lookup(&mut socket, &detachment.host_link)? else {
            return Ok(false);
        };
        // A pair whose maker died before it named it has no alias: it is nobody's.
        let ours = found
            .alias
            .as_deref()
            .is_none_or(|alias| alias == detachment.alias);
        if found.kind != "veth" || !ours {
            return Ok(false);
        }
        remove(&mut socket, &found)
    }

    fn check(&self, attachment: &Attachment) -> Result<Vec<Difference>, AttachError> {
        let namespace = attachment.namespace.as_fd();
        refuse_own(namespace)?;
        let mut socket = open()?;
        let Some(found) = lookup(&mut socket, &attachment.host_link)? else {
            return Ok(vec![difference(&attachment.host_link, "there", "missing")]);
        };
        let mut differences = host::compare(&mut socket, attachment, &found)?;
        differences.extend(within(namespace, || {
            container::compare(attachment, &found)
        })?);
        Ok(differences)
    }
}

/// Makes the pair, unless it is there and ours; true if it was made.
fn make_pair(socket: &mut Socket, attachment: &Attachment) -> Result<bool, AttachError> {
    if let Some(found) = lookup(socket, &attachment.host_link)? {
        if found.kind != "veth" {
            return Err(AttachError::Foreign {
                link: found.name,
                found: found.kind,
            });
        }
        if found.alias.as_deref() == Some(attachment.alias.as_str()) {
            let peer = found.peer;
            let theirs = within(attachment.namespace.as_fd(), || {
                container::end_of(attachment)
            })?;
            if theirs.is_some_and(|end| Some(end.index) == peer && end.peer == Some(found.index)) {
                return Ok(false);
            }
        }
        remove(socket, &found)?;
    }
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
    let alias = Settings {
        alias: Some(&attachment.alias),
        ..Settings::default()
    };
    let mut batch = Batch::new();
    batch.push(
        "the pair of links could not be made",
        pair,
        NLM_F_CREATE | NLM_F_EXCL,
    );
    let named = link::set_named(&attachment.host_link, &alias);
    batch.push("the link could not be given its alias", named, 0);
    let refused = run(socket, &mut batch)?;
    match refused.into_iter().next() {
        None => Ok(true),
        // The name on the node was free a moment ago, so it is the other name that is taken.
        Some((_, error)) if error.refusal == Refusal::Exists => Err(AttachError::Exists {
            link: attachment.container_link.clone(),
        }),
        Some((step, source)) => {
            // Invalid may be the descriptor: entering it tells.
            within::<_, AttachError>(attachment.namespace.as_fd(), || Ok(()))?;
            Err(AttachError::Kernel { step, source })
        }
    }
}

fn remove(socket: &mut Socket, found: &KernelLink) -> Result<bool, AttachError> {
    match socket.execute(link::delete(found.index), 0) {
        Ok(()) => Ok(true),
        Err(error) if error.refusal == Refusal::NoLink => Ok(false),
        Err(source) => Err(AttachError::Kernel {
            step: "the link could not be removed",
            source,
        }),
    }
}

fn open() -> Result<Socket, AttachError> {
    Socket::open().map_err(|source| AttachError::Kernel {
        step: "a netlink socket could not be opened",
        source,
    })
}

/// The link of a name, if there is one.
fn lookup(socket: &mut Socket, name: &LinkName) -> Result<Option<KernelLink>, AttachError> {
    use netlink_packet_route::RouteNetlinkMessage::NewLink;
    match socket.get(link::get(name)) {
        Ok(NewLink(message)) => Ok(link::parse(&message)),
        Ok(_) => Ok(None),
        Err(error) if error.refusal == Refusal::NoLink => Ok(None),
        Err(source) => Err(AttachError::Kernel {
            step: "a link could not be looked up",
            source,
        }),
    }
}

type Step = &'static str;

fn run(
    socket: &mut Socket,
    batch: &mut Batch<Step>,
) -> Result<Vec<(Step, KernelError)>, AttachError> {
    socket.run(batch).map_err(|source| AttachError::Kernel {
        step: "the kernel's answers could not be read",
        source,
    })
}

/// Runs a batch in which nothing may be refused.
fn run_all(socket: &mut Socket, batch: &mut Batch<Step>) -> Result<(), AttachError> {
    match run(socket, batch)?.into_iter().next() {
        None => Ok(()),
        Some((step, source)) => Err(AttachError::Kernel { step, source }),
    }
}

/// Refuses the calling thread's own namespace: a container that shares the host's network has nothing to attach.
fn refuse_own(namespace: BorrowedFd<'_>) -> Result<(), AttachError> {
    let own = is_own(namespace).map_err(|source| AttachError::Kernel {
        step: "the network namespace could not be looked at",
        source,
    })?;
    if own {
        let why = "it is the node's own";
        return Err(AttachError::Namespace { why });
    }
    Ok(())
}

fn difference(
    what: impl std::fmt::Display,
    expected: impl ToString,
    found: impl ToString,
) -> Difference {
    Difference {
        what: what.to_string(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

impl From<super::sysctl::SysctlError> for AttachError {
    fn from(error: super::sysctl::SysctlError) -> Self {
        Self::Sysctl {
            path: error.path,
            source: error.source,
        }
    }
}

impl From<EnterError> for AttachError {
    fn from(error: EnterError) -> Self {
        let (step, source) = match error {
            EnterError::NoNamespace => {
                return Self::Namespace {
                    why: "the descriptor is of something else",
                };
            }
            EnterError::Refused(source) => (
                "the container's network namespace could not be entered",
                source,
            ),
            EnterError::NoThread(source) => ("a thread could not be started", source),
        };
        Self::Kernel { step, source }
    }
}
