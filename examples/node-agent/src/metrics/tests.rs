use std::collections::BTreeSet;

use ocicat_cni::CniError;

use super::*;
use crate::control::{PolicyCount, RuleCount};

fn page() -> String {
    let figures = Figures {
        in_sync: true,
        local_endpoints: 3,
        first_ready: Some(Duration::from_millis(1500)),
        node: "n1".to_owned(),
        pools: vec![PoolUse {
            pool: "a".to_owned(),
            size: 256.0,
            blocks: 2,
            in_use: 5,
            borrowed: 1,
        }],
        peers: vec![Peer {
            address: "10.0.0.2".to_owned(),
            kind: "global".to_owned(),
            established: true,
            ..Peer::default()
        }],
        ..Figures::default()
    };
    let meters = Meters::default();
    meters.apply.observe(0.01);
    meters.cni.counts.abandoned.fetch_add(2, Ordering::Relaxed);
    let late: Result<(), CniError> = Err(CniError::try_again("not ready"));
    let began = std::time::Instant::now();
    meters.cni.note("add", began, &late);
    meters.cni.note("add", began, &Ok(()));
    let counters = PolicyCounters {
        policies: vec![PolicyCount {
            policy: "np/shop/default/a".to_owned(),
            direction: "ingress".to_owned(),
            rules: vec![RuleCount {
                packets: 7,
                ..RuleCount::default()
            }],
        }],
        drops: vec![RuleCount {
            rule: "no policy".to_owned(),
            packets: 4,
            ..RuleCount::default()
        }],
        chains: Some(12),
        rules: Some(30),
    };
    written(&figures, &meters, &Collected::default(), &counters).unwrap()
}

#[test]
fn a_page_has_felixs_names_and_labels() {
    let text = page();
    for line in [
        "felix_active_local_endpoints 3\n",
        "felix_resync_state 3\n",
        "felix_int_dataplane_apply_time_seconds_count 1\n",
        "felix_int_dataplane_initial_resync_time_seconds 1.5\n",
        "ipam_blocks{ippool=\"a\",node=\"n1\"} 2\n",
        "ipam_allocations_in_use{ippool=\"a\",node=\"n1\"} 5\n",
        "ipam_allocations_borrowed{ippool=\"a\",node=\"n1\"} 1\n",
        "ipam_ippool_size{ippool=\"a\"} 256.0\n",
        "ocicat_cni_abandoned_total 2\n",
        "ocicat_cni_requests_total{verb=\"add\",outcome=\"try-again\"} 1\n",
        "ocicat_cni_request_duration_seconds_count{verb=\"add\"} 2\n",
        "ocicat_bgp_peer_established{peer=\"10.0.0.2\",type=\"global\"} 1\n",
        "ocicat_policy_packets{policy=\"np/shop/default/a\",direction=\"ingress\"} 7\n",
        "ocicat_applies_total 0\n",
        "felix_nft_chains{ip_version=\"inet\",table=\"ocicat\"} 12\n",
        "felix_nft_rules{ip_version=\"inet\",table=\"ocicat\"} 30\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

/// Every metric is in the README's table, and nothing else is.
#[test]
fn the_documents_name_every_metric() {
    let text = page();
    let served: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let readme = include_str!("../../README.md");
    let section = readme.split("## Metrics").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let documented: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(served, documented);
}
