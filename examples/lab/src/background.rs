//! Labs in the background: the process that keeps one, and the command that starts it.
//!
//! The *keeper* is the outer process of such a lab. It makes the lab's socket before it leaves the caller's namespaces, and
//! hands it to the inside process as standard input.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::channel::{self, Channel, Request};
use crate::launch::Launch;
use crate::{client, sandbox};

/// The hidden first argument that makes a process a keeper.
pub const KEEP: &str = "__keep";
/// What a keeper says when the lab's socket is there.
const LISTENING: &str = "listening";

/// Starts a lab in the background, shows what it says until it is up, and ends with its code.
///
/// # Errors
/// When a lab of that name runs already, or the keeper cannot be started.
pub fn start(name: &str, launch: &Launch) -> Result<ExitCode> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(KEEP)
        .arg(name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut keeper = command.spawn().context("starting the lab's keeper")?;
    let mut stdin = keeper
        .stdin
        .take()
        .context("the keeper has no standard input")?;
    std::io::Write::write_all(&mut stdin, launch.encode()?.as_bytes())?;
    drop(stdin);
    let mut stderr = keeper
        .stderr
        .take()
        .context("the keeper has no standard error")?;
    let complaints = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let mut said = BufReader::new(
        keeper
            .stdout
            .take()
            .context("the keeper has no standard output")?,
    );
    let mut line = String::new();
    said.read_line(&mut line)?;
    if line.trim_end() == LISTENING {
        match client::ask(Some(name), &Request::Attach)? {
            client::GONE => {}
            code => return Ok(ExitCode::from(code)),
        }
    }
    keeper.wait()?;
    let complaints = complaints.join().unwrap_or_default();
    bail!("{}", complaints.trim_end())
}

/// The keeper.
///
/// # Errors
/// When a lab of that name runs already, or namespaces are refused.
pub fn keep() -> Result<ExitCode> {
    let name = std::env::args().nth(2).context("a keeper needs a name")?;
    // A terminal that closes must not end the lab.
    nix::unistd::setsid()?;
    let mut launch = String::new();
    std::io::stdin().read_to_string(&mut launch)?;
    let listener = channel::listen(&name)?;
    println!("{LISTENING}");
    let status = sandbox::enter(&launch, Stdio::from(OwnedFd::from(listener)))?;
    Ok(sandbox::exit_code(status))
}

/// The socket that a keeper handed over, in the inside process.
///
/// # Errors
/// When standard input is no socket.
pub fn listener() -> Result<std::os::unix::net::UnixListener> {
    use std::os::fd::AsFd;
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(descriptor.into())
}

/// Whether a lab of that name can be reached.
#[must_use]
pub fn runs(name: &str) -> bool {
    Channel::connect(Some(name)).is_ok()
}
