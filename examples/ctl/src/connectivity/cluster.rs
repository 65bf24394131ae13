//! The test on Kubernetes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::api::Api;
use super::plan::{Phase, Question, Server, choose, questions};
use super::pods::{self, State};
use super::report::{Report, Row};
use super::{NAMESPACE, limit, or_interrupted};
use crate::cli::ConnectivityTest;
use crate::connection::Connection;
use crate::failure::Failure;

/// Between looks at how far pods are.
const LOOK: Duration = Duration::from_millis(500);
/// How long a namespace may take to go.
const GOING: Duration = Duration::from_secs(90);
/// The image of our own programs, when the agents of the cluster name none.
const IMAGE: &str = concat!("docker.io/ocicat/node:", env!("CARGO_PKG_VERSION"));

/// Makes pods, has them ask, and takes everything away again, also when it is interrupted.
///
/// # Errors
/// When the API refuses, or pods do not start.
pub(super) async fn test(
    at: &Connection,
    url: &str,
    args: &ConnectivityTest,
) -> Result<Report, Failure> {
    // What is wrong with the datastore is said by it, before anything is made.
    at.store.list::<ocicat_datastore::model::IpPool>().await?;
    let api = Api::connect(url).await?;
    let made = api.create("/api/v1/namespaces", &pods::namespace()).await;
    made.map_err(|failure| match failure {
        Failure::Conflict(_) => Failure::Conflict(format!(
            "namespace {NAMESPACE} exists: another test runs, or one was killed; then `kubectl delete namespace {NAMESPACE}`"
        )),
        other => other,
    })?;
    let asked = or_interrupted(Test { api: &api, args }.run()).await;
    let gone = or_interrupted(remove(&api)).await;
    match (asked, gone) {
        (Ok(mut report), Err(failure)) => {
            report
                .untested
                .push(format!("that everything is gone: {failure}"));
            Ok(report)
        }
        (asked, _) => asked,
    }
}

/// Deletes the namespace with all that is in it, and waits until it is gone.
async fn remove(api: &Api) -> Result<(), Failure> {
    eprintln!("removing namespace {NAMESPACE}");
    let path = format!("/api/v1/namespaces/{NAMESPACE}");
    api.delete(&path).await?;
    let until = Instant::now() + GOING;
    while api.get(&path).await?.is_some() {
        if Instant::now() >= until {
            return Err(Failure::Failed(format!(
                "namespace {NAMESPACE} is still going"
            )));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

struct Test<'a> {
    api: &'a Api,
    args: &'a ConnectivityTest,
}

impl Test<'_> {
    async fn run(&self) -> Result<Report, Failure> {
        let mut report = Report::default();
        let (nodes, untested) = choose(self.nodes().await?, self.args.nodes.into());
        report.untested = untested;
        if nodes.is_empty() {
            return Ok(report);
        }
        let image = self.image().await?;
        eprintln!("servers on {} nodes, from {image}", nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            self.make("pods", &pods::server(index, node, &image))
                .await?;
        }
        let service = self.make("services", &pods::service()).await?;
        let service = pods::addresses(&service);
        if service.is_empty() {
            report
                .untested
                .push("Services: the API gave it no address".to_owned());
        }
        let servers = self.servers(&nodes).await?;
        for phase in Phase::ALL {
            self.set_policy(phase).await?;
            eprintln!("{}", phase.text());
            let rows = self
                .phase(phase, &nodes, &image, &servers, &service)
                .await?;
            report.rows.extend(rows);
        }
        Ok(report)
    }

    async fn nodes(&self) -> Result<Vec<(String, Result<(), String>)>, Failure> {
        let list = self.api.get("/api/v1/nodes").await?.unwrap_or_default();
        let nodes = list["items"].as_array().cloned().unwrap_or_default();
        let read = |node: &Value| (name(node), pods::fitness(node));
        let mut nodes: Vec<_> = nodes.iter().map(read).collect();
        nodes.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(nodes)
    }

    /// The image that the cluster's agents run, which is on every node already.
    async fn image(&self) -> Result<String, Failure> {
        if let Some(image) = &self.args.image {
            return Ok(image.clone());
        }
        let path = "/api/v1/pods?labelSelector=app.kubernetes.io/name%3Docicat-node&limit=1";
        let agents = self.api.get(path).await?.unwrap_or_default();
        let image = agents["items"][0]["spec"]["containers"][0]["image"].as_str();
        Ok(image.unwrap_or(IMAGE).to_owned())
    }

    async fn make(&self, resource: &str, object: &Value) -> Result<Value, Failure> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/{resource}");
        self.api.create(&path, object).await
    }

    async fn set_policy(&self, phase: Phase) -> Result<(), Failure> {
        let path = format!("/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies");
        match phase {
            Phase::Denied => self.api.create(&path, &pods::policy()).await.map(drop),
            Phase::Again => self.api.delete(&format!("{path}/admitted-alone")).await,
            Phase::Open | Phase::Admitted => Ok(()),
        }
    }

    /// The servers, when all of them answer.
    async fn servers(&self, nodes: &[String]) -> Result<Vec<Server>, Failure> {
        let names: Vec<String> = (0..nodes.len())
            .map(|one| format!("server-{one}"))
            .collect();
        let ready = |pod: &Value| match pods::state(pod) {
            State::Ready => Some(Ok(pods::addresses(pod))),
            State::Waiting(_) => None,
            State::Done(_) => Some(Err("has ended".to_owned())),
            State::Failed(why) => Some(Err(why)),
        };
        let addresses = self.wait(&names, ready).await?;
        let both = nodes.iter().zip(addresses);
        let server = |(node, addresses): (&String, Vec<IpAddr>)| Server {
            node: node.clone(),
            addresses,
        };
        Ok(both.map(server).collect())
    }

    /// One client on each node, and what they found.
    async fn phase(
        &self,
        phase: Phase,
        nodes: &[String],
        image: &str,
        servers: &[Server],
        service: &[IpAddr],
    ) -> Result<Vec<Row>, Failure> {
        let mut asked: Vec<(&String, Vec<Question>)> = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let questions = questions(node, servers, service);
            let limit = limit(self.args);
            let pod = pods::client(index, node, image, phase, &questions, limit);
            self.make("pods", &pod).await?;
            asked.push((node, questions));
        }
        let names = (0..nodes.len()).map(|one| format!("client-{one}-{}", phase.name()));
        let done = |pod: &Value| match pods::state(pod) {
            State::Done(outcomes) => Some(Ok(outcomes)),
            State::Failed(why) => Some(Err(why)),
            State::Ready | State::Waiting(_) => None,
        };
        let outcomes = self.wait(&names.collect::<Vec<_>>(), done).await?;
        let mut rows = Vec::new();
        for ((node, questions), outcomes) in asked.into_iter().zip(outcomes) {
            for (question, outcome) in questions.into_iter().zip(outcomes) {
                rows.push(Row {
                    test: phase.text().to_owned(),
                    from: format!("pod on {node}"),
                    to: question.to,
                    address: question.address.to_string(),
                    expected: phase.reached(),
                    outcome,
                });
            }
        }
        Ok(rows)
    }

    /// Looks at pods until `read` has an answer for each of them.
    async fn wait<T>(
        &self,
        names: &[String],
        read: impl Fn(&Value) -> Option<Result<T, String>>,
    ) -> Result<Vec<T>, Failure> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let until = Instant::now() + Duration::from_secs(self.args.start);
        loop {
            let list = self.api.get(&path).await?.unwrap_or_default();
            let pods = list["items"].as_array().cloned().unwrap_or_default();
            let pods: BTreeMap<String, Value> =
                pods.into_iter().map(|pod| (name(&pod), pod)).collect();
            let (mut all, mut missing) = (Vec::new(), None);
            for name in names {
                match pods.get(name).and_then(&read) {
                    Some(Ok(one)) => all.push(one),
                    Some(Err(why)) => return Err(Failure::Failed(format!("pod {name}: {why}"))),
                    None => missing = Some(name),
                }
            }
            let Some(missing) = missing else {
                return Ok(all);
            };
            if Instant::now() >= until {
                return Err(self.late(missing, pods.get(missing)).await);
            }
            sleep(LOOK).await;
        }
    }

    async fn late(&self, name: &str, pod: Option<&Value>) -> Failure {
        let path = format!(
            "/api/v1/namespaces/{NAMESPACE}/events?fieldSelector=involvedObject.name%3D{name}"
        );
        let events = self.api.get(&path).await.ok().flatten();
        let why = events.as_ref().and_then(pods::complaint);
        let why = why.unwrap_or_else(|| match pod.map(pods::state) {
            Some(State::Waiting(why)) => why,
            _ => String::new(),
        });
        let node = pod.and_then(|pod| pod["spec"]["nodeName"].as_str());
        Failure::Failed(format!(
            "pod {name} on node {} is not there after {} s: {why} (is the image there? --image names another)",
            node.unwrap_or("?"),
            self.args.start
        ))
    }
}

fn name(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str();
    name.unwrap_or_default().to_owned()
}
