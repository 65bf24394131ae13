//! Network namespaces without names: they go when the test does.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};

/// A new network namespace, for a container.
pub(crate) struct Namespace {
    file: File,
}

impl Namespace {
    /// Panics with the reason where none can be made.
    pub(crate) fn new() -> Self {
        let thread = std::thread::spawn(|| {
            // Only this thread moves, and it ends at once.
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("making a network namespace, which needs root");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self {
            file: thread.join().unwrap(),
        }
    }

    /// A path that other processes can open while this value lives.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }
}

/// Runs a test in a network namespace of its own, as the node's; programs that it starts are in there too.
pub(crate) fn in_own_namespace(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("making a network namespace, which needs root");
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
