//! The Kubernetes API, as far as a test needs it: JSON in, JSON out.

use std::path::Path;

use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

use crate::failure::Failure;

/// A client with the rights of whoever runs the test.
pub(super) struct Api(Client);

impl Api {
    /// Connects to the cluster that a datastore's URL names.
    ///
    /// # Errors
    /// When there is no kubeconfig, or a wrong one.
    pub(super) async fn connect(url: &str) -> Result<Self, Failure> {
        let rest = url.strip_prefix("kubernetes:").unwrap_or_default();
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let mut pairs = parameters.split('&').filter_map(|one| one.split_once('='));
        let context = pairs.find(|(name, _)| *name == "context");
        let options = KubeConfigOptions {
            context: context.map(|(_, value)| value.to_owned()),
            ..KubeConfigOptions::default()
        };
        let wrong = |error: &dyn std::fmt::Display| Failure::failed(url, error);
        let config = if !path.is_empty() {
            let file = Kubeconfig::read_from(Path::new(path)).map_err(|error| wrong(&error))?;
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|error| wrong(&error))?
        } else if options.context.is_some() {
            Config::from_kubeconfig(&options)
                .await
                .map_err(|error| wrong(&error))?
        } else {
            Config::infer().await.map_err(|error| wrong(&error))?
        };
        Client::try_from(config)
            .map(Self)
            .map_err(|error| wrong(&error))
    }

    /// The object or list at a path; `None` when there is none.
    ///
    /// # Errors
    /// When the server refuses, or does not answer.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Value>, Failure> {
        match self.call(Method::GET, path, None).await {
            Err(Failure::NotFound(_)) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Makes an object.
    ///
    /// # Errors
    /// [`Failure::Conflict`] when it exists, and as [`Api::get`].
    pub(super) async fn create(&self, path: &str, object: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, Some(object)).await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// [`Failure::NotFound`] when it is not there, and as [`Api::get`].
    pub(super) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.call(Method::DELETE, path, None).await.map(drop)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let what = format!("{method} {path}");
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(body.into_bytes())
            .map_err(|error| Failure::failed(&what, error))?;
        self.0
            .request::<Value>(request)
            .await
            .map_err(|error| match error {
                kube::Error::Api(status) => {
                    let text = format!("{what}: {}", status.message);
                    match status.code {
                        404 => Failure::NotFound(text),
                        409 => Failure::Conflict(text),
                        429 | 503 => Failure::Unavailable(text),
                        _ => Failure::Failed(text),
                    }
                }
                other => Failure::Unavailable(format!("{what}: {other}")),
            })
    }
}
