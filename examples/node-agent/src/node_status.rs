//! CalicoNodeStatus: who asks for this node's BGP state by an object is answered in its status, again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ocicat_datastore::model::{CalicoNodeStatus, CalicoNodeStatusSpec, Kind};
use ocicat_datastore::{Event, Store, StoreError, Versioned};
use ocicat_ipam::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::control::{Peer, Question, Status};
use crate::facts::Facts;

/// How often an object is answered that does not say.
const PERIOD: u32 = 10;

/// What an answer is made of.
#[derive(Clone, Debug, Default)]
struct Known {
    status: Status,
    routes: Vec<Value>,
    /// Since when the agent runs.
    started: String,
}

/// Who asks, and when it is answered next.
#[derive(Clone, Debug)]
struct Asker {
    question: Versioned<CalicoNodeStatus>,
    due: Instant,
}

/// Answers until the sender of facts is gone. Nothing is answered before the agent is ready: an older answer says when it
/// was true.
pub(crate) async fn answer(
    store: Store,
    node: String,
    core: mpsc::Sender<Question>,
    mut facts: watch::Receiver<Arc<Facts>>,
) {
    let started = Timestamp(SystemTime::now()).to_string();
    if facts.wait_for(|facts| facts.ready).await.is_err() {
        return;
    }
    let mut follow = ocicat_datastore::follow(&store, [Kind::CalicoNodeStatus]);
    let mut asked: BTreeMap<String, Asker> = BTreeMap::new();
    loop {
        let next = asked.values().map(|one| one.due).min();
        let due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = follow.next() => take(&mut asked, &node, event),
            changed = facts.changed() => if changed.is_err() { return },
            () = due => {
                if facts.wait_for(|facts| facts.may_write()).await.is_err() {
                    return;
                }
                let known = Known { started: started.clone(), ..ask(&core).await.unwrap_or_default() };
                answer_due(&store, &mut asked, &known).await;
            }
        }
    }
}

/// Notes who asks, and forgets who does not any more.
fn take(asked: &mut BTreeMap<String, Asker>, node: &str, event: Event) {
    match event {
        Event::Put(object) => {
            let name = object.name.clone();
            match Versioned::<CalicoNodeStatus>::decode(object) {
                Ok(question)
                    if question.spec.node == node
                        && question.spec.update_period_seconds != Some(0) =>
                {
                    // Our own answer is no new question.
                    let old = asked.get(&name);
                    let same = old.filter(|old| old.question.spec == question.spec);
                    let due = same.map_or_else(Instant::now, |old| old.due);
                    asked.insert(name, Asker { question, due });
                }
                Ok(_) => drop(asked.remove(&name)),
                Err(error) => tracing::warn!(%error, "a question cannot be read"),
            }
        }
        Event::Deleted(key, _) => drop(asked.remove(&key.name)),
        _ => {}
    }
}

async fn ask(core: &mpsc::Sender<Question>) -> Option<Known> {
    let (answer, status) = oneshot::channel();
    core.send(Question::Status(answer)).await.ok()?;
    let (answer, routes) = oneshot::channel();
    core.send(Question::Routes(answer)).await.ok()?;
    let (status, routes) = (status.await.ok()?, routes.await.ok()?);
    let Value::Array(routes) = routes else {
        return None;
    };
    Some(Known {
        status,
        routes,
        started: String::new(),
    })
}

async fn answer_due(store: &Store, asked: &mut BTreeMap<String, Asker>, known: &Known) {
    let now = Instant::now();
    for (name, asker) in asked.iter_mut().filter(|(_, one)| one.due <= now) {
        let spec = &asker.question.spec;
        let period = spec.update_period_seconds.unwrap_or(PERIOD);
        asker.due = now + Duration::from_secs(period.into());
        let value = status(spec, known, &Timestamp(SystemTime::now()).to_string());
        // As it was seen last: nobody else writes it, as a rule.
        let mut question = asker.question.clone();
        question.value.status = Some(value.clone());
        let written = match store.update(question).await {
            Err(StoreError::Conflict { .. }) => {
                let change = |one: &mut CalicoNodeStatus| one.status = Some(value.clone());
                store.modify(name.as_str(), change).await
            }
            written => written,
        };
        match written {
            Ok(written) => asker.question = written,
            Err(StoreError::Missing { .. }) => {}
            Err(error) => tracing::warn!(%error, name, "a CalicoNodeStatus could not be answered"),
        }
    }
}

/// The answer to what is asked.
fn status(spec: &CalicoNodeStatusSpec, known: &Known, now: &str) -> Value {
    let mut answer = json!({ "lastUpdated": now });
    for class in &spec.classes {
        match class.as_str() {
            "Agent" => answer["agent"] = agent(known),
            "BGP" => answer["bgp"] = bgp(&known.status.peers),
            "Routes" => answer["routes"] = routes(known),
            _ => {}
        }
    }
    answer
}

/// One speaker serves both families.
fn agent(known: &Known) -> Value {
    let bgp = &known.status.bgp;
    let state = if bgp.as_number == 0 {
        "NotReady"
    } else {
        "Ready"
    };
    let speaker = json!({
        "state": state, "version": format!("ocicat {}", known.status.version),
        "routerID": bgp.router_id, "lastBootTime": known.started,
    });
    json!({ "birdV4": speaker, "birdV6": speaker })
}

fn is_v6(address: &str) -> bool {
    address.contains(':')
}

fn bgp(peers: &[Peer]) -> Value {
    let mut answer = json!({});
    for (family, six) in [("V4", false), ("V6", true)] {
        let of_family = || peers.iter().filter(move |peer| is_v6(&peer.address) == six);
        let up = of_family().filter(|peer| peer.established).count();
        answer[format!("numberEstablished{family}")] = up.into();
        answer[format!("numberNotEstablished{family}")] = (of_family().count() - up).into();
        answer[format!("peers{family}")] = of_family().map(peer).collect();
    }
    answer
}

fn peer(peer: &Peer) -> Value {
    let kind = match peer.kind.as_str() {
        "node-to-node mesh" => "NodeMesh",
        "node specific" => "NodePeer",
        _ => "GlobalPeer",
    };
    let since = Duration::try_from_secs_f64(peer.since_s).unwrap_or_default();
    let since = SystemTime::now().checked_sub(since);
    json!({
        "peerIP": peer.address, "type": kind, "state": peer.state,
        "since": since.map(|since| Timestamp(since).to_string()).unwrap_or_default(),
    })
}

fn routes(known: &Known) -> Value {
    let mut answer = json!({"routesV4": [], "routesV6": []});
    for route in &known.routes {
        let destination = route["prefix"].as_str().unwrap_or_default();
        let list = if is_v6(destination) {
            "routesV6"
        } else {
            "routesV4"
        };
        let best = &route["paths"][0];
        let learned = match best["peer"].as_str() {
            None => json!({"sourceType": "Static"}),
            Some(address) => {
                let peer = known
                    .status
                    .peers
                    .iter()
                    .find(|peer| peer.address == address);
                let mesh = peer.is_some_and(|peer| peer.kind == "node-to-node mesh");
                let source = if mesh { "NodeMesh" } else { "BGPPeer" };
                json!({"sourceType": source, "peerIP": address})
            }
        };
        let installed = route["installed"].as_bool() == Some(true);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let shown = json!({
            "type": if installed { "FIB" } else { "RIB" }, "destination": destination,
            "gateway": text(&best["nextHop"]), "interface": text(&route["interface"]), "learnedFrom": learned,
        });
        if let Some(list) = answer[list].as_array_mut() {
            list.push(shown);
        }
    }
    answer
}

#[cfg(test)]
mod tests;
