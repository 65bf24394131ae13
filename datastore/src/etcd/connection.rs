//! The connection to a cluster.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use etcd_client::{Certificate, Client, ConnectOptions, Error, GetOptions, Identity, TlsOptions};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::EtcdOptions;
use super::endpoints::first_answer;
use crate::error::StoreError;
use crate::object::Revision;

/// How long a call may take, and an endpoint to answer for the first time: longer than etcd itself takes to give up what
/// its disk or its peers hold up (7 s), so that the reason is etcd's own.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an endpoint may be silent before the next one is asked, too.
const HEAD_START: Duration = Duration::from_secs(3);
/// How often a silent connection is tested, and how long the answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// gRPC's numbers.
const PERMISSION_DENIED: i32 = 7;
const OUT_OF_RANGE: i32 = 11;
const UNAUTHENTICATED: i32 = 16;

pub(super) struct Connection {
    options: EtcdOptions,
    client: Mutex<Option<Connected>>,
    /// The last time that nobody answered. Who waited meanwhile gets this, and does not begin anew.
    failed: std::sync::Mutex<Option<(Instant, StoreError)>>,
    /// The endpoint to connect to next; many programs begin at different ones.
    next: AtomicUsize,
}

/// A client, and the files as they were when it was made.
struct Connected {
    client: Client,
    files: Files,
}

/// What tells whether certificates, key or password have been replaced: of each file its inode, its size and when it was
/// changed.
type Files = Vec<Option<(u64, u64, SystemTime)>>;

impl Connection {
    pub(super) fn new(options: EtcdOptions) -> Self {
        Self {
            options,
            client: Mutex::new(None),
            failed: std::sync::Mutex::new(None),
            next: AtomicUsize::new(by_chance()),
        }
    }

    pub(super) const fn options(&self) -> &EtcdOptions {
        &self.options
    }

    /// Makes a call; after one that failed the connection is made anew, to the next endpoint that answers.
    pub(super) async fn call<T, F>(
        &self,
        call: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let client = self.client().await?;
        let error = match within(PATIENCE, call(client)).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if matches!(
            error,
            StoreError::Unavailable { .. } | StoreError::Unauthorised { .. }
        ) {
            *self.client.lock().await = None;
        }
        Err(error)
    }

    /// Makes a call that changes nothing; once more when the connection was lost.
    pub(super) async fn ask<T, F>(
        &self,
        call: impl Fn(Client) -> F + Send + Sync,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        match self.call(&call).await {
            Err(StoreError::Unavailable { .. }) => self.call(&call).await,
            answer => answer,
        }
    }

    /// The connection; a new one when there is none, and when certificates, key or password are others than they were. What
    /// is in these files now and cannot be used, half written perhaps, leaves the connection as it is.
    async fn client(&self) -> Result<Client, StoreError> {
        let asked = Instant::now();
        let mut slot = self.client.lock().await;
        let files = self.files();
        match &mut *slot {
            Some(connected) if connected.files == files => Ok(connected.client.clone()),
            Some(connected) => {
                if let Ok(client) = self.connect().await {
                    connected.client = client;
                }
                connected.files = files;
                Ok(connected.client.clone())
            }
            None => {
                let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                match &*failed() {
                    Some((when, error)) if *when >= asked => return Err(error.clone()),
                    _ => {}
                }
                let client = self.connect().await.inspect_err(|error| {
                    *failed() = Some((Instant::now(), error.clone()));
                })?;
                *slot = Some(Connected {
                    client: client.clone(),
                    files,
                });
                Ok(client)
            }
        }
    }

    /// A connection to the next endpoint that answers; one that accepts connections and is silent does not.
    async fn connect(&self) -> Result<Client, StoreError> {
        let endpoints = &self.options.endpoints;
        let first = self.next.load(Ordering::Relaxed);
        let number = |step: usize| first.wrapping_add(step) % endpoints.len();
        let asked = (0..endpoints.len()).filter_map(|step| endpoints.get(number(step)));
        let asked = asked.map(|endpoint| self.connect_to(endpoint));
        let Some(found) = first_answer(asked, HEAD_START).await else {
            let reason = "there is no endpoint".to_owned();
            return Err(StoreError::Unavailable { reason });
        };
        // Of errors that of the first is the answer: a password that is wrong is wrong everywhere.
        let (step, client) = found?;
        // After a failure it is the turn of the one after it.
        self.next.store(number(step) + 1, Ordering::Relaxed);
        Ok(client)
    }

    async fn connect_to(&self, endpoint: &str) -> Result<Client, StoreError> {
        let options = self.connect_options()?;
        let key = self.options.prefix.as_str();
        let keys_only = GetOptions::new().with_keys_only();
        let connecting = async {
            let client = Client::connect([endpoint], Some(options)).await?;
            match client.kv_client().get(key, Some(keys_only)).await {
                // To be refused is an answer, too: others may be allowed what this is not.
                Err(error) if is_unavailable(&store_error(&error)) => Err(error),
                _ => Ok(client),
            }
        };
        let connected = within(PATIENCE, connecting).await;
        connected.map_err(|error| match error {
            StoreError::Unavailable { reason } => StoreError::Unavailable {
                reason: format!("{endpoint}: {reason}"),
            },
            error => error,
        })
    }

    fn files(&self) -> Files {
        let EtcdOptions {
            ca, identity, user, ..
        } = &self.options;
        let identity = identity.iter().flat_map(|(cert, key)| [cert, key]);
        let files = ca.iter().chain(identity);
        let files = files.chain(user.iter().map(|(_, password)| password));
        let state = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            Some((inode(&found), found.len(), found.modified().ok()?))
        };
        files.map(state).collect()
    }

    fn connect_options(&self) -> Result<ConnectOptions, StoreError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(PATIENCE)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        let EtcdOptions {
            endpoints,
            ca,
            identity,
            user,
            ..
        } = &self.options;
        let secure = endpoints
            .iter()
            .any(|endpoint| endpoint.starts_with("https:"));
        if secure || ca.is_some() || identity.is_some() {
            let mut tls = TlsOptions::new();
            if let Some(ca) = ca {
                tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
            }
            if let Some((certificate, key)) = identity {
                tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
            }
            options = options.with_tls(tls);
        }
        if let Some((name, password)) = user {
            let password = String::from_utf8_lossy(&read(password)?)
                .trim_end()
                .to_owned();
            options = options.with_user(name, password);
        }
        Ok(options)
    }
}

const fn is_unavailable(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. })
}

fn by_chance() -> usize {
    let number = RandomState::new().build_hasher().finish();
    usize::try_from(number >> 33).unwrap_or_default()
}

#[cfg(unix)]
fn inode(found: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(found)
}

#[cfg(not(unix))]
fn inode(_: &std::fs::Metadata) -> u64 {
    0
}

/// Waits for an answer for so long.
async fn within<T>(
    time: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(time, call).await {
        Ok(answer) => answer.map_err(|error| store_error(&error)),
        Err(_) => Err(StoreError::Unavailable {
            reason: format!("no answer in {time:?}: too busy, or out of reach"),
        }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path).map_err(|error| StoreError::Unavailable {
        reason: format!("{}: {error}", path.display()),
    })
}

/// What an error of etcd means.
pub(super) fn store_error(error: &Error) -> StoreError {
    let Error::GRpcStatus(status) = error else {
        return StoreError::Unavailable {
            reason: error.to_string(),
        };
    };
    let reason = status.message().to_owned();
    let refused = [
        "authentication failed",
        "user name",
        "invalid auth token",
        "permission denied",
    ];
    match status.code() as i32 {
        PERMISSION_DENIED | UNAUTHENTICATED => StoreError::Unauthorised { reason },
        OUT_OF_RANGE => StoreError::Compacted {
            since: Revision::NONE,
            oldest: Revision::NONE,
        },
        _ if refused.iter().any(|words| reason.contains(words)) => {
            StoreError::Unauthorised { reason }
        }
        _ => StoreError::Unavailable { reason },
    }
}
