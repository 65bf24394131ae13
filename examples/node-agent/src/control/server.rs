use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};

use super::{Request, Status, Waited, Written, frame};
use crate::events::{Event, Events};

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
}

/// As many connections are served at once; further ones wait.
const CONNECTIONS: usize = 64;

/// Serves the control socket until the future is dropped.
pub(crate) async fn serve(listener: UnixListener, core: mpsc::Sender<Question>, events: Events) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let (core, events) = (core.clone(), events.clone());
                connections.spawn(async move {
                    if let Err(error) = answer(stream, &core, &events).await {
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

async fn answer(
    mut stream: UnixStream,
    core: &mpsc::Sender<Question>,
    events: &Events,
) -> std::io::Result<()> {
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
        Request::Events => stream_events(&mut stream, events.subscribe()).await,
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
