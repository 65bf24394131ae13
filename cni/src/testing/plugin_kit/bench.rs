//! Runs the program, and looks at what it has done to the kernel.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Output, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

use crate::{AddResult, AttachmentId, CniError, Command, ContainerId, InterfaceName, Version};

use super::group::Group;

/// Why a check did not pass.
pub(super) enum Fault {
    Broken(String),
    NotApplicable(String),
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self::Broken(what)
    }
}

pub(super) type Outcome<T = ()> = Result<T, Fault>;

/// A rule: the text says what is broken when it does not hold.
pub(super) fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Fault::Broken(broken()))
    }
}

pub(super) fn trouble(what: &'static str) -> impl Fn(std::io::Error) -> Fault {
    move |error| Fault::Broken(format!("{what}: {error}"))
}

/// Runs a check in a network namespace that stands for the host. Threads and programs that it starts are in there too.
pub(super) fn on_a_host_of_its_own(check: impl FnOnce() -> Outcome + Send) -> Outcome {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
            Fault::Broken(format!(
                "making a network namespace, which needs root: {errno}"
            ))
        })?;
        ip(&["link", "set", "lo", "up"])?;
        check()
    };
    let joined = std::thread::scope(|scope| scope.spawn(run).join());
    joined.unwrap_or_else(|_| Err(Fault::Broken("the check panicked".to_owned())))
}

fn ip(arguments: &[&str]) -> Outcome<Output> {
    let output = Process::new("ip").args(arguments).output();
    output.map_err(trouble("running ip of iproute2"))
}

/// A container's network namespace, without a name: it goes when this is dropped.
pub(super) struct Namespace {
    file: File,
}

impl Namespace {
    pub(super) fn new() -> Outcome<Self> {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        };
        let made = std::thread::scope(|scope| scope.spawn(make).join());
        let file = made.unwrap_or_else(|_| Err(std::io::Error::other("a thread panicked")));
        Ok(Self {
            file: file.map_err(trouble("making a network namespace"))?,
        })
    }

    /// A path that the plugin can open while this lives.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// A process inside, through whose id the plugin can reach the namespace until the process ends. A descriptor's number
    /// could be another namespace's by then.
    pub(super) fn process(&self) -> Outcome<(Child, String)> {
        let start = || {
            setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            let mut command = Process::new("cat");
            command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()
        };
        let joined = std::thread::scope(|scope| scope.spawn(start).join());
        let child = joined.unwrap_or_else(|_| Err(std::io::Error::other("a thread panicked")));
        let child = child.map_err(trouble("starting a process in a namespace"))?;
        let path = format!("/proc/{}/ns/net", child.id());
        Ok((child, path))
    }

    /// Runs `ip` inside.
    pub(super) fn ip(&self, arguments: &[&str]) -> Outcome<Output> {
        let enter = || {
            setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Fault::Broken(format!("entering a network namespace: {errno}")))?;
            ip(arguments)
        };
        let joined = std::thread::scope(|scope| scope.spawn(enter).join());
        joined.unwrap_or_else(|_| Err(Fault::Broken("a thread panicked".to_owned())))
    }

    /// The links inside, as `ip -json address` shows them.
    pub(super) fn links(&self) -> Outcome<Vec<Value>> {
        parse_links(&self.ip(&["-json", "address"])?)
    }

    /// Whether there is a link of this name inside.
    pub(super) fn has(&self, name: &str) -> Outcome<bool> {
        Ok(self.links()?.iter().any(|link| link["ifname"] == name))
    }
}

/// The names of the links on the host.
pub(super) fn host_links() -> Outcome<BTreeSet<String>> {
    let links = parse_links(&ip(&["-json", "address"])?)?;
    Ok(links
        .iter()
        .filter_map(|link| link["ifname"].as_str())
        .map(str::to_owned)
        .collect())
}

fn parse_links(output: &Output) -> Outcome<Vec<Value>> {
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Fault::Broken(format!("the output of ip -json address: {error}")))
}

/// One call of the program: change what should be different.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) command: String,
    pub(super) variables: Vec<(&'static str, String)>,
    pub(super) config: Value,
}

impl Call {
    pub(super) fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.into()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(known, _)| *known != name);
        self
    }

    pub(super) fn key(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.config[key] = value.into();
        self
    }

    pub(super) fn interface(self, name: &str) -> Self {
        self.variable("CNI_IFNAME", name)
    }
}

/// The program under test and its configuration.
pub(super) struct Bench {
    program: PathBuf,
    folders: String,
    config: Value,
    versions: Vec<Version>,
}

impl Bench {
    /// `check` names the network, so that what a failed check leaves behind is not in the way of the next.
    pub(super) fn new(
        program: &Path,
        config: &Value,
        folders: &[PathBuf],
        check: &str,
    ) -> Outcome<Self> {
        let own = program.parent().map(Path::to_owned);
        let folders = folders
            .iter()
            .cloned()
            .chain(own)
            .map(|folder| folder.display().to_string());
        let mut config = config.clone();
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        config["type"] = name.into_owned().into();
        config["name"] = format!("kit-{check}").into();
        let mut bench = Self {
            program: program.to_owned(),
            folders: folders.collect::<Vec<_>>().join(":"),
            config,
            versions: Vec::new(),
        };
        let said = bench.output(&bench.bare(Command::Version))?;
        let said: Value = serde_json::from_slice(&said.stdout)
            .map_err(|error| Fault::Broken(format!("the answer to VERSION: {error}")))?;
        let said = said["supportedVersions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let known = said
            .iter()
            .filter_map(|version| version.as_str()?.parse().ok());
        bench.versions = known.collect();
        bench.versions.sort();
        ensure(!bench.versions.is_empty(), || {
            format!("no version that the kit knows: {said:?}")
        })?;
        Ok(bench)
    }

    /// The versions that the plugin says it speaks and the kit knows, oldest first.
    pub(super) fn versions(&self) -> &[Version] {
        &self.versions
    }

    pub(super) fn newest(&self) -> Version {
        self.versions.last().copied().unwrap_or(Version::LATEST)
    }

    /// The rest of a check needs a version that has a command.
    pub(super) fn needs(&self, has: impl Fn(Version) -> bool, what: &str) -> Outcome {
        if has(self.newest()) {
            return Ok(());
        }
        Err(Fault::NotApplicable(format!(
            "{what}: the plugin's newest version is {}",
            self.newest()
        )))
    }

    /// A call without variables, with the plugin's newest version.
    pub(super) fn bare(&self, command: Command) -> Call {
        let mut config = self.config.clone();
        config["cniVersion"] = self.newest().as_str().into();
        let variables = vec![("CNI_PATH", self.folders.clone())];
        Call {
            command: command.as_str().to_owned(),
            variables,
            config,
        }
    }

    /// A call about `eth0` of a container.
    pub(super) fn call(
        &self,
        command: Command,
        container: &str,
        netns: Option<&Namespace>,
    ) -> Call {
        let call = self.bare(command);
        let call = call
            .variable("CNI_CONTAINERID", container)
            .interface("eth0");
        match netns {
            Some(netns) => call.variable("CNI_NETNS", netns.path()),
            None => call,
        }
    }

    /// Starts the program in a process group of its own, so that it can be killed with the programs that it has started.
    pub(super) fn start_group(&self, call: &Call) -> Outcome<Group> {
        let mut command = Process::new(&self.program);
        command.process_group(0);
        Ok(Group::of(self.spawn(command, call)?))
    }

    fn spawn(&self, mut command: Process, call: &Call) -> Outcome<Child> {
        for name in [
            "CNI_CONTAINERID",
            "CNI_NETNS",
            "CNI_IFNAME",
            "CNI_ARGS",
            "CNI_PATH",
        ] {
            command.env_remove(name);
        }
        command
            .env("CNI_COMMAND", &call.command)
            .envs(call.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(trouble("starting the program"))?;
        let text = match &call.config {
            Value::String(raw) => raw.clone(),
            json => json.to_string(),
        };
        if let Some(mut stdin) = child.stdin.take() {
            // The program need not read it.
            let _ = stdin.write_all(text.as_bytes());
        }
        Ok(child)
    }

    fn output(&self, call: &Call) -> Outcome<Output> {
        self.spawn(Process::new(&self.program), call)?
            .wait_with_output()
            .map_err(trouble("reading the program's output"))
    }

    /// Runs a call: what it printed, or its error. The form of both is checked.
    pub(super) fn run(&self, call: &Call) -> Outcome<Result<Value, CniError>> {
        let output = self.output(call)?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let about = || format!("{} {:?}", call.command, call.variables);
        let parsed = serde_json::from_str::<Value>(&stdout);
        if output.status.success() {
            if stdout.trim().is_empty() {
                return Ok(Ok(Value::Null));
            }
            let what = || format!("{}: stdout is not JSON: {stdout:?}", about());
            return parsed.map(Ok).map_err(|_| Fault::Broken(what()));
        }
        let error = parsed
            .ok()
            .and_then(|value| serde_json::from_value::<CniError>(value).ok());
        match error {
            Some(error) if error.code > 0 && !error.msg.is_empty() => Ok(Err(error)),
            _ => Err(Fault::Broken(format!(
                "{}: no error with a code on stdout: {stdout:?}",
                about()
            ))),
        }
    }

    pub(super) fn succeeds(&self, call: &Call) -> Outcome<Value> {
        let about = format!("{} {:?}", call.command, call.variables);
        self.run(call)?
            .map_err(|error| Fault::Broken(format!("{about}: {error} (code {})", error.code)))
    }

    pub(super) fn fails(&self, call: &Call, why: &str) -> Outcome<CniError> {
        match self.run(call)? {
            Err(error) => Ok(error),
            Ok(_) => Err(Fault::Broken(format!(
                "{} succeeded with {why}",
                call.command
            ))),
        }
    }

    /// ADD of `eth0`; the result is compared with the kernel.
    pub(super) fn add(&self, container: &str, netns: &Namespace) -> Outcome<AddResult> {
        self.add_as(self.call(Command::Add, container, Some(netns)), netns)
    }

    pub(super) fn add_as(&self, call: Call, netns: &Namespace) -> Outcome<AddResult> {
        let answer = self.succeeds(&call)?;
        let wanted = call.config["cniVersion"].clone();
        ensure(answer["cniVersion"] == wanted, || {
            format!(
                "ADD with cniVersion {wanted} answered in {}",
                answer["cniVersion"]
            )
        })?;
        let result = AddResult::from_value(&answer)
            .map_err(|error| Fault::Broken(format!("the result of ADD: {error}")))?;
        let name = call
            .variables
            .iter()
            .find(|(name, _)| *name == "CNI_IFNAME");
        true_in_kernel(&result, name.map_or("eth0", |(_, name)| name), netns)?;
        Ok(result)
    }

    pub(super) fn del(&self, container: &str, netns: Option<&Namespace>) -> Outcome {
        self.succeeds(&self.call(Command::Del, container, netns))
            .map(drop)
    }

    pub(super) fn check_call(
        &self,
        container: &str,
        netns: &Namespace,
        result: &AddResult,
    ) -> Call {
        let call = self.call(Command::Check, container, Some(netns));
        call.key("prevResult", result.to_value(self.newest()))
    }

    pub(super) fn gc_call(&self, keep: &[&str]) -> Outcome<Call> {
        let keep = keep.iter().map(|container| {
            let bad = |error: crate::IdentityError| Fault::Broken(error.to_string());
            let interface = InterfaceName::new("eth0").map_err(bad)?;
            Ok(AttachmentId::new(
                ContainerId::new(*container).map_err(bad)?,
                interface,
            ))
        });
        let keep = json!(keep.collect::<Outcome<Vec<_>>>()?);
        let call = self.bare(Command::Gc);
        Ok(call
            .key("cni.dev/valid-attachments", keep.clone())
            .key("cni.dev/attachments", keep))
    }
}

/// The interface that was asked for is there, up, and has the addresses of the result.
fn true_in_kernel(result: &AddResult, name: &str, netns: &Namespace) -> Outcome {
    let links = netns.links()?;
    let link = links.iter().find(|link| link["ifname"] == name);
    let link = link.ok_or_else(|| format!("after ADD there is no {name} in the container"))?;
    let up = link["flags"]
        .as_array()
        .is_some_and(|flags| flags.iter().any(|flag| flag == "UP"));
    ensure(up, || format!("after ADD {name} is not up"))?;
    ensure(!result.ips.is_empty(), || {
        "the result of ADD has no address".to_owned()
    })?;
    let entries = link["addr_info"].as_array().cloned().unwrap_or_default();
    for ip in &result.ips {
        let address = ip.address.ip().to_string();
        let there = entries
            .iter()
            .any(|entry| entry["local"] == address.as_str());
        ensure(there, || {
            format!("{name} has no {address}, which the result has")
        })?;
        let at = ip.interface.and_then(|index| result.interfaces.get(index));
        let named =
            at.is_some_and(|interface| interface.name == name && interface.sandbox.is_some());
        ensure(named, || {
            format!("{address} is not on the result's {name} with a sandbox")
        })?;
    }
    let inside = result
        .interfaces
        .iter()
        .find(|interface| interface.name == name);
    if let Some(mac) = inside.and_then(|interface| interface.mac.as_deref()) {
        ensure(link["address"] == mac, || {
            format!("{name} has {}, the result {mac}", link["address"])
        })?;
    }
    Ok(())
}
