//! The Kubernetes API as a store: in the double, and in a real API server where `OCICAT_TEST_KUBECONFIG` names one.

#[path = "kubernetes/double.rs"]
mod double;
#[path = "kubernetes/kit.rs"]
mod kit;
#[path = "kubernetes/natives.rs"]
mod natives;
#[path = "kubernetes/raw.rs"]
mod raw;
#[path = "kubernetes/records.rs"]
mod records;
#[path = "kubernetes/same.rs"]
mod same;
#[path = "kubernetes/store.rs"]
mod store;
