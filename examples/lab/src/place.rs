//! A place: a network namespace with a thread that lives in it, and for nodes a file system view of its own.
//!
//! What has to happen in a namespace is sent to its thread: sockets opened there stay in the namespace and are used from
//! anywhere, programs started there inherit it.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;

use crate::sandbox::{self, BIN, NETNS, ROOT, STORE};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace that is held open until [`Place::remove`].
#[derive(Debug)]
pub struct Place {
    name: String,
    network: OwnedFd,
    mounts: Option<OwnedFd>,
    jobs: Mutex<Option<Sender<Job>>>,
}

impl Place {
    /// A network namespace, mounted at `/run/netns/NAME`.
    ///
    /// # Errors
    /// When the kernel refuses the namespace or the mount.
    pub async fn network(name: &str) -> Result<Arc<Self>> {
        Self::start(name, false).await
    }

    /// A network namespace and a mount namespace with its own `/run`, `/etc/ocicat` and `/var/lib`.
    ///
    /// # Errors
    /// When the kernel refuses a namespace or a mount.
    pub async fn machine(name: &str) -> Result<Arc<Self>> {
        Self::start(name, true).await
    }

    /// The lab's own network namespace, which the calling process lives in.
    ///
    /// # Errors
    /// When its mount point cannot be made.
    pub async fn own(name: &str) -> Result<Arc<Self>> {
        fs::create_dir_all(machine_folder(name))?;
        Self::begin(name, own).await
    }

    async fn start(name: &str, machine: bool) -> Result<Arc<Self>> {
        Self::begin(name, move |name| enter(name, machine)).await
    }

    async fn begin(
        name: &str,
        enter: impl FnOnce(&str) -> Result<(OwnedFd, Option<OwnedFd>)> + Send + 'static,
    ) -> Result<Arc<Self>> {
        let (jobs, receiver) = channel::<Job>();
        let (ready, opened) = tokio::sync::oneshot::channel();
        let owned = name.to_owned();
        std::thread::Builder::new()
            .name(format!("in {name}"))
            .stack_size(256 << 10)
            .spawn(move || {
                let _ = ready.send(enter(&owned));
                work(&receiver);
            })?;
        let (network, mounts) = opened
            .await?
            .with_context(|| format!("making the namespace {name}"))?;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            network,
            mounts,
            jobs: Mutex::new(Some(jobs)),
        }))
    }

    /// The place's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that names the network namespace, in every mount namespace of the lab.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS).join(&self.name)
    }

    /// The network namespace as a descriptor number, for netlink.
    #[must_use]
    pub fn raw_network(&self) -> RawFd {
        self.network.as_raw_fd()
    }

    /// The namespaces to enter, network first, for a program started from outside.
    #[must_use]
    pub fn namespaces(&self) -> (RawFd, Option<RawFd>) {
        (
            self.network.as_raw_fd(),
            self.mounts.as_ref().map(AsRawFd::as_raw_fd),
        )
    }

    /// Runs `job` on the thread that lives in this place, after those that were sent before.
    ///
    /// # Errors
    /// When the place has been removed, or the job panicked.
    ///
    /// # Cancel safety
    /// A job that was sent is done, whether its result is awaited or not.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (done, result) = tokio::sync::oneshot::channel();
        let job: Job = Box::new(move || {
            let _ = done.send(job());
        });
        let gone = || anyhow!("{} has been removed", self.name);
        {
            let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            jobs.as_ref()
                .ok_or_else(gone)?
                .send(job)
                .map_err(|_| gone())?;
        }
        result.await.map_err(|_| gone())
    }

    /// Runs `job` on a thread of its own in this place and waits for it: for jobs that take long, such as programs.
    ///
    /// # Errors
    /// When the place cannot be entered, or the job panicked.
    pub fn visit<T: Send>(&self, job: impl FnOnce() -> T + Send) -> Result<T> {
        let visitor = || {
            setns(&self.network, CloneFlags::CLONE_NEWNET)?;
            if let Some(mounts) = &self.mounts {
                unshare(CloneFlags::CLONE_FS)?;
                setns(mounts, CloneFlags::CLONE_NEWNS)?;
            }
            Ok::<T, nix::Error>(job())
        };
        let visited = std::thread::scope(|scope| scope.spawn(visitor).join());
        let visited = visited.map_err(|_| anyhow!("a job in {} panicked", self.name))?;
        visited.with_context(|| format!("entering {}", self.name))
    }

    /// Ends the thread and takes the name away; the kernel removes the namespace when the last socket in it is closed.
    ///
    /// # Errors
    /// When the mount point cannot be removed.
    pub fn remove(&self) -> Result<()> {
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let path = self.path();
        sandbox::unmount(&path).with_context(|| format!("unmounting {}", path.display()))?;
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }
}

/// The folder that a node or router sees as `/run`, from outside of it.
#[must_use]
pub fn run_folder(machine: &str) -> PathBuf {
    machine_folder(machine).join("run")
}

/// The folder that a node or router sees as `/etc/ocicat`, from outside of it.
#[must_use]
pub fn etc_folder(machine: &str) -> PathBuf {
    machine_folder(machine).join("etc/ocicat")
}

/// The folder of a node's or router's own files.
#[must_use]
pub fn machine_folder(machine: &str) -> PathBuf {
    Path::new(ROOT).join("nodes").join(machine)
}

fn work(jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        // A panic in one job must not take the place away from the others.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    }
}

fn enter(name: &str, machine: bool) -> Result<(OwnedFd, Option<OwnedFd>)> {
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
    let (network, _) = own(name)?;
    if !machine {
        return Ok((network, None));
    }
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace")?;
    own_files(name)?;
    Ok((network, Some(namespace("mnt")?)))
}

/// Gives the calling thread's network namespace a name.
fn own(name: &str) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let path = Path::new(NETNS).join(name);
    fs::write(&path, "").with_context(|| format!("creating {}", path.display()))?;
    bind(Path::new("/proc/thread-self/ns/net"), &path)?;
    Ok((namespace("net")?, None))
}

/// A namespace of the calling thread.
fn namespace(kind: &str) -> Result<OwnedFd> {
    let path = format!("/proc/thread-self/ns/{kind}");
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    open(path.as_str(), flags, Mode::empty()).context(path)
}

/// Gives the calling thread a file system in which the machine's own folders lie where a node expects them.
fn own_files(name: &str) -> Result<()> {
    let base = machine_folder(name);
    let (run, etc, lib) = (base.join("run"), base.join("etc"), base.join("lib"));
    let lab = run.join("ocicat-lab");
    for folder in [
        run.join("ocicat"),
        run.join("netns"),
        lab.join("bin"),
        lab.join("store"),
        lab.join("etc"),
        etc.join("ocicat"),
        lib.join("ocicat"),
    ] {
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    bind(Path::new(NETNS), &run.join("netns"))?;
    bind(Path::new(BIN), &lab.join("bin"))?;
    bind(Path::new(STORE), &lab.join("store"))?;
    bind(Path::new("/etc"), &lab.join("etc"))?;
    for entry in fs::read_dir("/etc")? {
        let file = entry?.file_name();
        if file != "ocicat" {
            let target = Path::new("/run/ocicat-lab/etc").join(&file);
            match symlink(target, etc.join(&file)) {
                // A machine of this name was here before.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                linked => linked?,
            }
        }
    }
    bind(&etc, Path::new("/etc"))?;
    bind(&lib, Path::new("/var/lib"))?;
    bind(&run, Path::new("/run"))?;
    // Only for people who look around; refused where /sys is masked.
    let _ = sandbox::fresh_sysfs();
    Ok(())
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("showing {} at {}", from.display(), to.display()))
}
