//! The inside end of the commands that reach a running lab.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};

use crate::channel::{Channel, Questions, Reply, Request};
use crate::cluster::Cluster;
use crate::launch::File;
use crate::output::Output;
use crate::probe::{self, Answer, End, Verdict};
use crate::sync;

/// The exit code of a probe run in which a question could not be asked.
const PROBE_FAILED: u8 = 1;

/// The commands' side of a lab.
#[derive(Clone, Debug)]
pub struct Server {
    cluster: Arc<Mutex<Option<Cluster>>>,
    output: Output,
    up: Arc<StdMutex<Option<u8>>>,
    told: Arc<Notify>,
}

impl Server {
    /// Accepts commands on a thread of its own; they wait for [`Server::up`].
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(listener: UnixListener, output: Output) -> Result<Self> {
        let server = Self {
            cluster: Arc::default(),
            output,
            up: Arc::default(),
            told: Arc::default(),
        };
        let (accepting, runtime) = (server.clone(), Handle::current());
        std::thread::Builder::new()
            .name("commands".to_owned())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (server, runtime) = (accepting.clone(), runtime.clone());
                    std::thread::spawn(move || server.serve(stream, &runtime));
                }
            })?;
        Ok(server)
    }

    /// The cluster is up, or as far as it got: whoever is attached is told the exit code, commands are served.
    pub async fn up(&self, cluster: Option<Cluster>, code: u8) {
        *self.cluster.lock().await = cluster;
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) = Some(code);
    }

    /// Waits until the attached command knows the exit code.
    pub async fn told(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(5), self.told.notified()).await;
    }

    fn serve(&self, stream: UnixStream, runtime: &Handle) {
        let Ok(mut channel) = Channel::new(stream) else {
            return;
        };
        let code = match channel.receive::<Request>() {
            Ok(Some(Request::Attach)) => return self.attach(channel),
            Ok(Some(Request::Down)) => {
                let _ = channel.send(&Reply::Done(0));
                std::process::exit(0);
            }
            Ok(Some(request)) => match runtime.block_on(self.answer(&request, &mut channel)) {
                Ok(code) => code,
                Err(error) => {
                    let _ = channel.send(&Reply::Error(format!("{error:#}")));
                    1
                }
            },
            Ok(None) | Err(_) => return,
        };
        let _ = channel.send(&Reply::Done(code));
    }

    /// Sends what the lab says to the command that started it. The lab ends when that command does, until it is up.
    fn attach(&self, mut channel: Channel) {
        let Ok(watched) = channel.stream() else {
            return;
        };
        let up = self.up.clone();
        std::thread::spawn(move || {
            let mut byte = [0];
            let _ = std::io::Read::read(&mut &watched, &mut byte);
            if up.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                std::process::exit(1);
            }
        });
        let (lines, said) = std::sync::mpsc::channel::<String>();
        self.output
            .redirect(move |line| lines.send(line.to_owned()).is_ok());
        let up = self.up.clone();
        loop {
            match said.recv_timeout(Duration::from_millis(20)) {
                Ok(line) => drop(channel.send(&Reply::Line(line))),
                Err(_) => {
                    let code = *up.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(code) = code {
                        self.output.redirect(|_| true);
                        said.try_iter()
                            .for_each(|line| drop(channel.send(&Reply::Line(line))));
                        let _ = channel.send(&Reply::Done(code));
                        self.told.notify_one();
                        return;
                    }
                }
            }
        }
    }

    async fn answer(&self, request: &Request, channel: &mut Channel) -> Result<u8> {
        let mut locked = self.cluster.lock().await;
        let cluster = locked.as_mut().context("the lab is not up yet")?;
        match request {
            Request::Apply { files } => {
                let manifests = manifests(files)?;
                let written = cluster.apply(&manifests).await?;
                say(
                    channel,
                    &format!("{} applied", plural(written.len(), "object")),
                )?;
                report(channel, cluster.enforce(&written).await?.took)?;
            }
            Request::Delete { files } => {
                let manifests = manifests(files)?;
                let written = cluster.delete(&manifests).await?;
                say(
                    channel,
                    &format!("{} deleted", plural(written.len(), "object")),
                )?;
                report(channel, cluster.enforce(&written).await?.took)?;
            }
            Request::Sync { bundle } => {
                let (changes, written) = sync::to(cluster, bundle).await?;
                if changes.is_empty() {
                    say(channel, "nothing differs")?;
                }
                changes.iter().try_for_each(|change| say(channel, change))?;
                report(channel, cluster.enforce(&written).await?.took)?;
            }
            Request::Probe(questions) => return probe(cluster, questions, channel).await,
            Request::Enter { end } => hand_over(cluster, end, channel)?,
            Request::Attach | Request::Down => {}
        }
        Ok(0)
    }
}

fn say(channel: &mut Channel, line: &str) -> Result<()> {
    channel.send(&Reply::Line(line.to_owned()))
}

fn report(channel: &mut Channel, took: Duration) -> Result<()> {
    say(
        channel,
        &format!(
            "in force on every node after {:.1} ms",
            took.as_secs_f64() * 1000.0
        ),
    )
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

fn manifests(files: &[File]) -> Result<Vec<ocicatctl::Manifest>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(ocicatctl::manifest::read(&file.name, &file.text)?);
    }
    Ok(all)
}

async fn probe(cluster: &Cluster, questions: &Questions, channel: &mut Channel) -> Result<u8> {
    let probes = chosen(cluster, questions);
    let attempts = probes
        .iter()
        .map(|probe| cluster.attempt(probe))
        .collect::<Result<Vec<_>>>()?;
    let outcomes = probe::run(attempts, Duration::from_millis(questions.timeout_ms)).await;
    let answers: Vec<Answer> = probes
        .into_iter()
        .zip(outcomes)
        .map(|(probe, outcome)| Answer { probe, outcome })
        .collect();
    for answer in &answers {
        let line = if questions.json {
            serde_json::to_string(answer)?
        } else {
            crate::table::answer(answer)
        };
        say(channel, &line)?;
    }
    let failed = answers
        .iter()
        .any(|answer| answer.outcome.result == Verdict::Error);
    Ok(if failed { PROBE_FAILED } else { 0 })
}

/// The probes that are asked for: given ones, or all pairs; `--port` on a question that names no port adds it.
fn chosen(cluster: &Cluster, questions: &Questions) -> Vec<probe::Probe> {
    if let Some(probes) = &questions.probes {
        return probes.clone();
    }
    let fits = |asked: &Option<End>, end: &End| asked.as_ref().is_none_or(|asked| asked == end);
    let mut pairs = cluster.pairs(questions.from.as_ref(), questions.to.as_ref());
    if questions.port.is_some() {
        pairs = cluster.with_port(
            pairs,
            questions.port,
            questions.protocol.unwrap_or_default(),
        );
    }
    pairs.retain(|probe| {
        let protocol = questions
            .protocol
            .is_none_or(|protocol| protocol == probe.protocol);
        protocol && fits(&questions.from, &probe.from) && fits(&questions.to, &probe.to)
    });
    pairs
}

/// Sends the namespaces of an end: those of the lab that every end shares, and the end's own.
fn hand_over(cluster: &Cluster, end: &End, channel: &mut Channel) -> Result<()> {
    let place = cluster.place(end)?;
    let namespace = |kind: &str| -> Result<OwnedFd> {
        let path = Path::new("/proc/self/ns").join(kind);
        open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .with_context(|| path.display().to_string())
    };
    let (user, processes, mounts) = (namespace("user")?, namespace("pid")?, namespace("mnt")?);
    let (network, own_mounts) = place.namespaces();
    let descriptors = [
        user.as_fd().as_raw_fd(),
        processes.as_raw_fd(),
        own_mounts.unwrap_or_else(|| mounts.as_raw_fd()),
        network,
    ];
    let nested = std::env::var_os(crate::sandbox::NESTED).is_some();
    let mut names = vec!["user", "pid", "mnt", "net"];
    let skip = usize::from(!nested);
    names.drain(..skip);
    channel.send(&Reply::Namespaces {
        kinds: names.into_iter().map(str::to_owned).collect(),
        datastore: cluster.url.clone(),
    })?;
    // The line must have been read before the descriptors come: they would be lost in its buffer.
    match channel.receive::<Reply>()? {
        Some(Reply::Done(_)) => channel.send_descriptors(&descriptors[skip..]),
        _ => bail!("the command went away"),
    }
}
