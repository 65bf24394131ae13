//! Scenarios with steps: a cluster is built, the steps are done, and what they expect is checked.

mod acts;
mod looks;
mod replace;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ocicatctl::Written;

use crate::cluster::Cluster;
use crate::demo::judge;
use crate::demo::report::Report;
use crate::launch::Launch;
use crate::output::Output;
use crate::probe::{Probe, Verdict};
use crate::scenario::{Asked, Datastore, Expected, Scenario, Step};
use crate::table::{self, Judged};
use crate::traffic::Traffic;

/// How long routes and sessions may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a scenario's steps; the exit code is 4 when something is not as expected.
pub async fn run(launch: &Launch, output: &Output) -> u8 {
    let mut trial = Trial {
        report: Report::new(output.clone()),
        traffic: Vec::new(),
        asked: (Vec::new(), Vec::new()),
        steps: 0,
    };
    if let Err(error) = trial.all(launch).await {
        trial.report.broken(&error);
    }
    if trial.report.end() { 0 } else { 4 }
}

struct Trial {
    report: Report,
    /// What flows, and what it is called.
    traffic: Vec<(Traffic, String)>,
    /// The questions of the last matrix, and what was expected.
    asked: (Vec<Probe>, Vec<bool>),
    steps: u32,
}

impl Trial {
    async fn all(&mut self, launch: &Launch) -> Result<()> {
        let file = &launch.bundle.scenario;
        let scenario = Scenario::parse(&file.name, &file.text)?;
        self.next(&format!("{}: the cluster is built", scenario.name));
        let mut cluster = self.build(launch, scenario).await?;
        for (number, step) in cluster.scenario.steps.clone().into_iter().enumerate() {
            let done = self.one(&mut cluster, step).await;
            done.with_context(|| format!("steps[{number}]"))?;
        }
        Ok(())
    }

    fn next(&mut self, title: &str) {
        self.steps += 1;
        self.report.step(self.steps, title);
    }

    async fn build(&mut self, launch: &Launch, scenario: Scenario) -> Result<Cluster> {
        let began = Instant::now();
        let pods = scenario.pods.clone();
        let mut cluster = Cluster::build(scenario).await?;
        cluster.start_agents()?;
        cluster.agents_ready().await?;
        let mut written = Vec::new();
        for file in &launch.bundle.manifests {
            let manifests = ocicatctl::manifest::read(&file.name, &file.text)?;
            written.extend(cluster.apply(&manifests).await?);
        }
        written.extend(cluster.add_pods(pods).await?);
        cluster.enforce(&written).await?;
        for pod in cluster.pods.values() {
            let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
            let (id, node) = (pod.wanted.id(), &pod.wanted.node);
            self.report
                .say(format!("{id} on {node}, {}", addresses.join(" ")));
        }
        let took = crate::demo::shown(began.elapsed());
        self.report
            .check(true, "agents are ready, pods are made", took);
        Ok(cluster)
    }

    async fn one(&mut self, cluster: &mut Cluster, step: Step) -> Result<()> {
        match step {
            Step::Say(line) => self.next(&line),
            Step::Probe(Expected::Word(word)) => self.matrix(cluster, &word).await?,
            Step::Probe(Expected::One(asked)) => self.probe(cluster, *asked).await?,
            Step::Run(exec) => self.look(cluster, &exec).await?,
            Step::Put(value) => self.put(cluster, value).await?,
            Step::Patch(patch) => self.patch(cluster, &patch).await?,
            Step::Delete(object) => self.delete(cluster, &object).await?,
            Step::Add { pod, fails } => self.add(cluster, *pod, fails).await?,
            Step::Remove(pods) => {
                let written = cluster.remove_pods(&pods).await?;
                self.enforced(cluster, &written, &format!("{} removed", pods.join(", ")))
                    .await?;
            }
            Step::Pools(pools) => self.pools(cluster, &pools),
            Step::Traffic(flow) => self.flow(cluster, &flow).await?,
            Step::Arrived { lost } => self.arrived(lost).await?,
            Step::Agents(agents) => self.agents(cluster, &agents).await?,
            Step::Datastore(store) => self.datastore(cluster, store).await?,
            Step::Wait(seconds) => {
                self.report.say(format!("{seconds} s pass"));
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
            Step::Settled(_) => self.settled(cluster).await?,
            Step::NoLeaks(_) => self.no_leaks(cluster).await?,
        }
        Ok(())
    }

    async fn enforced(&mut self, cluster: &Cluster, written: &[Written], what: &str) -> Result<()> {
        let enforced = cluster.enforce_where_agents_run(written).await;
        let seen = match &enforced {
            Ok(enforced) => format!("in force after {}", crate::demo::shown(enforced.took)),
            Err(error) => format!("{error:#}"),
        };
        self.report.check(enforced.is_ok(), what, seen);
        Ok(())
    }

    /// Every pair against the reference evaluator, or against what it said the last time.
    async fn matrix(&mut self, cluster: &Cluster, word: &str) -> Result<()> {
        let (probes, expected) = match word {
            "all" => {
                let probes = cluster.all_pairs();
                let expected = cluster.expected(&probes).await?;
                (probes, expected)
            }
            "again" => self.asked.clone(),
            other => bail!("probe: {other:?} is neither \"all\" nor \"again\""),
        };
        self.asked = (probes.clone(), expected.clone());
        let judged = judge(cluster, probes, expected).await?;
        let wrong: Vec<&Judged> = judged.iter().filter(|one| !one.holds()).collect();
        if !wrong.is_empty() {
            self.report.table(&table::matrix(&judged));
        }
        let allowed = judged.iter().filter(|one| one.expected).count();
        let seen = match wrong.as_slice() {
            [] => format!("{} probes, {allowed} allowed", judged.len()),
            wrong => {
                let lines = wrong.iter().take(6).map(|one| table::answer(&one.answer));
                let lines: Vec<String> = lines.collect();
                format!(
                    "{} of {} differ: {}",
                    wrong.len(),
                    judged.len(),
                    lines.join("; ")
                )
            }
        };
        self.report
            .check(wrong.is_empty(), "packets find what policy says", seen);
        Ok(())
    }

    async fn probe(&mut self, cluster: &Cluster, asked: Asked) -> Result<()> {
        let probe = Probe {
            from: asked.from,
            to: asked.to,
            port: asked.port,
            protocol: asked.protocol,
            family: asked.family,
        };
        let what = format!("{probe} is {}", asked.expect);
        let mut outcome = crate::demo::outcomes(cluster, std::slice::from_ref(&probe)).await?;
        if asked.expect == Verdict::Allowed && outcome[0].result == Verdict::Denied {
            outcome = crate::demo::outcomes(cluster, std::slice::from_ref(&probe)).await?;
        }
        let found = outcome.first().context("a probe has an outcome")?;
        let seen = match &found.detail {
            Some(detail) => format!("{}, {detail}", found.result),
            None => format!("{} after {} ms", found.result, found.ms),
        };
        self.report.check(found.result == asked.expect, what, seen);
        Ok(())
    }

    /// Which pool each pod has its first address from.
    fn pools(&mut self, cluster: &Cluster, wanted: &BTreeMap<String, String>) {
        let mut wrong = Vec::new();
        for (id, pool) in wanted {
            let range = cluster.scenario.pools.iter().find(|one| one.name == *pool);
            let address = cluster.pods.get(id).map(|pod| pod.address);
            let fits = match (range, address) {
                (Some(range), Some(address)) => range.cidr.contains(address),
                _ => false,
            };
            if !fits {
                wrong.push(format!("{id} has {address:?}, not of {pool}"));
            }
        }
        let seen = if wrong.is_empty() {
            format!("{} pods", wanted.len())
        } else {
            wrong.join("; ")
        };
        self.report.check(
            wrong.is_empty(),
            "addresses come from the pools that are meant",
            seen,
        );
    }

    async fn no_leaks(&mut self, cluster: &Cluster) -> Result<()> {
        let report = cluster.leaks().await?;
        let wanted: usize = cluster.pods.values().map(|pod| pod.addresses.len()).sum();
        let held = cluster.held_addresses().await?.len();
        let findings: Vec<String> = report
            .findings
            .iter()
            .take(5)
            .map(ToString::to_string)
            .collect();
        let clean = report.is_clean() && held == wanted;
        let seen = format!(
            "{held} addresses held for {wanted} of pods; {}",
            findings.join("; ")
        );
        self.report
            .check(clean, "no address is leaked", seen.trim_end_matches("; "));
        Ok(())
    }

    async fn settled(&mut self, cluster: &Cluster) -> Result<()> {
        let began = Instant::now();
        let sessions = crate::demo::until(PATIENCE, || cluster.sessions_established()).await?;
        let routes = cluster.converged(PATIENCE).await;
        let seen = match (&sessions, &routes) {
            (None, _) => "not every BGP session is established".to_owned(),
            (_, Err(error)) => format!("{error:#}"),
            _ => crate::demo::shown(began.elapsed()),
        };
        let good = sessions.is_some() && routes.is_ok();
        self.report.check(
            good,
            "every session is up, every pod has a route everywhere",
            seen,
        );
        Ok(())
    }

    fn etcd(cluster: &Cluster) -> Result<&crate::cluster::Etcd> {
        let own = cluster.scenario.datastore == Datastore::Etcd;
        let etcd = cluster.etcd.as_ref().filter(|_| own);
        etcd.context("only a scenario with \"datastore: etcd\" can stop it")
    }
}
