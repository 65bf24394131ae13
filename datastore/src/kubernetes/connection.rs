//! Requests to an API server.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::BodyExt;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{OnceCell, Semaphore};

use super::failure::Status;
use crate::error::StoreError;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many requests are under way at a time, watches not counted: each is a connection.
const SLOTS: usize = 16;
/// How many lists and watches wait for the beginning of their answers at a time. So an agent that starts asks an API server
/// that many begin to ask at once only as fast as it answers.
const OPENINGS: usize = 4;
/// How often a server that asks for patience is asked again.
const TRIES: u32 = 4;
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Where the API server is and who we are there.
pub(super) enum Target {
    /// In a pod: the service account's.
    Pod,
    /// What a kubeconfig says, and the context to use.
    File(Box<Kubeconfig>, Option<String>),
    /// A server in this process.
    #[cfg(feature = "apiserver")]
    Here(Client),
}

impl Target {
    /// The target that a path, `KUBECONFIG`, a pod's surroundings or `~/.kube/config` name, in this order.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn find(path: Option<&Path>, context: Option<String>) -> Result<Self, String> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let file = |path: &Path| Kubeconfig::read_from(path).map_err(|error| error.to_string());
        let found = match path {
            Some(path) => file(path)?,
            None if set("KUBECONFIG").is_some() => match Kubeconfig::from_env() {
                Ok(Some(found)) => found,
                Ok(None) => return Err("KUBECONFIG names no file".to_owned()),
                Err(error) => return Err(error.to_string()),
            },
            None if set("KUBERNETES_SERVICE_HOST").is_some() => return Ok(Self::Pod),
            None => {
                let home = set("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
                match home.filter(|path| path.exists()) {
                    Some(path) => file(&path)?,
                    None => {
                        return Err(
                            "not in a pod, and neither KUBECONFIG nor ~/.kube/config is there"
                                .to_owned(),
                        );
                    }
                }
            }
        };
        Ok(Self::File(Box::new(found), context))
    }

    async fn client(&self) -> Result<Client, String> {
        let mut config = match self {
            Self::Pod => Config::incluster().map_err(|error| error.to_string())?,
            Self::File(kubeconfig, context) => {
                let options = KubeConfigOptions {
                    context: context.clone(),
                    ..KubeConfigOptions::default()
                };
                Config::from_custom_kubeconfig((**kubeconfig).clone(), &options)
                    .await
                    .map_err(|error| error.to_string())?
            }
            #[cfg(feature = "apiserver")]
            Self::Here(client) => return Ok(client.clone()),
        };
        // Patience is ours; and a watch that says nothing for long is no error.
        config.default_retry = false;
        config.read_timeout = None;
        config.write_timeout = None;
        config.connect_timeout = Some(Duration::from_secs(5));
        let builder = ClientBuilder::try_from(config).map_err(|error| error.to_string())?;
        Ok(builder.build())
    }
}

/// One request.
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query.
    pub(super) uri: String,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

impl Call {
    pub(super) fn get(uri: String) -> Self {
        Self::new(Method::GET, uri, Vec::new())
    }

    pub(super) const fn new(method: Method, uri: String, body: Vec<u8>) -> Self {
        Self {
            method,
            uri,
            content_type: "application/json",
            body,
        }
    }

    fn request(&self) -> Result<Request<Body>, StoreError> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&self.uri)
            .header(header::ACCEPT, "application/json");
        if !self.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, self.content_type);
        }
        request
            .body(Body::from(self.body.clone()))
            .map_err(|error| StoreError::Unavailable {
                reason: format!("{}: {error}", self.uri),
            })
    }
}

/// A connection to an API server, made when it is first needed.
pub(super) struct Connection {
    target: Target,
    client: OnceCell<Client>,
    slots: Semaphore,
    openings: Semaphore,
    /// Something befell us that befell all others, too.
    crowded: AtomicBool,
}

impl Connection {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            client: OnceCell::new(),
            slots: Semaphore::new(SLOTS),
            openings: Semaphore::new(OPENINGS),
            crowded: AtomicBool::new(false),
        }
    }

    async fn client(&self) -> Result<&Client, StoreError> {
        let made = self.client.get_or_try_init(|| self.target.client());
        made.await
            .map_err(|reason| StoreError::Unavailable { reason })
    }

    async fn send(&self, call: &Call) -> Result<Response<Body>, StoreError> {
        let client = self.client().await?;
        let answer = tokio::time::timeout(PATIENCE, client.send(call.request()?)).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unreachable(&error)),
            Err(_) => Err(StoreError::Unavailable {
                reason: format!("no answer within {PATIENCE:?}"),
            }),
        }
    }

    /// Sends a request, again when the server asks for patience; its answer's beginning.
    async fn patiently(&self, call: &Call) -> Result<Response<Body>, StoreError> {
        let mut tries = 0;
        loop {
            let answer = self.send(call).await?;
            let wait = answer
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok())
                .map(Duration::from_secs);
            tries += 1;
            match (answer.status().as_u16(), wait) {
                // Not done yet, and it says so.
                (429 | 503, Some(wait)) if tries < TRIES && wait <= LONGEST_WAIT => {
                    let spread = wait.mul_f64(1.0 + random() / 2.0);
                    tokio::time::sleep(spread.max(Duration::from_millis(50))).await;
                }
                _ => return Ok(answer),
            }
        }
    }

    /// Sends a request; what the server answers or why it refuses.
    ///
    /// # Errors
    /// The outer: nothing was answered.
    pub(super) async fn call(&self, call: &Call) -> Result<Result<Bytes, Status>, StoreError> {
        let _slot = self.slots.acquire().await;
        let answer = self.patiently(call).await?;
        let (parts, body) = answer.into_parts();
        let whole = tokio::time::timeout(PATIENCE, body.collect()).await;
        let body = match whole {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return Err(unreachable(&error)),
            Err(_) => {
                return Err(StoreError::Unavailable {
                    reason: format!("no whole answer within {PATIENCE:?}"),
                });
            }
        };
        Ok(if parts.status.is_success() {
            Ok(body)
        } else {
            Err(Status::read(parts.status.as_u16(), &body))
        })
    }

    /// Sends a request whose answer is long or has no end.
    pub(super) async fn stream(&self, call: &Call) -> Result<Result<Body, Status>, StoreError> {
        let _opening = self.openings.acquire().await;
        let answer = self.patiently(call).await?;
        let (parts, body) = answer.into_parts();
        if parts.status.is_success() {
            return Ok(Ok(body));
        }
        let body = tokio::time::timeout(PATIENCE, body.collect()).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes());
        let body = body.unwrap_or_default();
        Ok(Err(Status::read(parts.status.as_u16(), &body)))
    }

    /// Notes that all who watch have to list again.
    pub(super) fn crowd(&self) {
        self.crowded.store(true, Ordering::Relaxed);
    }

    /// Lets others go first, where all have to list again.
    pub(super) async fn spread(&self, longest: Duration) {
        if self.crowded.swap(false, Ordering::Relaxed) {
            tokio::time::sleep(longest.mul_f64(random())).await;
        }
    }
}

/// The next bytes of an answer that has an end; `None` then.
pub(super) async fn data(body: &mut Body) -> Result<Option<Bytes>, StoreError> {
    loop {
        match tokio::time::timeout(PATIENCE, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(Some(Err(error))) => return Err(unreachable(&error)),
            Err(_) => {
                return Err(StoreError::Unavailable {
                    reason: format!("no whole answer within {PATIENCE:?}"),
                });
            }
        }
    }
}

fn unreachable(error: &dyn std::error::Error) -> StoreError {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_reason = inner.to_string();
        if !reason.contains(&inner_reason) {
            reason = format!("{reason}: {inner_reason}");
        }
        cause = inner.source();
    }
    StoreError::Unavailable { reason }
}

/// A number in 0.0..1.0. The standard library seeds each hasher anew.
pub(super) fn random() -> f64 {
    use std::hash::BuildHasher;
    let bits = std::collections::hash_map::RandomState::new().hash_one(0_u8) >> 40;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(1 << 24)
}

/// A text as part of a path or a query.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
