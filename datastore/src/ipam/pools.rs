use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ocicat_ipam::{AssignmentMode, Audience, Family, Pool, Prefix, Use};
use ocicat_selectors::Selector;

use super::StoreIpam;
use crate::LEASE_ANNOTATION;
use crate::error::StoreError;
use crate::model::{IpPool, IpReservation, Node, Profile, names};

/// What labels of a namespace begin with in its profile.
const NAMESPACE_LABEL: &str = "pcns.";

type Labels = BTreeMap<String, String>;

impl StoreIpam {
    /// Every pool that can be understood, with its selectors decided.
    pub(super) async fn pools_for(&self, audience: &Audience) -> Result<Vec<Pool>, StoreError> {
        let listed = self.store.list::<IpPool>().await?;
        let selects = |pool: &IpPool| {
            let spec = &pool.spec;
            spec.node_selector.is_some() || spec.namespace_selector.is_some()
        };
        let (mut node, mut namespace) = (Labels::new(), Labels::new());
        if listed.iter().any(|pool| selects(pool)) {
            node = self.node_labels(audience).await?;
            namespace = self.namespace_labels(audience).await?;
        }
        let mut problems: BTreeSet<_> = listed.malformed.iter().map(ToString::to_string).collect();
        let mut pools = Vec::with_capacity(listed.items.len());
        for stored in &listed.items {
            match pool(&stored.value, &node, &namespace) {
                Ok(pool) => match lease(&stored.value) {
                    Ok(None) => pools.push(pool),
                    Ok(Some(lease)) => pools.push(pool.with_lease(lease)),
                    // An address that is not kept harms less than a pool that serves nobody.
                    Err(problem) => {
                        let name = &stored.value.metadata.name;
                        problems.insert(format!("IPPool {name}: {problem}"));
                        pools.push(pool);
                    }
                },
                Err(problem) => {
                    let name = &stored.value.metadata.name;
                    problems.insert(format!("IPPool {name}: {problem}"));
                }
            }
        }
        self.note("IPPool", problems);
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pools)
    }

    /// Every reserved range. A reservation that cannot be understood is what it last was.
    pub(super) async fn reserved(&self) -> Result<Vec<Prefix>, StoreError> {
        let listed = self.store.list::<IpReservation>().await?;
        let mut problems: BTreeSet<_> = listed.malformed.iter().map(ToString::to_string).collect();
        let mut memory = self.memory();
        let mut current = BTreeMap::new();
        for error in &listed.malformed {
            if let StoreError::Malformed { key, .. } = error {
                let last = memory
                    .reservations
                    .get(&key.name)
                    .cloned()
                    .unwrap_or_default();
                current.insert(key.name.clone(), last);
            }
        }
        for stored in &listed.items {
            let name = &stored.value.metadata.name;
            let mut ranges = Vec::new();
            for text in &stored.value.spec.reserved_cidrs {
                match range(text) {
                    Some(range) => ranges.push(range),
                    None => {
                        let problem = "is no range and no address";
                        let field = "spec.reservedCIDRs";
                        problems
                            .insert(format!("IPReservation {name}: {field}: {text:?} {problem}"));
                        let last = memory.reservations.get(name);
                        ranges.extend(last.into_iter().flatten().copied());
                    }
                }
            }
            ranges.sort_unstable();
            ranges.dedup();
            current.insert(name.clone(), ranges);
        }
        memory.reservations = current;
        let reserved = memory.reservations.values().flatten().copied().collect();
        drop(memory);
        self.note("IPReservation", problems);
        Ok(reserved)
    }

    async fn node_labels(&self, audience: &Audience) -> Result<Labels, StoreError> {
        let Some(node) = audience.owner.node().filter(|name| !name.is_empty()) else {
            return Ok(Labels::new());
        };
        let found = self.store.get::<Node>(node).await?;
        Ok(found.map_or_else(Labels::new, |node| node.value.metadata.labels))
    }

    async fn namespace_labels(&self, audience: &Audience) -> Result<Labels, StoreError> {
        let Some(namespace) = &audience.namespace else {
            return Ok(Labels::new());
        };
        let found = self
            .store
            .get::<Profile>(names::namespace_profile(namespace))
            .await?;
        let labels = found.map_or_else(Labels::new, |profile| profile.value.spec.labels_to_apply);
        let own = |(key, value): (String, String)| {
            Some((key.strip_prefix(NAMESPACE_LABEL)?.to_owned(), value))
        };
        Ok(labels.into_iter().filter_map(own).collect())
    }

    /// Replaces the known problems of one kind.
    fn note(&self, kind: &str, problems: BTreeSet<String>) {
        let mut memory = self.memory();
        memory.problems.retain(|problem| !problem.starts_with(kind));
        memory.problems.extend(problems);
    }
}

/// A pool as the given labels see it, or the field that cannot be understood.
fn pool(stored: &IpPool, node: &Labels, namespace: &Labels) -> Result<Pool, String> {
    let spec = &stored.spec;
    let cidr: Prefix = spec
        .cidr
        .parse()
        .map_err(|error| format!("spec.cidr: {error}"))?;
    let mut pool = Pool::new(&stored.metadata.name, cidr);
    let size = spec
        .block_size
        .unwrap_or_else(|| Pool::default_block_size(Family::of(cidr.address())));
    pool = pool
        .with_block_size(size)
        .map_err(|error| format!("spec.blockSize: {error}"))?;
    pool.assignment_mode = match spec.assignment_mode.as_deref() {
        None | Some("" | "Automatic") => AssignmentMode::Automatic,
        Some("Manual") => AssignmentMode::Manual,
        Some(other) => {
            return Err(format!(
                "spec.assignmentMode: {other:?} is no assignment mode"
            ));
        }
    };
    if !spec.allowed_uses.is_empty() {
        pool.uses = spec
            .allowed_uses
            .iter()
            .map(|text| use_of(text))
            .collect::<Result<_, _>>()?;
    }
    pool.disabled = spec.disabled || !is_allocatable(stored);
    pool.selects_owner = matches("spec.nodeSelector", spec.node_selector.as_deref(), node)?;
    let selector = spec.namespace_selector.as_deref();
    pool.selects_namespace = matches("spec.namespaceSelector", selector, namespace)?;
    Ok(pool)
}

fn lease(stored: &IpPool) -> Result<Option<Duration>, String> {
    let Some(text) = stored.metadata.annotations.get(LEASE_ANNOTATION) else {
        return Ok(None);
    };
    let seconds = text.parse().map_err(|_| {
        format!("metadata.annotations.{LEASE_ANNOTATION}: {text:?} is no number of seconds")
    })?;
    Ok(Some(Duration::from_secs(seconds)))
}

fn use_of(text: &str) -> Result<Use, String> {
    match text {
        "Workload" => Ok(Use::Workload),
        "Tunnel" => Ok(Use::Tunnel),
        "LoadBalancer" => Ok(Use::LoadBalancer),
        _ => Err(format!("spec.allowedUses: {text:?} is no use of addresses")),
    }
}

fn is_allocatable(stored: &IpPool) -> bool {
    let conditions = stored.status.iter().flat_map(|status| &status.conditions);
    let refused = conditions
        .into_iter()
        .any(|c| c.r#type == "Allocatable" && c.status == "False");
    !refused && stored.metadata.deletion_timestamp.is_none()
}

fn matches(field: &str, selector: Option<&str>, labels: &Labels) -> Result<bool, String> {
    let Some(selector) = selector else {
        return Ok(true);
    };
    let selector: Selector = selector
        .parse()
        .map_err(|error| format!("{field}: {error}"))?;
    Ok(selector.matches(labels))
}

/// A range, with or without host bits, or a single address.
fn range(text: &str) -> Option<Prefix> {
    match text.split_once('/') {
        None => text.parse::<IpAddr>().ok().map(Prefix::host),
        Some((address, length)) => {
            Prefix::containing(address.parse().ok()?, length.parse().ok()?).ok()
        }
    }
}
