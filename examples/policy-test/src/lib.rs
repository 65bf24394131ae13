//! Tests of network policy without a cluster: manifests and cases in, what fails out.
//!
//! A file of cases says who should reach whom:
//!
//! ```yaml
//! cases:
//!   - {name: the shop reads its database, from: shop/web, to: shop/db, port: 5432, expect: allow}
//!   - {name: nobody else does, from: 192.0.2.1, to: shop/db, port: 5432, expect: deny, by: default}
//! ```
//!
//! `from` and `to` are `namespace/pod` or an address; `protocol` is `tcp` (when absent), `udp`, `sctp`, `icmp` (an echo
//! request) or a number. `by` names who has to decide: `tier/policy`, `tier/namespace/policy`, `tier` for a tier's end,
//! `profile/kns.NAMESPACE` where no policy selects the pod.
//!
//! The manifests are those that would be applied: pods as Kubernetes' Pods or Calico's WorkloadEndpoints, and the
//! policies, sets and namespaces. [`Cluster`] fills in what an API server and a scheduler would.
//!
//! `ocicat-policy-test --manifests FOLDER CASES` exits with 0 when every case holds, 4 when one does not, and 2 when the
//! files cannot be read.

mod case;
mod cluster;
mod report;

pub use case::{Case, Expect, read};
pub use cluster::Cluster;
pub use report::{Outcome, Report};
