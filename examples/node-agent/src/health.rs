//! `/liveness`, `/readiness` and `/metrics` over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::control::Question;
use crate::figures::Health;
use crate::metrics::Metrics;

/// A core that does not answer for so long is dead.
const PATIENCE: Duration = Duration::from_secs(10);
/// A kernel that has not taken a state for so long will not take it.
const STUCK: Duration = Duration::from_secs(180);
/// How long until an address that is taken is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Where the agent can be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listening {
    /// For `/liveness` and `/readiness`.
    pub(crate) health: Option<SocketAddr>,
    /// For `/metrics`.
    pub(crate) metrics: Option<SocketAddr>,
}

/// Serves health checks where parameters say so, until the sender of addresses is gone.
pub(crate) async fn serve_health(
    core: mpsc::Sender<Question>,
    addresses: watch::Receiver<Listening>,
) {
    let router = Router::new()
        .route("/liveness", get(liveness))
        .route("/readiness", get(readiness))
        .with_state(core);
    serve(router, addresses, |listening| listening.health).await;
}

/// Serves metrics where parameters say so, until the sender of addresses is gone.
pub(crate) async fn serve_metrics(metrics: Arc<Metrics>, addresses: watch::Receiver<Listening>) {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .with_state(metrics);
    serve(router, addresses, |listening| listening.metrics).await;
}

async fn serve(
    router: Router,
    mut addresses: watch::Receiver<Listening>,
    which: fn(&Listening) -> Option<SocketAddr>,
) {
    loop {
        let address = which(&addresses.borrow_and_update());
        let changed = async {
            while addresses.changed().await.is_ok() {
                if which(&addresses.borrow_and_update()) != address {
                    return true;
                }
            }
            false
        };
        let go_on = match address {
            None => changed.await,
            Some(address) => {
                tokio::select! {
                    go_on = changed => go_on,
                    () = listen(router.clone(), address) => true,
                }
            }
        };
        if !go_on {
            return;
        }
    }
}

/// Serves at an address for as long as that goes well.
async fn listen(router: Router, address: SocketAddr) {
    let served = match TcpListener::bind(address).await {
        Ok(listener) => axum::serve(listener, router).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::warn!(%address, %error, "cannot be asked here; tried again");
    }
    tokio::time::sleep(RETRY).await;
}

async fn ask(core: &mpsc::Sender<Question>) -> Option<Health> {
    let asked = async {
        let (answer, question) = oneshot::channel();
        core.send(Question::Health(answer)).await.ok()?;
        question.await.ok()
    };
    tokio::time::timeout(PATIENCE, asked).await.ok()?
}

type Answer = (StatusCode, String);

fn unwell(why: impl std::fmt::Display) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
}

async fn liveness(State(core): State<mpsc::Sender<Question>>) -> Answer {
    match ask(&core).await {
        None => unwell(format!(
            "the core has not answered for {} s",
            PATIENCE.as_secs()
        )),
        Some(health) => match health.waiting.filter(|waiting| *waiting > STUCK) {
            Some(waiting) => unwell(format!(
                "the kernel has not taken a state for {} s: {}",
                waiting.as_secs(),
                health.reasons.join("; ")
            )),
            None => (StatusCode::OK, "alive\n".to_owned()),
        },
    }
}

async fn readiness(State(core): State<mpsc::Sender<Question>>) -> Answer {
    match ask(&core).await {
        None => unwell("the core does not answer"),
        Some(health) if health.ready => {
            let lines = std::iter::once("ready".to_owned()).chain(health.reasons);
            (StatusCode::OK, lines.map(|line| line + "\n").collect())
        }
        Some(health) => unwell(health.reasons.join("\n")),
    }
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics.text().await {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, TYPE)], text),
        Err(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::CONTENT_TYPE, "text/plain")],
            error,
        ),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn health_follows_the_core_and_the_parameters() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let (core, mut questions) = mpsc::channel(4);
        let (listening, addresses) = watch::channel(Listening::default());
        let server = tokio::spawn(serve_health(core, addresses));
        listening.send_replace(Listening {
            health: Some(address),
            metrics: None,
        });
        let answering = tokio::spawn(async move {
            let mut health = Health {
                reasons: vec!["not in sync".to_owned()],
                ..Health::default()
            };
            while let Some(question) = questions.recv().await {
                if let Question::Health(answer) = question {
                    let _ = answer.send(health.clone());
                    (health.ready, health.waiting) = (true, Some(STUCK * 2));
                }
            }
        });
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
        let unready = fetch(address, "/readiness").await;
        assert!(
            unready.starts_with("HTTP/1.1 503") && unready.contains("not in sync"),
            "{unready}"
        );
        let ready = fetch(address, "/readiness").await;
        assert!(
            ready.starts_with("HTTP/1.1 200") && ready.contains("ready"),
            "{ready}"
        );
        let stuck = fetch(address, "/liveness").await;
        assert!(
            stuck.starts_with("HTTP/1.1 503") && stuck.contains("has not taken a state"),
            "{stuck}"
        );
        assert!(fetch(address, "/metrics").await.starts_with("HTTP/1.1 404"));
        drop(listening);
        server.await.unwrap();
        answering.abort();
    }
}
