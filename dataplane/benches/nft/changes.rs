//! Small changes in a large table, and the same messages without us.

use std::time::{Duration, Instant};

use ocicat_dataplane::State;
use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::{PolicyId, Set, SetId};

use crate::cluster::{address, cluster, policy, use_set, workload};
use crate::floor::{Floor, any_generation};
use crate::{in_namespace, median, microseconds};

pub(crate) fn bench() {
    let mut state = cluster(5, false);
    let many = (0..100_000_u32).map(|n| address(0x0a80_0000 + n));
    state.sets.insert(SetId::new("s:many"), Set::new(many));
    use_set(&mut state, "s:many");
    let mut table = Table::open().unwrap();
    table.record();
    table.apply(&state).unwrap();
    // A table like ours in another namespace, where the same messages do the same work.
    let mut floor = in_namespace(Floor::open);
    for datagram in table.recorded() {
        floor.send(&any_generation(datagram));
    }
    let mut same = Vec::new();
    for _ in 0..1_000 {
        let start = Instant::now();
        assert_eq!(table.apply(&state).unwrap().changed, 0);
        same.push(start.elapsed());
    }
    println!(
        "{{\"bench\":\"unchanged state\",\"us_p50\":{}}}",
        microseconds(median(same))
    );
    let pair = &mut (table, floor);
    let mut number = 0;
    compare("one element, 100k elsewhere", pair, &mut state, |state| {
        number += 1;
        let set = state.sets.get_mut(&SetId::new("s:0")).unwrap();
        set.insert(address(0x0b00_0000 + number));
    });
    let mut number = 0;
    compare("one policy replaced", pair, &mut state, |state| {
        // All but the first, which uses the 100k.
        let which = number % 199 + 1;
        let id = PolicyId::new(&format!("np/default/default/{which}"));
        let policy = policy(usize::from(which), 1_000 + number);
        state.policies.insert(id, policy);
        number += 1;
    });
    let mut number = 5_000;
    compare("one endpoint added", pair, &mut state, |state| {
        let (name, pod) = workload(number, 5, false);
        state.workloads.insert(name, pod);
        number += 1;
    });
}

/// Prints what a change takes: by [`Table::apply`], and its messages alone.
fn compare(
    what: &str,
    (table, floor): &mut (Table, Floor),
    state: &mut State,
    mut change: impl FnMut(&mut State),
) {
    let (mut ours, mut kernel): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        change(state);
        let start = Instant::now();
        assert!(table.apply(state).unwrap().changed > 0);
        ours.push(start.elapsed());
        let sent: Vec<Vec<u8>> = table.recorded().into_iter().map(any_generation).collect();
        kernel.push(sent.iter().map(|datagram| floor.send(datagram)).sum());
    }
    println!(
        "{{\"bench\":\"{what}\",\"us_p50\":{},\"floor_us_p50\":{}}}",
        microseconds(median(ours)),
        microseconds(median(kernel)),
    );
}
