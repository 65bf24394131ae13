//! The lab's own world: user, mount, network and process-id namespaces, entered before any thread starts.
//!
//! Three processes make a lab. The *outer* one stays in the caller's namespaces, for the terminal and the exit code. It
//! starts *init*, process 1 of a new process-id namespace, which mounts what the lab writes to (memory only), starts the
//! *inside* process and collects orphans. When the outer process ends, by whatever signal, the kernel kills init, and
//! with process 1 every process, mount, link and namespace of the lab: nothing has to be cleaned up.

mod refusal;

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Gid, Uid};

/// The hidden first argument that makes a process init.
pub const INIT: &str = "__init";
/// The hidden first argument that makes a process the inside one.
pub const INSIDE: &str = "__inside";

/// Everything that the lab writes is below this folder, which is memory.
pub const ROOT: &str = "/run/ocicat-lab";
/// The folder of the lab's programs, inside: a view of the folder that the lab's own executable lies in.
pub const BIN: &str = "/run/ocicat-lab/bin";
/// The folder of the datastore, shared by all nodes.
pub const STORE: &str = "/run/ocicat-lab/store";
/// Where network namespaces are mounted, as `ip netns` expects them.
pub const NETNS: &str = "/run/netns";

/// What is to be done, as the outer process wrote it.
pub const LAUNCH: &str = "/run/ocicat-lab/launch.json";

const OUTER: &str = "OCICAT_LAB_OUTER";
const LAUNCH_FD: &str = "OCICAT_LAB_LAUNCH_FD";
/// Set in the environment of the inside process when the lab has a user namespace of its own.
pub const NESTED: &str = "OCICAT_LAB_USER_NAMESPACE";

/// Builds the world and runs the inside process in it until it ends.
///
/// The inside process finds `launch` in [`LAUNCH`] and `stdin` as its standard input.
///
/// # Errors
/// When namespaces are refused, with the switch that refuses them and the line that helps.
pub fn enter(launch: &str, stdin: Stdio) -> Result<ExitStatus> {
    let memory = memfd_create("launch", MFdFlags::MFD_CLOEXEC)?;
    let mut memory = fs::File::from(memory);
    memory.write_all(launch.as_bytes())?;
    let nested = leave_namespaces()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ocicat-lab").arg(INIT).stdin(stdin);
    command
        .env(OUTER, std::process::id().to_string())
        .env(LAUNCH_FD, memory.as_raw_fd().to_string());
    if nested {
        command.env(NESTED, "1");
    }
    let doing = "starting a process in a new process-id namespace";
    let mut init: Child = command
        .spawn()
        .map_err(|error| refusal::explain(doing, &error))?;
    Ok(init.wait()?)
}

/// The exit code of a program that ended with `status`: 128 and the signal's number when a signal ended it.
#[must_use]
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(1));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Leaves the caller's process-id namespace, and its user namespace unless root can do without; true when it had to.
fn leave_namespaces() -> Result<bool> {
    if Uid::effective().is_root() && unshare(CloneFlags::CLONE_NEWPID).is_ok() {
        return Ok(false);
    }
    let (uid, gid) = (Uid::effective(), Gid::effective());
    unshare(CloneFlags::CLONE_NEWUSER)
        .map_err(|error| refusal::explain("creating a user namespace", &error.into()))?;
    let map = |file: &str, text: String| {
        let explained = |error| refusal::explain(&format!("writing /proc/self/{file}"), &error);
        fs::write(format!("/proc/self/{file}"), text).map_err(explained)
    };
    map("setgroups", "deny".to_owned())?;
    map("uid_map", format!("0 {uid} 1"))?;
    map("gid_map", format!("0 {gid} 1"))?;
    unshare(CloneFlags::CLONE_NEWPID)
        .map_err(|error| refusal::explain("creating a process-id namespace", &error.into()))?;
    Ok(true)
}

/// Process 1 of the lab: mounts, starts the inside process, collects orphans, ends with its code.
///
/// # Errors
/// When a namespace or mount is refused.
pub fn init() -> Result<ExitCode> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let launch = launch_of_parent()?;
    let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC;
    unshare(flags).map_err(|error| {
        refusal::explain("creating mount and network namespaces", &error.into())
    })?;
    mounts().map_err(|error| match error.downcast_ref::<Errno>() {
        Some(errno) => refusal::explain(&format!("{error:#}"), &io::Error::from(*errno)),
        None => error,
    })?;
    fs::write(LAUNCH, launch)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let inside = Command::new(Path::new(BIN).join(executable_name()?))
        .arg0("ocicat-lab")
        .arg(INSIDE)
        .env_remove(OUTER)
        .env_remove(LAUNCH_FD)
        .spawn()
        .context("starting the lab's inside process")?;
    collect(&inside)
}

fn executable_name() -> Result<std::ffi::OsString> {
    let executable = fs::read_link("/proc/self/exe")?;
    Ok(executable
        .file_name()
        .context("the lab's executable has no name")?
        .to_owned())
}

/// What the outer process says is to be done.
///
/// The signal for the parent's death is lost when the parent died before it was asked for: `/proc`, which is still the
/// caller's here, shows whether the parent lives, and what it holds open.
fn launch_of_parent() -> Result<Vec<u8>> {
    let (outer, launch) = (std::env::var(OUTER)?, std::env::var(LAUNCH_FD)?);
    let status = fs::read_to_string("/proc/self/status")?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    if parent.map(str::trim) != Some(outer.as_str()) {
        bail!("the process that started the lab is gone");
    }
    let path = format!("/proc/{outer}/fd/{launch}");
    fs::read(&path).with_context(|| format!("reading {path}"))
}

fn mounts() -> Result<()> {
    let none = None::<&str>;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("making mounts private")?;
    let executable = std::env::current_exe().context("finding the lab's own executable")?;
    let programs = executable
        .parent()
        .context("the lab's executable has no folder")?;
    // Opened now, because what follows may hide the folder.
    let programs = open(
        programs,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .with_context(|| format!("opening {}", programs.display()))?;
    tmpfs("/run")?;
    if !fs::symlink_metadata("/var/run").is_ok_and(|found| found.is_symlink())
        && Path::new("/var/run").is_dir()
    {
        mount(Some("/run"), "/var/run", none, bind, none).context("mounting /var/run")?;
    }
    for folder in [ROOT, BIN, STORE, NETNS] {
        fs::create_dir_all(folder).with_context(|| format!("creating {folder}"))?;
    }
    let programs = format!("/proc/self/fd/{}", programs.as_raw_fd());
    mount(Some(programs.as_str()), BIN, none, bind, none)
        .with_context(|| format!("mounting {BIN}"))?;
    // Shared, so that a namespace mounted in one mount namespace of the lab appears in all of them.
    mount(Some(NETNS), NETNS, none, bind, none).with_context(|| format!("mounting {NETNS}"))?;
    mount(none, NETNS, none, MsFlags::MS_SHARED, none)
        .with_context(|| format!("sharing {NETNS}"))?;
    mount(Some("proc"), "/proc", Some("proc"), safe(), none).context("mounting /proc")?;
    // Programs of the lab speak netlink; /sys is for people who look around.
    let _ = fresh_sysfs();
    Ok(())
}

/// A view of /sys that shows the calling thread's network namespace.
pub(crate) fn fresh_sysfs() -> nix::Result<()> {
    mount(Some("sysfs"), "/sys", Some("sysfs"), safe(), None::<&str>)
}

fn safe() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

fn tmpfs(folder: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("ocicat-lab"),
        folder,
        Some("tmpfs"),
        flags,
        Some("mode=0755"),
    )
    .with_context(|| format!("mounting memory on {folder}"))
}

/// Takes a mounted network namespace away.
pub(crate) fn unmount(path: &Path) -> nix::Result<()> {
    umount2(path, MntFlags::MNT_DETACH)
}

/// Waits for every child, adopted orphans included, until `inside` ends.
fn collect(inside: &Child) -> Result<ExitCode> {
    let inside = i32::try_from(inside.id())?;
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == inside => {
                return Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == inside => {
                return Ok(ExitCode::from(
                    u8::try_from(128 + signal as i32).unwrap_or(1),
                ));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
