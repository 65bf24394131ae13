//! The terminal's end of the commands that reach a running lab.

use std::io::Write;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};

use crate::channel::{Channel, Reply, Request};
use crate::probe::End;
use crate::sandbox;

/// The exit code for a lab that went away while it was asked: unavailable.
pub const GONE: u8 = 6;
/// How long a lab may take to be gone after it said that it ends.
const END: Duration = Duration::from_secs(10);

/// Sends a request, shows what is answered, ends with the code that the lab says.
///
/// # Errors
/// When there is no such lab.
pub fn ask(name: Option<&str>, request: &Request) -> Result<u8> {
    let mut channel = Channel::connect(name)?;
    channel.send(request)?;
    let mut stdout = std::io::stdout().lock();
    loop {
        match channel.receive::<Reply>() {
            Ok(Some(Reply::Line(line))) => writeln!(stdout, "{line}")?,
            Ok(Some(Reply::Error(line))) => eprintln!("{line}"),
            Ok(Some(Reply::Done(code))) => return Ok(code),
            Ok(Some(Reply::Namespaces { .. })) => {}
            Ok(None) | Err(_) => return Ok(GONE),
        }
    }
}

/// Ends a lab and waits until it is gone.
///
/// # Errors
/// When there is no such lab, or it does not end.
pub fn down(name: Option<&str>) -> Result<ExitCode> {
    let mut channel = Channel::connect(name)?;
    channel.send(&Request::Down)?;
    while let Ok(Some(_)) = channel.receive::<Reply>() {}
    let until = Instant::now() + END;
    while Channel::connect(name).is_ok() {
        if Instant::now() > until {
            bail!("the lab does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a program in the namespaces of an end, at this terminal.
///
/// # Errors
/// When there is no such lab or end, or the program cannot be started.
pub fn exec(name: Option<&str>, end: End, program: &[String]) -> Result<ExitCode> {
    let mut channel = Channel::connect(name)?;
    channel.send(&Request::Enter { end: end.clone() })?;
    let (kinds, datastore) = match channel.receive::<Reply>()? {
        Some(Reply::Namespaces { kinds, datastore }) => (kinds, datastore),
        Some(Reply::Error(error)) => bail!("{error}"),
        _ => bail!("the lab went away"),
    };
    channel.send(&Reply::Done(0))?;
    let namespaces = channel.receive_descriptors()?;
    for (kind, namespace) in kinds.iter().zip(&namespaces) {
        setns(namespace, flag(kind)?)
            .with_context(|| format!("entering the {kind} namespace of {end}"))?;
    }
    let (first, arguments) = program
        .split_first()
        .context("there is no program to run")?;
    let mut command = Command::new(first);
    command.args(arguments).current_dir("/");
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{}:{path}", sandbox::BIN))
        .env("OCICAT_DATASTORE", datastore);
    if let End::Node(node) = &end {
        command.env("NODENAME", node);
    }
    // Ctrl-C is for the program; its mask is emptied when it starts.
    let interrupts: SigSet = [Signal::SIGINT, Signal::SIGQUIT].into_iter().collect();
    interrupts.thread_block()?;
    let status = command
        .status()
        .with_context(|| format!("running {first:?} in {end}"))?;
    Ok(sandbox::exit_code(status))
}

fn flag(kind: &str) -> Result<CloneFlags> {
    Ok(match kind {
        "user" => CloneFlags::CLONE_NEWUSER,
        "pid" => CloneFlags::CLONE_NEWPID,
        "mnt" => CloneFlags::CLONE_NEWNS,
        "net" => CloneFlags::CLONE_NEWNET,
        other => bail!("the lab sent a namespace of kind {other}"),
    })
}
