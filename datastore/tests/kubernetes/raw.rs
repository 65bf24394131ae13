//! Requests as they are.

use std::path::Path;

use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use ocicat_datastore::testing::kubernetes::ApiServer;
use serde_json::Value;

/// A client of the double, in this process.
pub(crate) fn of_double(server: &ApiServer) -> Client {
    let service = tower::util::MapRequest::new(server.router(), |request: Request<Body>| {
        request.map(axum::body::Body::new)
    });
    Client::new(service, "default")
}

/// A client of a real API server.
pub(crate) async fn of_kubeconfig(path: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(path).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .expect("a configuration");
    config.default_retry = false;
    Client::try_from(config).expect("a client")
}

/// Code and body of an answer; of a watch its first line.
pub(crate) async fn send(client: &Client, method: &str, uri: &str, body: &Value) -> (u16, Value) {
    let content_type = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let bytes = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", content_type)
        .header("accept", "application/json")
        .body(Body::from(bytes))
        .expect("a request");
    let answer = client.send(request).await.expect("an answer");
    let code = answer.status().as_u16();
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        text.extend_from_slice(frame.expect("a frame").data_ref().map_or(&[], |data| data));
        if uri.contains("watch=true") && text.contains(&b'\n') {
            break;
        }
    }
    let line = match text.iter().position(|byte| *byte == b'\n') {
        Some(end) if uri.contains("watch=true") => &text[..end],
        _ => &text[..],
    };
    let value = serde_json::from_slice(line);
    (
        code,
        value.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(line).into_owned())),
    )
}
