//! Network namespaces without names: they go when their last descriptor is closed.

use std::fs::File;

/// A new network namespace. Panics with the reason where none can be made.
pub(crate) fn network() -> File {
    let thread = std::thread::spawn(|| {
        // Only this thread moves, and it ends at once.
        let unshared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
        unshared.expect("making a network namespace, which needs root");
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    thread.join().unwrap()
}
