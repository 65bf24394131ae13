use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::netns::{EnterError, is_own, within};
use super::sysctl::{Sysctl, SysctlError};
use crate::netlink::link::KernelLink;
use crate::netlink::{Batch, Socket, link};
use crate::state::LinkName;
use crate::{
    Attach, AttachError, Attached, Attachment, Detachment, Difference, KernelError, Refusal, names,
};

mod container;
mod host;
mod pair;

/// The node's kernel, in the network namespace of the calling thread.
///
/// The other end of each link is made straight in the container's namespace, which the calling thread enters for the
/// settings there and for a socket, and leaves before the call returns; where it could not come back, another thread does. A process that has no `CAP_NET_ADMIN` is told so by the first call.
#[derive(Clone, Debug, Default)]
pub struct LinuxAttach {
    sysctl: Option<PathBuf>,
}

impl LinuxAttach {
    /// The kernel of the calling thread's network namespace, looked up anew by each call.
    #[must_use]
    pub const fn new() -> Self {
        Self { sysctl: None }
    }

    /// Where the settings of network namespaces are found as files, instead of `/proc/sys/net`: that is read-only in a
    /// container without all privileges. The node's own, mounted at another place, will do, since its content is that of
    /// the namespace of whoever looks.
    #[must_use]
    pub fn sysctl(mut self, folder: impl Into<PathBuf>) -> Self {
        self.sysctl = Some(folder.into());
        self
    }
}

impl LinuxAttach {
    /// As [`detach`](Attach::detach), and calls `gone` as soon as nobody sees the link any more: its name is free, its
    /// addresses and routes are gone. When there is nothing to remove, it is called at once; on an error, never.
    ///
    /// The kernel answers a removal only after a grace period of its own, mostly 10 to 40 ms; the link is gone after less
    /// than one. A long-lived process answers its own caller from `gone`, and gives the thread that this call blocks the
    /// time that it takes. A process that ends right away gains nothing: its end waits for that thread.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn detach_telling(
        &self,
        detachment: &Detachment,
        gone: impl FnOnce() + Send,
    ) -> Result<bool, AttachError> {
        let mut socket = open()?;
        let Some(found) = removable(&mut socket, detachment)? else {
            gone();
            return Ok(false);
        };
        let mut watch = open()?;
        let refused = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = || {
                if until_gone(&mut watch, found.index, &refused) {
                    gone();
                }
            };
            std::thread::Builder::new()
                .name("detach".to_owned())
                .spawn_scoped(scope, watcher)
                .map_err(|error| EnterError::NoThread(error.into()))?;
            let removed = remove(&mut socket, &found);
            refused.store(removed.is_err(), Ordering::Release);
            removed
        })
    }
}

/// The link to remove, if it is there and the container's.
fn removable(
    socket: &mut Socket,
    detachment: &Detachment,
) -> Result<Option<KernelLink>, AttachError> {
    const TRIES: usize = 20;
    const STEP: std::time::Duration = std::time::Duration::from_millis(5);
    let mut found = None;
    for _ in 0..TRIES {
        found = lookup(socket, &detachment.host_link)?.filter(|found| found.kind == "veth");
        // The kernel takes no alias with a new link: a pair without one may be a new container's that is named in a moment.
        match &found {
            Some(link) if link.alias.is_none() => std::thread::sleep(STEP),
            _ => break,
        }
    }
    // A pair whose maker died before it named it has no alias: it is nobody's.
    Ok(found.filter(|found| {
        let alias = found.alias.as_deref();
        alias.is_none_or(|alias| alias == detachment.alias)
    }))
}

/// Looks until a link is gone; false when its removal was refused, or when one cannot look.
fn until_gone(socket: &mut Socket, index: u32, refused: &AtomicBool) -> bool {
    const STEP: std::time::Duration = std::time::Duration::from_micros(200);
    loop {
        match socket.get(link::get_index(index)) {
            Err(error) => return error.refusal == Refusal::NoLink,
            Ok(_) if refused.load(Ordering::Acquire) => return false,
            Ok(_) => std::thread::sleep(STEP),
        }
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
        let sysctl = Sysctl::new(self.sysctl.as_deref());
        let mut inside = within(namespace, || container::enter(sysctl, attachment))?;
        let pair = pair::ensure(&mut socket, attachment)?;
        let wired = host::configure(&mut socket, sysctl, attachment, &pair).and_then(|()| {
            let mac = container::configure(&mut inside, sysctl, attachment, &pair)?;
            host::await_active(&mut socket, &attachment.host_link)?;
            Ok(mac)
        });
        match wired {
            Ok(container_mac) => Ok(Attached::new(
                names::HOST_MAC,
                container_mac,
                attachment.mtu,
            )),
            Err(error) => {
                if pair.is_new {
                    // The first error is the one to report; a pair that stays is found by its name and replaced.
                    let _ = remove(&mut socket, &pair.host);
                }
                Err(error)
            }
        }
    }

    fn detach(&self, detachment: &Detachment) -> Result<bool, AttachError> {
        let mut socket = open()?;
        match removable(&mut socket, detachment)? {
            Some(found) => remove(&mut socket, &found),
            None => Ok(false),
        }
    }

    fn detach_telling(
        &self,
        detachment: &Detachment,
        gone: Box<dyn FnOnce() + Send>,
    ) -> Result<bool, AttachError> {
        Self::detach_telling(self, detachment, gone)
    }

    fn check(&self, attachment: &Attachment) -> Result<Vec<Difference>, AttachError> {
        let namespace = attachment.namespace.as_fd();
        refuse_own(namespace)?;
        let mut socket = open()?;
        let Some(found) = lookup(&mut socket, &attachment.host_link)? else {
            return Ok(vec![difference(&attachment.host_link, "there", "missing")]);
        };
        let sysctl = Sysctl::new(self.sysctl.as_deref());
        let mut differences = host::compare(&mut socket, sysctl, attachment, &found)?;
        differences.extend(within(namespace, || {
            container::compare(sysctl, attachment, &found)
        })?);
        Ok(differences)
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

impl From<SysctlError> for AttachError {
    fn from(error: SysctlError) -> Self {
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
