//! Opening a store by its URL.

use std::sync::Arc;

use crate::backend::Backend;
use crate::error::StoreError;

/// Opens the store that a URL names.
///
/// | URL | store | feature |
/// |---|---|---|
/// | `memory:` | a new one in memory, which nobody else sees | `memory` |
/// | `sqlite:PATH` | a file; `?durable=false`, `?keep=REVISIONS`, `?prefix=/KEYS` | `sqlite` |
/// | `etcd:URL,URL` | an etcd cluster; `?ca=FILE&cert=FILE&key=FILE`, `?user=NAME&password-file=FILE`, `?prefix=/KEYS` | `etcd` |
/// | `kubernetes:`, `kubernetes:PATH` | a cluster: of the kubeconfig, else of `KUBECONFIG`, of the pod that this runs in, of `~/.kube/config`; `?context=NAME`, `?group=GROUP/VERSION` | `kubernetes` |
///
/// # Errors
/// [`StoreError::Open`] when the URL is wrong, the feature is not built in, or the store cannot be opened.
pub fn open(url: &str) -> Result<Arc<dyn Backend>, StoreError> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "memory" if rest.is_empty() => memory(url),
        "sqlite" => sqlite(url, rest),
        "etcd" => etcd(url, rest),
        "kubernetes" => kubernetes(url, rest),
        _ => Err(refused(
            url,
            "is no datastore: memory:, sqlite:PATH, etcd:URLS or kubernetes:",
        )),
    }
}

fn refused(url: &str, reason: impl Into<String>) -> StoreError {
    // What follows the question mark may be a secret.
    let url = url.split('?').next().unwrap_or_default().to_owned();
    StoreError::Open {
        url,
        reason: reason.into(),
    }
}

#[cfg(feature = "memory")]
#[expect(
    clippy::unnecessary_wraps,
    reason = "the same signature without the feature"
)]
fn memory(_url: &str) -> Result<Arc<dyn Backend>, StoreError> {
    Ok(Arc::new(crate::memory::Memory::new()))
}

#[cfg(not(feature = "memory"))]
fn memory(url: &str) -> Result<Arc<dyn Backend>, StoreError> {
    Err(refused(url, "the memory datastore is not built in"))
}

/// Name and value of each parameter.
#[cfg(any(feature = "etcd", feature = "kubernetes", feature = "sqlite"))]
fn parameters(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let stated = text.split('&').filter(|parameter| !parameter.is_empty());
    stated.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
}

#[cfg(feature = "etcd")]
fn etcd(url: &str, rest: &str) -> Result<Arc<dyn Backend>, StoreError> {
    let (endpoints, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let endpoints = endpoints.split(',').filter(|endpoint| !endpoint.is_empty());
    let mut options = crate::etcd::EtcdOptions::new(endpoints);
    let (mut certificate, mut key, mut user, mut password) = (None, None, None, None);
    for (name, value) in self::parameters(parameters) {
        match name {
            "ca" => options.ca = Some(value.into()),
            "cert" => certificate = Some(value.into()),
            "key" => key = Some(value.into()),
            "user" => user = Some(value.to_owned()),
            "password-file" => password = Some(value.into()),
            "prefix" => value.clone_into(&mut options.prefix),
            _ => return Err(refused(url, format!("there is no parameter {name}"))),
        }
    }
    if certificate.is_some() != key.is_some() {
        return Err(refused(url, "cert and key go together"));
    }
    if user.is_some() != password.is_some() {
        return Err(refused(url, "user and password-file go together"));
    }
    options.identity = certificate.zip(key);
    options.user = user.zip(password);
    Ok(Arc::new(crate::etcd::Etcd::new(options)?))
}

#[cfg(not(feature = "etcd"))]
fn etcd(url: &str, _rest: &str) -> Result<Arc<dyn Backend>, StoreError> {
    Err(refused(url, "the etcd datastore is not built in"))
}

#[cfg(feature = "kubernetes")]
fn kubernetes(url: &str, rest: &str) -> Result<Arc<dyn Backend>, StoreError> {
    use crate::group::ApiGroup;
    use crate::kubernetes::{Kubernetes, KubernetesOptions};

    let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let mut options = KubernetesOptions {
        kubeconfig: Some(path).filter(|path| !path.is_empty()).map(Into::into),
        ..KubernetesOptions::default()
    };
    for (name, value) in self::parameters(parameters) {
        match name {
            "context" if !value.is_empty() => options.context = Some(value.to_owned()),
            "group" => {
                let group = ApiGroup::new(value);
                let bad = || refused(url, format!("{value:?} is no group and version"));
                options.group = Some(group.ok_or_else(bad)?);
            }
            _ => return Err(refused(url, format!("there is no parameter {name}"))),
        }
    }
    Ok(Arc::new(Kubernetes::new(options)?))
}

#[cfg(not(feature = "kubernetes"))]
fn kubernetes(url: &str, _rest: &str) -> Result<Arc<dyn Backend>, StoreError> {
    Err(refused(url, "the Kubernetes datastore is not built in"))
}

#[cfg(feature = "sqlite")]
fn sqlite(url: &str, rest: &str) -> Result<Arc<dyn Backend>, StoreError> {
    let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    if path.is_empty() {
        return Err(refused(url, "has no path"));
    }
    let mut options = crate::sqlite::SqliteOptions::default();
    for (name, value) in self::parameters(parameters) {
        let bad = || {
            refused(
                url,
                format!("{value:?} is no value of the parameter {name}"),
            )
        };
        match name {
            "durable" => options.durable = value.parse().map_err(|_| bad())?,
            "keep" => options.keep = value.parse().map_err(|_| bad())?,
            "prefix" if value.starts_with('/') => value.clone_into(&mut options.prefix),
            "prefix" => return Err(bad()),
            _ => return Err(refused(url, format!("there is no parameter {name}"))),
        }
    }
    Ok(Arc::new(crate::sqlite::Sqlite::open_with(path, &options)?))
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(url: &str, _rest: &str) -> Result<Arc<dyn Backend>, StoreError> {
    Err(refused(url, "the sqlite datastore is not built in"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(url: &str) -> String {
        open(url)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn urls_that_name_no_store() {
        assert!(reason("").contains("is no datastore"));
        assert!(reason("redis:x").contains("is no datastore"));
        assert!(!reason("kubernetes:x?password=secret").contains("secret"));
    }

    #[cfg(feature = "kubernetes")]
    #[test]
    fn kubernetes_parameters() {
        assert!(reason("kubernetes:/nowhere?token=secret").contains("no parameter token"));
        assert!(reason("kubernetes:/nowhere?group=v3").contains("no group and version"));
        assert!(reason("kubernetes:/nowhere/config").starts_with("kubernetes:/nowhere/config: "));
    }

    #[cfg(feature = "etcd")]
    #[test]
    fn etcd_parameters() {
        assert!(reason("etcd:").contains("no endpoints"));
        assert!(reason("etcd:https://a:2379?cert=x").contains("go together"));
        assert!(reason("etcd:https://a:2379?password=secret").contains("no parameter password"));
        assert!(!reason("etcd:https://a:2379?password=secret").contains("secret"));
        assert!(reason("etcd:https://a:2379?prefix=x").contains("slash"));
        let good = "etcd:https://a:2379,b:2379?ca=a&cert=b&key=c&user=u&password-file=p";
        assert!(open(good).is_ok());
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn sqlite_parameters() {
        assert!(reason("sqlite:").contains("no path"));
        assert!(reason("sqlite:/nowhere/x?sync=1").contains("no parameter sync"));
        assert!(reason("sqlite:/nowhere/x?keep=a").contains("keep"));
        assert!(reason("sqlite:/nowhere/x").starts_with("sqlite:/nowhere/x: "));
    }
}
