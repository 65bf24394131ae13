//! Steps that do something.

use std::time::Instant;

use anyhow::{Context, Result};
use ocicat_datastore::{Key, Kind, Object, Op};
use ocicatctl::Written;
use serde_json::{Value, json};

use super::Trial;
use super::replace::READY;
use crate::cluster::Cluster;
use crate::demo::shown;
use crate::scenario::{Agents, Flow, Patch, Pod, Store};
use crate::traffic::Traffic;

impl Trial {
    pub(super) async fn put(&mut self, cluster: &Cluster, value: Value) -> Result<()> {
        let object = Object::from_value(value)?;
        let object = ocicatctl::native(&object)?;
        let what = format!("{} applied", object.key());
        let written = write(cluster, Op::Put(object)).await?;
        self.enforced(cluster, &[written], &what).await
    }

    pub(super) async fn patch(&mut self, cluster: &mut Cluster, patch: &Patch) -> Result<()> {
        let key = key(patch)?;
        let found = cluster.store.backend().get(&key).await?;
        let mut object = found.with_context(|| format!("there is no {key}"))?;
        for (part, change) in [("metadata", &patch.metadata), ("spec", &patch.spec)] {
            if let Some(change) = change {
                merge(&mut object.value[part], change);
            }
        }
        let shown = patch.spec.as_ref().or(patch.metadata.as_ref());
        let shown = shown.map_or_else(String::new, ToString::to_string);
        let what = format!("{key} becomes {shown}");
        let written = write(cluster, Op::Put(object)).await?;
        self.enforced(cluster, &[written], &what).await
    }

    pub(super) async fn delete(&mut self, cluster: &Cluster, object: &Patch) -> Result<()> {
        let key = key(object)?;
        let what = format!("{key} deleted");
        let op = Op::Delete {
            key,
            revision: None,
        };
        let written = write(cluster, op).await?;
        self.enforced(cluster, &[written], &what).await
    }

    pub(super) async fn add(
        &mut self,
        cluster: &mut Cluster,
        pod: Pod,
        fails: Option<String>,
    ) -> Result<()> {
        let id = pod.id();
        let before = cluster.held_addresses().await?.len();
        let added = cluster.add_pods(vec![pod]).await;
        let Some(text) = fails else {
            let written = added?;
            let address = cluster.pods[&id].address;
            let what = format!("{id} is made, {address}");
            return self.enforced(cluster, &written, &what).await;
        };
        let said = added.err().map(|error| format!("{error:#}"));
        let seen = said.clone().unwrap_or_else(|| "it was made".to_owned());
        let fits = said.is_some_and(|said| said.contains(&text));
        self.report.check(fits, format!("{id} is refused"), seen);
        let held = cluster.held_addresses().await?.len();
        let what = "what was refused holds no address";
        self.report
            .check(held == before, what, format!("{held}, {before} before"));
        Ok(())
    }

    pub(super) async fn flow(&mut self, cluster: &Cluster, flow: &Flow) -> Result<()> {
        let pod = |id: &String| {
            cluster
                .pods
                .get(id)
                .with_context(|| format!("there is no pod {id}"))
        };
        let (from, to) = (pod(&flow.from)?, pod(&flow.to)?);
        let (rate, port) = (flow.rate.get(), flow.port.get());
        let traffic = Traffic::start(&from.place, &to.place, to.address, port, rate).await?;
        let name = format!("{} and {}", flow.from, flow.to);
        self.report.say(format!(
            "{name} exchange {rate} numbered datagrams a second, both ways, and a TCP stream"
        ));
        self.traffic.push((traffic, name));
        Ok(())
    }

    pub(super) async fn arrived(&mut self, lost: u64) -> Result<()> {
        for (traffic, name) in std::mem::take(&mut self.traffic) {
            let tally = tokio::task::spawn_blocking(move || traffic.stop()).await??;
            let missing = tally.sent - tally.returned;
            let which = if tally.missing.is_empty() {
                String::new()
            } else {
                format!(", the first {:?}", tally.missing)
            };
            let pause = shown(tally.stream.longest_pause);
            let sent = tally.sent;
            let seen =
                format!("{missing} of {sent} lost{which}; the stream's longest pause {pause}");
            let what = format!("between {name} at most {lost} datagrams are lost");
            self.report.check(missing <= lost, what, seen);
        }
        Ok(())
    }

    pub(super) async fn agents(&mut self, cluster: &Cluster, agents: &Agents) -> Result<()> {
        let (Agents::Kill(names)
        | Agents::Start(names)
        | Agents::Restart(names)
        | Agents::Replace(names)) = agents;
        let mut names = names.clone();
        if names.is_empty() {
            names = cluster.agents.keys().cloned().collect();
        }
        for name in &names {
            let agent = cluster.agents.get(name);
            let agent = agent.with_context(|| format!("there is no node {name}"))?;
            let began = Instant::now();
            match agents {
                Agents::Replace(_) => {
                    self.replace(cluster, agent).await?;
                    continue;
                }
                Agents::Kill(_) => {
                    agent.kill()?;
                    self.report.say(format!("the agent of {name} is killed"));
                    continue;
                }
                Agents::Start(_) => agent.restart()?,
                Agents::Restart(_) => {
                    agent.terminate().await?;
                    agent.restart()?;
                }
            }
            self.is_back(cluster, agent, began).await?;
        }
        Ok(())
    }

    pub(super) async fn datastore(&mut self, cluster: &Cluster, store: Store) -> Result<()> {
        let etcd = Self::etcd(cluster)?;
        match store {
            Store::Stopped => {
                etcd.stop()?;
                self.report.say("etcd is killed");
            }
            Store::Started => {
                etcd.restart().await?;
                self.report.say("etcd runs again");
                self.in_step(cluster).await;
            }
        }
        Ok(())
    }
}

impl Trial {
    /// After the datastore came back: every agent that runs catches up.
    async fn in_step(&mut self, cluster: &Cluster) {
        let (began, mut late) = (Instant::now(), Vec::new());
        let running = cluster.agents.values().filter(|agent| agent.id().is_some());
        for agent in running {
            let ready = agent.ready(READY).await;
            late.extend(ready.err().map(|error| format!("{error:#}")));
        }
        let seen = match late.as_slice() {
            [] => shown(began.elapsed()),
            late => late.join("; "),
        };
        self.report
            .check(late.is_empty(), "every agent is in step with it", seen);
    }
}

async fn write(cluster: &Cluster, op: Op) -> Result<Written> {
    let mut outcomes = cluster.store.backend().write(vec![op]).await;
    let object = outcomes.pop().context("a write has an outcome")??;
    Ok(Written {
        key: object.key(),
        revision: object.revision,
    })
}

fn key(object: &Patch) -> Result<Key> {
    let kind: Kind = object.kind.parse()?;
    Ok(match &object.namespace {
        Some(namespace) => Key::namespaced(kind, namespace.clone(), object.name.clone()),
        None => Key::cluster(kind, object.name.clone()),
    })
}

/// RFC 7386: null removes, objects are merged, everything else replaces.
fn merge(target: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in change {
        if value.is_null() {
            if let Some(target) = target.as_object_mut() {
                target.remove(key);
            }
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}
