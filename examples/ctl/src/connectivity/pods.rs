//! What a test makes on Kubernetes, as the API takes it, and how it is read.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::plan::{Phase, Question};
use super::probe::Outcome;
use super::{NAMESPACE, PORT};

/// The label of everything that answers or asks: `server` or `client`.
const ROLE: &str = "ocicat.io/connectivity";
/// The label of clients that the policy admits.
const ADMITTED: &str = "ocicat.io/connectivity-admitted";

/// The namespace; its pods keep to Kubernetes' strictest standard.
pub(super) fn namespace() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    })
}

/// The server on a node.
pub(super) fn server(index: usize, node: &str, image: &str) -> Value {
    let serve = [
        "serve".to_owned(),
        "--name".into(),
        format!("server on {node}"),
    ];
    let mut pod = pod(&format!("server-{index}"), node, image, &serve);
    pod["metadata"]["labels"] = json!({ROLE: "server"});
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": PORT}]);
    pod["spec"]["containers"][0]["readinessProbe"] =
        json!({"tcpSocket": {"port": PORT}, "periodSeconds": 1});
    pod
}

/// The client on a node in a phase. What it finds is its container's termination message.
pub(super) fn client(
    index: usize,
    node: &str,
    image: &str,
    phase: Phase,
    questions: &[Question],
    limit: Duration,
) -> Value {
    let mut words = vec![
        "probe".to_owned(),
        format!("--timeout={}", limit.as_millis()),
        "--write=/dev/termination-log".into(),
    ];
    if !phase.reached() {
        words.push("--silent".into());
    }
    words.extend(questions.iter().map(|one| one.address.to_string()));
    let mut pod = pod(
        &format!("client-{index}-{}", phase.name()),
        node,
        image,
        &words,
    );
    pod["metadata"]["labels"] = match phase {
        Phase::Admitted => json!({ROLE: "client", ADMITTED: "yes"}),
        _ => json!({ROLE: "client"}),
    };
    pod
}

fn pod(name: &str, node: &str, image: &str, words: &[String]) -> Value {
    let mut command = vec!["ocicatctl".to_owned(), "connectivity".to_owned()];
    command.extend_from_slice(words);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            // No scheduler: the test says where.
            "nodeName": node, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false, "enableServiceLinks": false,
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "ocicatctl", "image": image, "imagePullPolicy": "IfNotPresent", "command": command,
                // Where our image has it, and others may.
                "env": [{"name": "PATH", "value": "/opt/ocicat/bin:/usr/local/bin:/usr/bin:/bin"}],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}},
            }],
        },
    })
}

/// The Service of all servers.
pub(super) fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "server", "namespace": NAMESPACE},
        "spec": {
            "selector": {ROLE: "server"}, "ports": [{"port": PORT, "targetPort": PORT}],
            "ipFamilyPolicy": "PreferDualStack",
        },
    })
}

/// The policy that admits clients with a label alone.
pub(super) fn policy() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "admitted-alone", "namespace": NAMESPACE},
        "spec": {
            "podSelector": {"matchLabels": {ROLE: "server"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {ADMITTED: "yes"}}}]}],
        },
    })
}

/// Whether a node can be tested, or why not.
pub(super) fn fitness(node: &Value) -> Result<(), String> {
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|one| one["type"] == "Ready");
    match ready.map(|one| (one["status"] == "True", one["message"].as_str())) {
        Some((true, _)) => Ok(()),
        Some((false, why)) => Err(format!("is not ready: {}", why.unwrap_or_default())),
        None => Err("does not say whether it is ready".to_owned()),
    }
}

/// The addresses of a pod or of a Service.
pub(super) fn addresses(object: &Value) -> Vec<IpAddr> {
    let lists = [&object["status"]["podIPs"], &object["spec"]["clusterIPs"]];
    let texts = lists.into_iter().filter_map(Value::as_array).flatten();
    let text = |one: &Value| one["ip"].as_str().or(one.as_str()).map(str::to_owned);
    texts.filter_map(|one| text(one)?.parse().ok()).collect()
}

/// The newest word about a pod in a list of events, where there is one: why a sandbox cannot be made stands only there.
pub(super) fn complaint(events: &Value) -> Option<String> {
    let all = events["items"].as_array()?.iter();
    let warnings = all.filter(|one| one["type"] == "Warning");
    let newest = warnings.max_by_key(|one| one["lastTimestamp"].as_str().map(str::to_owned))?;
    let text = |name: &str| newest[name].as_str().unwrap_or_default();
    Some(format!("{}: {}", text("reason"), text("message")))
}

/// How far a pod is.
#[derive(Debug, PartialEq)]
pub(super) enum State {
    /// Not yet, and why as far as it says.
    Waiting(String),
    /// A server that answers.
    Ready,
    /// A client that has asked.
    Done(Vec<Outcome>),
    /// It will not get any further.
    Failed(String),
}

/// Reads how far a pod is.
pub(super) fn state(pod: &Value) -> State {
    let status = &pod["status"];
    let container = &status["containerStatuses"][0];
    let waiting = &container["state"]["waiting"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(ended) = container["state"]["terminated"].as_object() {
        let message = ended
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default();
        return serde_json::from_str(message).map_or_else(
            |_| State::Failed(format!("ended without an answer: {message}")),
            State::Done,
        );
    }
    if status["phase"] == "Failed" {
        return State::Failed(format!(
            "{} {}",
            text(&status["reason"]),
            text(&status["message"])
        ));
    }
    if container["ready"] == true && !addresses(pod).is_empty() {
        return State::Ready;
    }
    let reason = text(&waiting["reason"]);
    if matches!(reason.as_str(), "InvalidImageName" | "ErrImageNeverPull") {
        return State::Failed(format!("{reason}: {}", text(&waiting["message"])));
    }
    State::Waiting(
        format!("{reason} {}", text(&waiting["message"]))
            .trim()
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_read_as_kubelets_write_them() {
        let waiting = json!({"status": {"phase": "Pending", "containerStatuses": [
            {"ready": false, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "x"}}},
        ]}});
        assert_eq!(state(&waiting), State::Waiting("ImagePullBackOff x".into()));
        assert_eq!(state(&json!({})), State::Waiting(String::new()));
        let ready = json!({"status": {
            "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "containerStatuses": [{"ready": true}],
        }});
        assert_eq!(state(&ready), State::Ready);
        assert_eq!(addresses(&ready).len(), 2);
        let ended = |message: &str| json!({"status": {"containerStatuses": [{"state": {"terminated": {"message": message}}}]}});
        let State::Done(outcomes) = state(&ended(r#"[{"t":1.5},{"e":"no answer"}]"#)) else {
            panic!("it has asked");
        };
        assert_eq!((outcomes[0].ms, outcomes[1].ms), (Some(1.5), None));
        assert!(matches!(state(&ended("panic")), State::Failed(_)));
        let evicted = json!({"status": {"phase": "Failed", "reason": "Evicted"}});
        assert_eq!(state(&evicted), State::Failed("Evicted ".into()));
    }

    #[test]
    fn the_newest_warning_is_told() {
        let event = |at: &str, kind: &str, text: &str| json!({"lastTimestamp": at, "type": kind, "reason": "R", "message": text});
        let events = json!({"items": [
            event("2026-01-01T00:00:02Z", "Warning", "no sandbox"),
            event("2026-01-01T00:00:01Z", "Warning", "no DNS"),
            event("2026-01-01T00:00:03Z", "Normal", "pulled"),
        ]});
        assert_eq!(complaint(&events).as_deref(), Some("R: no sandbox"));
        assert_eq!(complaint(&json!({"items": []})), None);
    }

    #[test]
    fn a_node_that_is_not_ready_says_why() {
        let node = json!({"status": {"conditions": [
            {"type": "Ready", "status": "False", "message": "no network"},
        ]}});
        assert_eq!(fitness(&node), Err("is not ready: no network".to_owned()));
        assert!(fitness(&json!({})).is_err());
    }

    #[test]
    fn a_client_is_told_what_to_ask() {
        let question = Question {
            to: "x".into(),
            address: "10.0.0.1:8080".parse().expect("an address"),
        };
        let limit = Duration::from_secs(1);
        let pod = client(2, "n", "i", Phase::Denied, &[question], limit);
        assert_eq!(pod["metadata"]["name"], "client-2-denied");
        let command = pod["spec"]["containers"][0]["command"].to_string();
        assert!(
            command.contains("--silent") && command.contains("10.0.0.1:8080"),
            "{command}"
        );
    }
}
