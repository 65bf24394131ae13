//! How the thread is woken: by its own process, and by commits of others.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Wakes the thread from within the process.
pub(super) struct Waker(Arc<EventFd>);

impl Waker {
    pub(super) fn wake(&self) {
        // Fails only when 2^64 wakes are pending; then it is awake.
        let _ = self.0.write(1);
    }
}

/// What the thread waits on.
pub(super) struct Signal {
    own: Arc<EventFd>,
    /// Commits of others; none where the kernel gives no more of these, and the thread looks often instead.
    others: Option<Inotify>,
    notify: File,
}

/// How long a commit can stay unseen whose writer was killed before it could tell.
const SWEEP: Duration = Duration::from_secs(1);
/// How often the thread looks for commits of others when it cannot be told.
const LOOK: Duration = Duration::from_millis(3);

pub(super) fn pair(database: &Path) -> io::Result<(Waker, Signal)> {
    let own = Arc::new(EventFd::from_flags(
        EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
    )?);
    let mut path = database.as_os_str().to_owned();
    path.push("-notify");
    let notify = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)?;
    let others = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .and_then(|inotify| {
            inotify.add_watch(path.as_os_str(), AddWatchFlags::IN_MODIFY)?;
            Ok(inotify)
        })
        .ok();
    Ok((
        Waker(Arc::clone(&own)),
        Signal {
            own,
            others,
            notify,
        },
    ))
}

impl Signal {
    /// Tells all processes that there is something new. The caller looks itself: it is not woken by its own word, nor
    /// by what others said until now, which it will see as well.
    pub(super) fn announce(&self) {
        // Where this fails, the others find out when they look.
        let _ = self.notify.write_at(b".", 0);
        self.forget();
    }

    /// Takes what others have said so far for heard.
    fn forget(&self) {
        if let Some(others) = &self.others {
            while others.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
    }

    /// Waits for a request, and with `commits` for commits of others, too.
    pub(super) fn wait(&self, commits: bool) {
        let mut files = vec![PollFd::new(self.own.as_fd(), PollFlags::POLLIN)];
        if let (Some(others), true) = (&self.others, commits) {
            files.push(PollFd::new(others.as_fd(), PollFlags::POLLIN));
        }
        let longest = if self.others.is_some() { SWEEP } else { LOOK };
        let timeout = match u16::try_from(longest.as_millis()) {
            Ok(milliseconds) if commits => PollTimeout::from(milliseconds),
            _ => PollTimeout::NONE,
        };
        // An interrupted wait is a short one.
        let _ = poll(&mut files, timeout);
        let _ = self.own.read();
        self.forget();
    }
}
