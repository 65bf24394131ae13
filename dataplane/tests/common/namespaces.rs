//! Network namespaces without a name, which go with their threads and descriptors. They need root, or `unshare -Urnm`.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};

/// Runs a test on a thread in a network namespace of its own; a panic there is the caller's.
pub(crate) fn alone<T: Send>(thread: &str, test: impl FnOnce() -> T + Send) -> T {
    let run = || {
        enter_new();
        test()
    };
    let thread = std::thread::Builder::new().name(thread.to_owned());
    std::thread::scope(|scope| thread.spawn_scoped(scope, run).unwrap().join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A further network namespace: it lives as long as the descriptor.
pub(crate) fn namespace() -> Arc<OwnedFd> {
    let thread = std::thread::spawn(|| {
        enter_new();
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    Arc::new(OwnedFd::from(thread.join().unwrap()))
}

/// Does something in another network namespace.
pub(crate) fn inside<T: Send>(namespace: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        scope.spawn(run).join()
    })
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn enter_new() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap_or_else(|errno| {
        panic!("a network namespace cannot be made ({errno}): run as root or under `unshare -Urnm`")
    });
    // Links that the tests make are there at once, not after a second of looking for duplicates.
    std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
}
