use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};

use super::{
    Configuration, Drained, Endpoint, PolicyCounters, Request, Status, Version, Waited, Written,
    frame,
};
use crate::events::{Event, Events};
use crate::figures::{Figures, Health};

/// What the server asks the agent's core.
#[derive(Debug)]
pub(crate) enum Question {
    /// Answer when the objects are in force, or with what is missing when `limit` is over.
    Wait {
        objects: Vec<Written>,
        limit: tokio::time::Instant,
        answer: oneshot::Sender<Waited>,
    },
    /// What the agent is.
    Status(oneshot::Sender<Status>),
    /// What the speaker knows.
    Routes(oneshot::Sender<Value>),
    /// Every parameter in force.
    Config(oneshot::Sender<Configuration>),
    /// The pods of this node.
    Endpoints(oneshot::Sender<Vec<Endpoint>>),
    /// The objects that the snapshot has.
    Objects(oneshot::Sender<Vec<Value>>),
    /// Drain the node, or end that.
    Drain(bool, oneshot::Sender<Result<Drained, String>>),
    /// Whether all is well.
    Health(oneshot::Sender<Health>),
    /// Figures for metrics.
    Figures(oneshot::Sender<Figures>),
}

/// A file of diagnostics, and how it is read.
pub(crate) type KernelPart = (&'static str, fn() -> String);

/// What the server needs to answer.
#[derive(Clone)]
pub(crate) struct Serving {
    /// The core.
    pub(crate) core: mpsc::Sender<Question>,
    /// What happens.
    pub(crate) events: Events,
    /// The task that owns the dataplane.
    pub(crate) counting: mpsc::Sender<oneshot::Sender<Result<PolicyCounters, String>>>,
    /// What diagnostics have of the kernel: file names, and how to read them.
    pub(crate) kernel: &'static [KernelPart],
}

impl Serving {
    /// What the rules have met.
    pub(crate) async fn counters(&self) -> Result<PolicyCounters, String> {
        let (answer, counters) = oneshot::channel();
        let stopping = "the agent is stopping";
        self.counting.send(answer).await.map_err(|_| stopping)?;
        counters.await.map_err(|_| stopping)?
    }
}

/// As many connections are served at once; further ones wait.
const CONNECTIONS: usize = 64;

/// Serves the control socket until the future is dropped.
pub(crate) async fn serve(listener: UnixListener, serving: Serving) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = serving.clone();
                connections.spawn(async move {
                    if let Err(error) = answer(stream, &serving).await {
                        tracing::debug!(%error, "control connection");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "control socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, serving: &Serving) -> std::io::Result<()> {
    let core = &serving.core;
    let bytes = frame::receive(&mut stream).await?;
    let request = match serde_json::from_slice(&bytes) {
        Ok(request) => request,
        Err(error) => return reply(&mut stream, &json!({ "error": error.to_string() })).await,
    };
    match request {
        Request::Wait {
            objects,
            timeout_ms,
        } => {
            let limit = tokio::time::Instant::now() + std::time::Duration::from_millis(timeout_ms);
            let (answer, question) = oneshot::channel();
            ask(
                &mut stream,
                core,
                Question::Wait {
                    objects,
                    limit,
                    answer,
                },
                question,
            )
            .await
        }
        Request::Status => {
            let (answer, question) = oneshot::channel();
            ask(&mut stream, core, Question::Status(answer), question).await
        }
        Request::Routes => {
            let (answer, question) = oneshot::channel();
            ask(&mut stream, core, Question::Routes(answer), question).await
        }
        Request::Events => stream_events(&mut stream, serving.events.subscribe()).await,
        Request::Version => reply(&mut stream, &Version::own()).await,
        Request::Config => {
            let (answer, question) = oneshot::channel();
            ask(&mut stream, core, Question::Config(answer), question).await
        }
        Request::Endpoints => {
            let (answer, question) = oneshot::channel();
            ask(&mut stream, core, Question::Endpoints(answer), question).await
        }
        Request::Counters => reply_or_error(&mut stream, serving.counters().await).await,
        Request::Drain { on } => {
            let (answer, question) = oneshot::channel();
            let _ = core.send(Question::Drain(on, answer)).await;
            let drained = question.await;
            let drained = drained.unwrap_or_else(|_| Err("the agent is stopping".to_owned()));
            reply_or_error(&mut stream, drained).await
        }
        Request::Diags => {
            for file in super::diags::files(serving).await {
                reply(&mut stream, &file).await?;
            }
            reply(&mut stream, &json!({ "end": true })).await
        }
    }
}

async fn reply_or_error(
    stream: &mut UnixStream,
    outcome: Result<impl Serialize, String>,
) -> std::io::Result<()> {
    match outcome {
        Ok(answer) => reply(stream, &answer).await,
        Err(error) => reply(stream, &json!({ "error": error })).await,
    }
}

async fn ask<T: Serialize>(
    stream: &mut UnixStream,
    core: &mpsc::Sender<Question>,
    question: Question,
    answer: oneshot::Receiver<T>,
) -> std::io::Result<()> {
    let asked = core.send(question).await.is_ok();
    match answer.await {
        Ok(answer) if asked => reply(stream, &answer).await,
        _ => reply(stream, &json!({ "error": "the agent is stopping" })).await,
    }
}

async fn stream_events(
    stream: &mut UnixStream,
    mut events: broadcast::Receiver<Event>,
) -> std::io::Result<()> {
    loop {
        match events.recv().await {
            Ok(event) => reply(stream, &event).await?,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                reply(stream, &json!({ "event": "missed", "count": missed })).await?;
            }
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}

async fn reply(stream: &mut UnixStream, value: &impl Serialize) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(std::io::Error::other)?;
    frame::send(stream, &bytes).await
}
