//! The demo: a cluster is built, probed, restricted, hurt and taken down, and every step is checked.

mod events;
mod life;
mod policies;
mod removal;
pub(crate) mod report;
mod survival;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::inside::explore;
use crate::launch::{Demo as Options, Launch};
use crate::output::Output;
use crate::probe::{self, Answer, Probe};
use crate::scenario::{Datastore, Scenario};
use crate::table::{self, Judged};
use events::Events;
use report::Report;

/// After which no answer to a probe of the demo is a denial. Twice as long as the command's: the demo shares the
/// machine with everything that it has just started.
const PATIENCE: Duration = Duration::from_millis(1000);

/// Runs the demo. The cluster is given back when it is to be kept.
pub async fn run(launch: &Launch, options: Options, output: &Output) -> (Option<Cluster>, u8) {
    let shown = if options.json {
        Output::silent()
    } else {
        output.clone()
    };
    let mut demo = Demo {
        report: Report::new(shown),
        events: Events::new(),
    };
    let mut cluster = None;
    if let Err(error) = demo.steps(launch, options.keep, &mut cluster).await {
        demo.report.broken(&error);
    }
    let ok = demo.report.end();
    if options.json {
        output.line(demo.report.json());
    } else if let Some(kept) = cluster.as_ref().filter(|_| options.keep) {
        output.line(explore(&kept.scenario.name));
    }
    (cluster.filter(|_| options.keep), u8::from(!ok))
}

struct Demo {
    report: Report,
    events: Events,
}

impl Demo {
    async fn steps(
        &mut self,
        launch: &Launch,
        keep: bool,
        kept: &mut Option<Cluster>,
    ) -> Result<()> {
        let file = &launch.bundle.scenario;
        let scenario = Scenario::parse(&file.name, &file.text)?;
        self.report.step(
            1,
            "A cluster out of namespaces: nodes in racks, a router between them, a server outside",
        );
        let datastore = match scenario.datastore {
            Datastore::Sqlite => "sqlite datastore",
            Datastore::Etcd | Datastore::Elsewhere(_) => "etcd behind the router",
        };
        *kept = Some(Cluster::build(scenario).await?);
        let cluster = kept.as_mut().context("it was just built")?;
        life::wiring(self, cluster).await?;
        self.report.step(
            2,
            &format!("An agent on each node: {datastore}, BGP mesh, a session with the router"),
        );
        life::agents(self, cluster).await?;
        self.report.step(
            3,
            "Pods, as a container runtime makes them: a namespace, then the CNI plugin",
        );
        life::pods(self, cluster).await?;
        self.report.step(4, "The life of a pod, as it happens");
        life::one_pod(self, cluster).await?;
        self.report.step(5, "Who reaches whom, without policies");
        policies::open(self, cluster).await?;
        self.report.step(6, "Policies from files");
        policies::applied(self, cluster).await?;
        self.report
            .step(7, "An agent is killed while traffic flows, and comes back");
        survival::killed_agent(self, cluster).await?;
        if keep {
            return Ok(());
        }
        self.report.step(
            8,
            "Nodes go: one is removed, one dies; then everything is taken down",
        );
        removal::removed(self, cluster).await?;
        removal::killed(self, cluster).await?;
        removal::everything(self, cluster).await
    }

    /// Probes all pairs, prints the matrix, checks it against what policy says.
    async fn matrix(&mut self, cluster: &Cluster, what: &str) -> Result<Vec<Judged>> {
        let judged = judge_as_policy(cluster, cluster.all_pairs()).await?;
        self.report.table(&table::matrix(&judged));
        self.report.say(table::LEGEND);
        self.report.data(
            "probes",
            judged.iter().map(Judged::to_data).collect::<Vec<_>>(),
        );
        self.check_judged(&judged, what);
        Ok(judged)
    }

    fn check_judged(&mut self, judged: &[Judged], what: &str) {
        let wrong: Vec<String> = judged
            .iter()
            .filter(|one| !one.holds())
            .map(|one| table::answer(&one.answer))
            .collect();
        let allowed = judged.iter().filter(|one| one.expected).count();
        let again = judged.iter().filter(|one| one.again).count();
        let again = if again == 0 {
            String::new()
        } else {
            format!(", {again} asked twice")
        };
        let seen = match wrong.as_slice() {
            [] => format!(
                "{} probes, {allowed} allowed, {} denied{again}",
                judged.len(),
                judged.len() - allowed
            ),
            wrong => format!(
                "{} of {} differ: {}",
                wrong.len(),
                judged.len(),
                wrong[..wrong.len().min(6)].join("; ")
            ),
        };
        self.report.check(wrong.is_empty(), what, seen);
    }
}

/// Runs probes and puts what policy says beside each answer.
async fn judge_as_policy(cluster: &Cluster, probes: Vec<Probe>) -> Result<Vec<Judged>> {
    let expected = cluster.expected(&probes).await?;
    judge(cluster, probes, expected).await
}

/// Runs probes and puts what is expected beside each answer.
///
/// What should be allowed and had no answer in time is asked once more: the demo must also hold on a machine that is busy
/// with other things. An answer that should not have come is final.
pub(crate) async fn judge(
    cluster: &Cluster,
    probes: Vec<Probe>,
    expected: Vec<bool>,
) -> Result<Vec<Judged>> {
    let outcomes = outcomes(cluster, &probes).await?;
    let answers = probes
        .into_iter()
        .zip(outcomes)
        .map(|(probe, outcome)| Answer { probe, outcome });
    let mut judged: Vec<Judged> = answers
        .zip(expected)
        .map(|(answer, expected)| Judged {
            answer,
            expected,
            again: false,
        })
        .collect();
    let mut late: Vec<&mut Judged> = judged.iter_mut().filter(|one| one.is_late()).collect();
    let probes: Vec<Probe> = late.iter().map(|one| one.answer.probe.clone()).collect();
    for (one, outcome) in late.iter_mut().zip(self::outcomes(cluster, &probes).await?) {
        one.answer.outcome = outcome;
        one.again = true;
    }
    Ok(judged)
}

pub(crate) async fn outcomes(cluster: &Cluster, probes: &[Probe]) -> Result<Vec<probe::Outcome>> {
    let attempts = probes
        .iter()
        .map(|probe| cluster.attempt(probe))
        .collect::<Result<Vec<_>>>()?;
    Ok(probe::run(attempts, PATIENCE).await)
}

/// A time for people.
pub(crate) fn shown(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 1000.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{:.2} s", ms / 1000.0)
    }
}

/// Asks again until the answer is yes, or time is up; the time that it took.
pub(crate) async fn until<F: Future<Output = Result<bool>>>(
    patience: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<Option<Duration>> {
    let began = std::time::Instant::now();
    loop {
        if ask().await? {
            return Ok(Some(began.elapsed()));
        }
        if began.elapsed() > patience {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
