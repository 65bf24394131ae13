//! Annotations of our own on Calico's objects: what has no field of Calico's, so that its tools and its definitions in
//! Kubernetes let it be.

/// On an `IPPool`: for how many seconds after its release an address is kept for the workload that had it, such as
/// `3600`. Without it, and with `0`, an address is free for anybody.
pub const LEASE_ANNOTATION: &str = "ipam.ocicat/lease-seconds";
