//! Network namespaces on this host, as containers have them.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::failure::Failure;

/// Where ip-netns(8) has them.
const FOLDER: &str = "/run/netns";

/// A network namespace with a name; gone when this is dropped.
#[derive(Debug)]
pub(super) struct Space {
    path: PathBuf,
    file: File,
}

impl Space {
    /// Makes one, after removing what a test that was killed has left of it.
    ///
    /// # Errors
    /// When the kernel refuses; root is needed.
    pub(super) fn new(name: &str) -> Result<Self, Failure> {
        let path = Path::new(FOLDER).join(name);
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::Failed(format!(
                "network namespace {name}: {error} (root is needed)"
            ))
        };
        fs::create_dir_all(FOLDER).map_err(|error| wrong(&error))?;
        clear(&path);
        File::create(&path).map_err(|error| wrong(&error))?;
        let made = std::thread::scope(|scope| scope.spawn(|| make(&path)).join());
        let made = made.map_err(|_| wrong(&"the thread that makes it panicked"))?;
        let file = made
            .map_err(std::io::Error::from)
            .and_then(|()| File::open(&path));
        match file {
            Ok(file) => Ok(Self { path, file }),
            Err(error) => {
                clear(&path);
                Err(wrong(&error))
            }
        }
    }

    /// Its file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Does something in it, on a thread of its own.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub(super) fn within<T: Send>(&self, job: impl FnOnce() -> T + Send) -> Result<T, Failure> {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            Ok::<T, nix::Error>(job())
        };
        let path = self.path.display();
        std::thread::scope(|scope| scope.spawn(inside).join())
            .map_err(|_| Failure::Failed(format!("{path}: a thread panicked")))?
            .map_err(|error| Failure::failed(&path.to_string(), error))
    }

    /// A listener in it.
    ///
    /// # Errors
    /// When the port is taken.
    pub(super) fn listen(&self, port: u16) -> Result<TcpListener, Failure> {
        let listener = self.within(|| super::serve::listen(port))?;
        listener.map_err(|error| Failure::failed(&format!("port {port}"), error))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        clear(&self.path);
    }
}

/// Removes what is left of one by its name.
pub(super) fn remove(name: &str) {
    clear(&Path::new(FOLDER).join(name));
}

fn clear(path: &Path) {
    // Neither has to be there.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(path);
}

/// Gives the calling thread a network namespace, and that a name.
fn make(path: &Path) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let own = Some("/proc/thread-self/ns/net");
    mount(own, path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}
