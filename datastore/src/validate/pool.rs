//! Pools, reservations and the settings of address management.

use super::Problems;
use super::value::{self, Cidr};
use crate::LEASE_ANNOTATION;
use crate::model::{IpPool, IpReservation, IpamConfig};

const MODES: &[&str] = &["Never", "Always", "CrossSubnet"];
const USES: &[&str] = &["Workload", "Tunnel", "LoadBalancer"];
/// The longest selector of a pool.
const SELECTOR_LENGTH: usize = 1024;

fn is_on(mode: Option<&String>) -> bool {
    mode.is_some_and(|mode| mode == "Always" || mode == "CrossSubnet")
}

pub(super) fn pool(problems: &mut Problems, pool: &IpPool) {
    let spec = &pool.spec;
    if let Some(cidr) = value::cidr(problems, "spec.cidr", &spec.cidr) {
        range(problems, pool, &cidr);
    }
    value::optional(problems, "spec.ipipMode", spec.ipip_mode.as_deref(), MODES);
    value::optional(
        problems,
        "spec.vxlanMode",
        spec.vxlan_mode.as_deref(),
        MODES,
    );
    let assignment = spec.assignment_mode.as_deref();
    value::optional(
        problems,
        "spec.assignmentMode",
        assignment,
        &["Automatic", "Manual"],
    );
    let both = is_on(spec.ipip_mode.as_ref()) && is_on(spec.vxlan_mode.as_ref());
    problems.check(!both, "spec.ipipMode", "IPIP and VXLAN cannot both be on");
    for (field, selector) in [
        ("spec.nodeSelector", &spec.node_selector),
        ("spec.namespaceSelector", &spec.namespace_selector),
    ] {
        value::selector(problems, field, selector.as_deref(), false);
        let length = selector.as_ref().map_or(0, String::len);
        let reason = format!("has {length} characters; {SELECTOR_LENGTH} are the most");
        problems.check(length <= SELECTOR_LENGTH, field, reason);
    }
    uses(problems, pool);
    if let Some(lease) = pool.metadata.annotations.get(LEASE_ANNOTATION) {
        let field = format!("metadata.annotations[{LEASE_ANNOTATION}]");
        let reason = format!("{lease:?} is no number of seconds");
        problems.check(lease.parse::<u64>().is_ok(), &field, reason);
    }
}

fn range(problems: &mut Problems, pool: &IpPool, cidr: &Cidr) {
    let spec = &pool.spec;
    for local in ["169.254.0.0/16", "fe80::/10"] {
        let overlaps = Cidr::parse(local).is_ok_and(|local| local.overlaps(cidr));
        problems.check(
            !overlaps,
            "spec.cidr",
            format!("{cidr} overlaps the link-local {local}"),
        );
    }
    let (default, least, most) = if cidr.is_v4() {
        (26, 20, 32)
    } else {
        (122, 116, 128)
    };
    let size = spec.block_size.unwrap_or(default);
    let reason = format!("{size} is not in {least} to {most}");
    problems.check((least..=most).contains(&size), "spec.blockSize", reason);
    let fits = spec.disabled || cidr.length <= size;
    let reason = format!("{cidr} is smaller than a block of the pool (/{size})");
    problems.check(fits, "spec.cidr", reason);
    let ipip = is_on(spec.ipip_mode.as_ref());
    problems.check(
        !ipip || cidr.is_v4(),
        "spec.ipipMode",
        "IPIP is for IPv4 only",
    );
}

fn uses(problems: &mut Problems, pool: &IpPool) {
    let spec = &pool.spec;
    for (index, used) in spec.allowed_uses.iter().enumerate() {
        value::one_of(problems, &format!("spec.allowedUses[{index}]"), used, USES);
    }
    let for_use = |wanted: &str| spec.allowed_uses.iter().any(|used| used == wanted);
    if for_use("Tunnel") {
        let reason = "a pool for tunnels cannot select namespaces";
        let none = spec
            .namespace_selector
            .as_ref()
            .is_none_or(String::is_empty);
        problems.check(none, "spec.namespaceSelector", reason);
    }
    if !for_use("LoadBalancer") {
        return;
    }
    let alone = spec.allowed_uses.iter().all(|used| used == "LoadBalancer");
    problems.check(
        alone,
        "spec.allowedUses",
        "LoadBalancer excludes other uses",
    );
    let encapsulated = is_on(spec.ipip_mode.as_ref()) || is_on(spec.vxlan_mode.as_ref());
    let field = if is_on(spec.ipip_mode.as_ref()) {
        "spec.ipipMode"
    } else {
        "spec.vxlanMode"
    };
    problems.check(
        !encapsulated,
        field,
        "must be Never in a pool for load balancers",
    );
    let nodes = spec
        .node_selector
        .as_deref()
        .is_none_or(|selector| matches!(selector, "" | "all()"));
    problems.check(
        nodes,
        "spec.nodeSelector",
        "must be all() in a pool for load balancers",
    );
    let reason = "must be false in a pool for load balancers";
    problems.check(!spec.disable_bgp_export, "spec.disableBGPExport", reason);
}

pub(super) fn reservation(problems: &mut Problems, reservation: &IpReservation) {
    for (index, cidr) in reservation.spec.reserved_cidrs.iter().enumerate() {
        value::net(problems, &format!("spec.reservedCIDRs[{index}]"), cidr);
    }
}

pub(super) fn config(problems: &mut Problems, config: &IpamConfig) {
    let spec = &config.spec;
    let reason = "must be true when strictAffinity is false";
    problems.check(
        spec.strict_affinity || spec.auto_allocate_blocks,
        "spec.autoAllocateBlocks",
        reason,
    );
    let capped = spec.max_blocks_per_host.is_some_and(|most| most > 0);
    let reason = "needs strictAffinity";
    problems.check(
        !capped || spec.strict_affinity,
        "spec.maxBlocksPerHost",
        reason,
    );
    let cool = spec.ip_cooldown_seconds.unwrap_or(0);
    let reason = format!("{cool} is not in 0 to 1200");
    problems.check(cool <= 1200, "spec.ipCooldownSeconds", reason);
    let persistence = spec.kube_virt_vm_address_persistence.as_deref();
    let field = "spec.kubeVirtVMAddressPersistence";
    value::optional(problems, field, persistence, &["Enabled", "Disabled"]);
}
