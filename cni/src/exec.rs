//! Running a plugin's program: shared by delegation and by the runtime side.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{AttachmentId, CniError, Command, PluginName};

/// One run of a plugin's program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invocation {
    /// The program, found in the search path.
    pub program: PathBuf,
    /// The `CNI_*` variables, which are set beside the environment of the caller.
    pub variables: BTreeMap<&'static str, String>,
    /// The network configuration.
    pub stdin: Vec<u8>,
    /// How long the program may take. `None`: for ever.
    pub timeout: Option<Duration>,
}

/// How a plugin's program is run: the hook for running it elsewhere, such as in other namespaces.
///
/// A function or closure is one. `Ok` stands for a process that has run and ended, whatever its status.
///
/// ```
/// use ocicat_cni::{Exec, Invocation};
///
/// fn in_node(invocation: &Invocation) -> std::io::Result<std::process::Output> {
///     let mut command = std::process::Command::new("nsenter");
///     command.arg("--net=/run/netns/node1").arg(&invocation.program);
///     invocation.run(command)
/// }
/// let hook: &dyn Exec = &in_node;
/// ```
pub trait Exec: Send + Sync {
    /// Runs the program to its end.
    ///
    /// # Errors
    /// When it could not be started or its output could not be read.
    fn exec(&self, invocation: &Invocation) -> io::Result<Output>;
}

impl<F> Exec for F
where
    F: Fn(&Invocation) -> io::Result<Output> + Send + Sync,
{
    fn exec(&self, invocation: &Invocation) -> io::Result<Output> {
        self(invocation)
    }
}

/// Runs the program as a child of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Exec for Direct {
    fn exec(&self, invocation: &Invocation) -> io::Result<Output> {
        invocation.run(invocation.command())
    }
}

impl Invocation {
    /// A command for the program itself.
    #[must_use]
    pub fn command(&self) -> std::process::Command {
        std::process::Command::new(&self.program)
    }

    /// Runs a command with this invocation's variables and input, and collects what it prints.
    ///
    /// Starting is repeated for a moment while the program is being written (ETXTBSY): a fork elsewhere in this process
    /// can hold it open.
    ///
    /// # Errors
    /// When the command could not be started, or its output could not be read; [`io::ErrorKind::TimedOut`] when it took longer
    /// than the timeout, and was killed.
    pub fn run(&self, mut command: std::process::Command) -> io::Result<Output> {
        command
            .envs(&self.variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = start(&mut command)?;
        if let Some(mut stdin) = child.stdin.take() {
            let bytes = self.stdin.clone();
            // Beside the reading: a plugin that prints before it has read all must not block on a full pipe. It need not
            // read its configuration at all; what it answers says whether it minded.
            std::thread::spawn(move || stdin.write_all(&bytes));
        }
        match self.timeout {
            None => child.wait_with_output(),
            Some(timeout) => wait(child, timeout),
        }
    }
}

/// Collects the output until the deadline, then kills. The readers own their pipes, so that a child of the child that keeps
/// one open does not keep the caller.
fn wait(mut child: Child, timeout: Duration) -> io::Result<Output> {
    let until = Instant::now() + timeout;
    let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
    let collect = |from: Receiver<io::Result<Vec<u8>>>| {
        let left = until.saturating_duration_since(Instant::now());
        from.recv_timeout(left)
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    };
    match collect(stdout).and_then(|stdout| Ok((stdout, collect(stderr)?))) {
        Ok((stdout, stderr)) => Ok(Output {
            status: child.wait()?,
            stdout,
            stderr,
        }),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}

fn read(pipe: Option<impl Read + Send + 'static>) -> Receiver<io::Result<Vec<u8>>> {
    let (done, result) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes));
        // Nobody listens any more when the deadline has passed.
        let _ = done.send(read.map(|_| bytes));
    });
    result
}

fn start(command: &mut std::process::Command) -> io::Result<Child> {
    const ATTEMPTS: u32 = 20;
    let mut attempt = 0;
    loop {
        match command.spawn() {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && attempt < ATTEMPTS =>
            {
                attempt += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

/// The program of a plugin in the first folder that has it.
pub(crate) fn find(plugin: &PluginName, folders: &[PathBuf]) -> Option<PathBuf> {
    let candidates = folders.iter().map(|folder| folder.join(plugin.as_str()));
    candidates.into_iter().find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The variables of one run.
pub(crate) fn variables(
    command: Command,
    attachment: Option<&AttachmentId>,
    netns: Option<&Path>,
    args: &str,
    folders: &[PathBuf],
) -> BTreeMap<&'static str, String> {
    let search = folders.iter().map(|folder| folder.display().to_string());
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let netns = netns.map(|path| path.display().to_string());
    // Each is set, if to nothing: an inherited one must not get through.
    BTreeMap::from([
        ("CNI_COMMAND", command.as_str().to_owned()),
        (
            "CNI_CONTAINERID",
            text(attachment.map(|a| a.container_id.as_str())),
        ),
        ("CNI_IFNAME", text(attachment.map(|a| a.ifname.as_str()))),
        ("CNI_NETNS", netns.unwrap_or_default()),
        ("CNI_ARGS", args.to_owned()),
        ("CNI_PATH", search.collect::<Vec<_>>().join(":")),
    ])
}

/// What a plugin's process has said: its output, or its error.
pub(crate) fn interpret(output: &Output) -> Result<Value, CniError> {
    if output.status.success() {
        if output.stdout.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        return serde_json::from_slice(&output.stdout)
            .map_err(|cause| CniError::decode("the plugin's answer is not JSON", cause));
    }
    let stderr = excerpt(&output.stderr);
    match serde_json::from_slice::<CniError>(&output.stdout) {
        Ok(error) if error.code != 0 || !error.msg.is_empty() => Err(error),
        _ => Err(CniError::internal(format!(
            "the plugin failed without an error ({})",
            output.status
        ))
        .with_details(excerpt(&output.stdout))
        .with_details(stderr)),
    }
}

/// The end of what a process has printed: at most 2,000 characters.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    let skip = text.chars().count().saturating_sub(2_000);
    text.chars().skip(skip).collect()
}
