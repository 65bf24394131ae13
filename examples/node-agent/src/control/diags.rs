//! Everything that helps to find a fault, as files.

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::server::{Question, Serving};
use super::{Configuration, Version};

/// A file of the archive.
#[derive(Clone, Debug, Serialize)]
pub(super) struct File {
    file: &'static str,
    text: String,
}

/// The files, in the order of their use. A part that cannot be had says so in its file.
pub(super) async fn files(serving: &Serving) -> Vec<File> {
    let mut files = vec![json_file("version.json", &Version::own())];
    let (answer, status) = oneshot::channel();
    files.push(asked(serving, "status.json", Question::Status(answer), status).await);
    let (answer, routes) = oneshot::channel();
    files.push(asked(serving, "bgp-routes.json", Question::Routes(answer), routes).await);
    let (answer, endpoints) = oneshot::channel();
    files.push(
        asked(
            serving,
            "endpoints.json",
            Question::Endpoints(answer),
            endpoints,
        )
        .await,
    );
    let (answer, config) = oneshot::channel::<Configuration>();
    files.push(asked(serving, "config.json", Question::Config(answer), config).await);
    let (answer, objects) = oneshot::channel();
    files.push(asked(serving, "objects.json", Question::Objects(answer), objects).await);
    let counters = serving.counters().await.map_or_else(
        |error| json!({ "error": error }),
        |counters| json!(counters),
    );
    files.push(json_file("counters.json", &counters));
    for (file, read) in serving.kernel {
        let text = tokio::task::spawn_blocking(*read).await;
        let text = text.unwrap_or_else(|error| error.to_string());
        files.push(File { file, text });
    }
    files
}

async fn asked<T: Serialize>(
    serving: &Serving,
    file: &'static str,
    question: Question,
    answer: oneshot::Receiver<T>,
) -> File {
    let _ = serving.core.send(question).await;
    match answer.await {
        Ok(answer) => json_file(file, &answer),
        Err(_) => File {
            file,
            text: "the agent is stopping".to_owned(),
        },
    }
}

fn json_file(file: &'static str, value: &impl Serialize) -> File {
    let value = serde_json::to_value(value).map(redacted);
    let text = value.and_then(|value| serde_json::to_string_pretty(&value));
    File {
        file,
        text: text.unwrap_or_else(|error| error.to_string()),
    }
}

/// Takes out what may be secret: values of members that are called so. References to secrets stay.
fn redacted(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| {
                let low = name.to_ascii_lowercase();
                let secret = ["password", "secret", "token", "privatekey", "secrets"]
                    .contains(&low.as_str());
                let value = if secret && !value.is_object() {
                    Value::String("(redacted)".to_owned())
                } else {
                    redacted(value)
                };
                (name, value)
            })
            .collect(),
        Value::Array(elements) => elements.into_iter().map(redacted).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_and_references_stay() {
        let value = json!({"spec": {"password": {"secretKeyRef": {"name": "bgp", "key": "tor"}}},
            "md5": [{"Password": "hush"}], "token": "hush"});
        let expected = json!({"spec": {"password": {"secretKeyRef": {"name": "bgp", "key": "tor"}}},
            "md5": [{"Password": "(redacted)"}], "token": "(redacted)"});
        assert_eq!(redacted(value), expected);
    }
}
