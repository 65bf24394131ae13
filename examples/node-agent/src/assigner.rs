//! One batch of addresses at a time: requests that come while the last batch is being written make up the next one.

use std::sync::Arc;
use std::time::SystemTime;

use ocicat_ipam::{AssignError, AssignRequest, Assignment, Ipam};
use tokio::sync::{mpsc, oneshot};

/// As many requests make one batch at most: as many pods as kubelet puts on a node.
const BATCH: usize = 110;

/// Asks for addresses, from any task.
#[derive(Clone, Debug)]
pub(crate) struct Assigner {
    jobs: mpsc::Sender<Job>,
}

#[derive(Debug)]
struct Job {
    request: AssignRequest,
    answer: oneshot::Sender<Result<Assignment, AssignError>>,
}

impl Assigner {
    /// An assigner, and the future that does its work.
    pub(crate) fn new(ipam: Arc<Ipam>) -> (Self, impl Future<Output = ()> + Send) {
        let (jobs, queue) = mpsc::channel(BATCH);
        (Self { jobs }, work(ipam, queue))
    }

    /// Addresses for one request; `None` when the agent is stopping.
    pub(crate) async fn assign(
        &self,
        request: AssignRequest,
    ) -> Option<Result<Assignment, AssignError>> {
        let (answer, result) = oneshot::channel();
        self.jobs.send(Job { request, answer }).await.ok()?;
        result.await.ok()
    }
}

async fn work(ipam: Arc<Ipam>, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut jobs, BATCH).await > 0 {
        let (requests, answers): (Vec<_>, Vec<_>) =
            jobs.drain(..).map(|job| (job.request, job.answer)).unzip();
        let results = ipam.assign_many(&requests, SystemTime::now()).await;
        for ((request, answer), result) in requests.into_iter().zip(answers).zip(results) {
            // Nobody waits any more: what was taken goes back.
            if let Err(Ok(_)) = answer.send(result)
                && let Err(error) = ipam
                    .release_handle(&request.handle, SystemTime::now())
                    .await
            {
                tracing::warn!(handle = %request.handle, %error, "an address that nobody took is left for the collector");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ocicat_ipam::{BlockAffine, MemoryStore, Owner, Pool};

    use super::*;

    #[tokio::test]
    async fn requests_at_once_get_an_address_each() {
        let store = MemoryStore::with_pools([Pool::new("p", "10.0.0.0/24".parse().unwrap())]);
        let ipam = Arc::new(Ipam::new(Arc::new(store), Box::new(BlockAffine)));
        let (assigner, work) = Assigner::new(Arc::clone(&ipam));
        let work = tokio::spawn(work);
        let mut pods = tokio::task::JoinSet::new();
        for pod in 0..100 {
            let assigner = assigner.clone();
            let request =
                AssignRequest::new(Owner::host("node1"), format!("net.{pod}").as_str()).v4(1);
            pods.spawn(async move { assigner.assign(request).await.unwrap().unwrap() });
        }
        let mut addresses = std::collections::BTreeSet::new();
        while let Some(assignment) = pods.join_next().await {
            addresses.extend(assignment.unwrap().addresses.iter().map(|one| one.address));
        }
        assert_eq!(addresses.len(), 100);
        drop(assigner);
        work.await.unwrap();
    }
}
