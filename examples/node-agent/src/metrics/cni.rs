//! Requests of the CNI plugin, counted and timed.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use async_trait::async_trait;
use ocicat_cni::agent::{Agent, Caller, NetworkRequest, Request};
use ocicat_cni::{AddResult, CniError};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::{Labels, Page};
use crate::attachments::Counts;

/// What requests came to, by verb. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct CniMeters {
    requests: Family<Labels, Counter>,
    times: Family<Labels, Histogram, fn() -> Histogram>,
    /// Further events.
    pub(crate) counts: Counts,
}

impl Default for CniMeters {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            times: Family::new_with_constructor(times),
            counts: Counts::default(),
        }
    }
}

/// Half a millisecond to some thirty seconds.
fn times() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 17))
}

impl CniMeters {
    pub(super) fn note<T>(
        &self,
        verb: &'static str,
        began: Instant,
        outcome: &Result<T, CniError>,
    ) {
        let outcome = match outcome {
            Ok(_) => "ok",
            Err(error) if error.code == CniError::TRY_AGAIN_LATER => "try-again",
            Err(_) => "error",
        };
        let verb = ("verb", verb.to_owned());
        let labels = vec![verb.clone(), ("outcome", outcome.to_owned())];
        self.requests.get_or_create(&labels).inc();
        let times = self.times.get_or_create(&vec![verb]);
        times.observe(began.elapsed().as_secs_f64());
    }

    pub(super) fn show(&self, page: &mut Page) {
        page.0.register(
            "ocicat_cni_requests",
            "Requests of the CNI plugin, by verb and outcome",
            self.requests.clone(),
        );
        page.0.register(
            "ocicat_cni_request_duration_seconds",
            "How long a request took, in seconds",
            self.times.clone(),
        );
        page.total(
            "ocicat_cni_policy_late",
            "Additions that were answered before their policy was in force",
            self.counts.policy_late.load(Ordering::Relaxed),
        );
        page.total(
            "ocicat_cni_abandoned",
            "Additions whose plugin was gone when they were done; they were undone",
            self.counts.abandoned.load(Ordering::Relaxed),
        );
    }
}

/// A server of plugins whose requests are counted.
pub(crate) struct Metered<A> {
    pub(crate) agent: Arc<A>,
    pub(crate) meters: CniMeters,
}

#[async_trait]
impl<A: Agent> Agent for Metered<A> {
    async fn add(
        &self,
        request: Request,
        netns: OwnedFd,
        caller: Caller,
    ) -> Result<AddResult, CniError> {
        let began = Instant::now();
        let outcome = self.agent.add(request, netns, caller).await;
        self.meters.note("add", began, &outcome);
        outcome
    }

    async fn del(&self, request: Request, netns: Option<OwnedFd>) -> Result<(), CniError> {
        let began = Instant::now();
        let outcome = self.agent.del(request, netns).await;
        self.meters.note("del", began, &outcome);
        outcome
    }

    async fn check(&self, request: Request, netns: OwnedFd) -> Result<(), CniError> {
        let began = Instant::now();
        let outcome = self.agent.check(request, netns).await;
        self.meters.note("check", began, &outcome);
        outcome
    }

    async fn gc(&self, request: NetworkRequest) -> Result<(), CniError> {
        let began = Instant::now();
        let outcome = self.agent.gc(request).await;
        self.meters.note("gc", began, &outcome);
        outcome
    }

    async fn status(&self, request: NetworkRequest) -> Result<(), CniError> {
        let began = Instant::now();
        let outcome = self.agent.status(request).await;
        self.meters.note("status", began, &outcome);
        outcome
    }

    async fn abandoned(&self, request: Request, result: AddResult) -> Result<(), CniError> {
        self.agent.abandoned(request, result).await
    }

    async fn ipam_add(&self, request: Request, caller: Caller) -> Result<AddResult, CniError> {
        let began = Instant::now();
        let outcome = self.agent.ipam_add(request, caller).await;
        self.meters.note("ipam-add", began, &outcome);
        outcome
    }

    async fn ipam_del(&self, request: Request) -> Result<(), CniError> {
        let began = Instant::now();
        let outcome = self.agent.ipam_del(request).await;
        self.meters.note("ipam-del", began, &outcome);
        outcome
    }

    async fn ipam_check(&self, request: Request) -> Result<(), CniError> {
        let began = Instant::now();
        let outcome = self.agent.ipam_check(request).await;
        self.meters.note("ipam-check", began, &outcome);
        outcome
    }

    async fn ipam_gc(&self, request: NetworkRequest) -> Result<(), CniError> {
        let began = Instant::now();
        let outcome = self.agent.ipam_gc(request).await;
        self.meters.note("ipam-gc", began, &outcome);
        outcome
    }
}
