//! The connection to a cluster.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use tokio::sync::Mutex;

use super::EtcdOptions;
use crate::error::StoreError;
use crate::object::Revision;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a silent connection is tested, and how long the answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// gRPC's numbers.
const PERMISSION_DENIED: i32 = 7;
const OUT_OF_RANGE: i32 = 11;
const UNAUTHENTICATED: i32 = 16;

pub(super) struct Connection {
    options: EtcdOptions,
    client: Mutex<Option<Client>>,
}

impl Connection {
    pub(super) fn new(options: EtcdOptions) -> Self {
        Self {
            options,
            client: Mutex::new(None),
        }
    }

    pub(super) const fn options(&self) -> &EtcdOptions {
        &self.options
    }

    /// Makes a call; after one that failed the connection is made anew.
    pub(super) async fn call<T, F>(
        &self,
        call: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let client = self.client().await?;
        let answer = tokio::time::timeout(PATIENCE, call(client)).await;
        let error = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => store_error(&error),
            Err(_) => StoreError::Unavailable {
                reason: format!("no answer in {PATIENCE:?}"),
            },
        };
        if matches!(
            error,
            StoreError::Unavailable { .. } | StoreError::Unauthorised { .. }
        ) {
            *self.client.lock().await = None;
        }
        Err(error)
    }

    async fn client(&self) -> Result<Client, StoreError> {
        let mut slot = self.client.lock().await;
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let options = self.connect_options()?;
        let connect = Client::connect(&self.options.endpoints, Some(options));
        let client = match tokio::time::timeout(PATIENCE, connect).await {
            Ok(connected) => connected.map_err(|error| store_error(&error))?,
            Err(_) => {
                return Err(StoreError::Unavailable {
                    reason: format!("no connection in {PATIENCE:?}"),
                });
            }
        };
        *slot = Some(client.clone());
        Ok(client)
    }

    fn connect_options(&self) -> Result<ConnectOptions, StoreError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
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
