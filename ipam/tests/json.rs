//! Calico's JSON, field for field.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ocicat_ipam::{
    AffinityState, AffinityValue, Allocation, Block, BlockDefect, BlockRecordError, HandleId,
    HandleValue, IpamConfig, Ordinal, Owner,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_443_480 + seconds)
}

fn stored() -> Value {
    json!({
        "cidr": "10.0.0.0/30",
        "affinity": "host:node1",
        "affinity_claim_time": "2026-11-23T14:18:00Z",
        "strictAffinity": false,
        "allocations": [0, 0, null, 1],
        "unallocated": [2],
        "attributes": [
            {"handle_id": "net.1", "secondary": {"namespace": "shop", "node": "node1", "pod": "web"}},
            {"releasedAt": "2026-11-23T14:18:10Z"}
        ],
        "sequenceNumber": 1_795_443_480_000_000_007_u64,
        "sequenceNumberForAllocation": {"0": 5, "1": 6, "3": 7},
        "deleted": false
    })
}

#[test]
fn a_block_is_read_and_written_as_it_was() {
    let block: Block = serde_json::from_value(stored()).unwrap();
    assert!(block.defects().is_empty());
    assert_eq!(block.owner(), Some(&Owner::host("node1")));
    assert_eq!(block.claimed_at(), Some(at(0)));
    assert_eq!((block.held_count(), block.free_count()), (2, 1));
    assert_eq!(block.sequence_of(Ordinal::new(1)), Some(6));
    let one = Ordinal::new(1);
    assert_eq!((u16::from(one), usize::from(one)), (one.value(), 1));
    assert_eq!(serde_json::to_value(&block).unwrap(), stored());
}

#[test]
fn what_old_versions_left_out_has_its_meaning() {
    let old = json!({
        "cidr": "fd00::/127",
        "affinity": null,
        "allocations": [null, null],
        "unallocated": [1, 0],
        "attributes": [],
    });
    let block: Block = serde_json::from_value(old).unwrap();
    assert_eq!(
        (block.owner(), block.sequence(), block.is_empty()),
        (None, 0, true)
    );
    let order: Vec<_> = block.free().map(Ordinal::value).collect();
    assert_eq!(order, [1, 0]);
    let value: AffinityValue = serde_json::from_str("{}").unwrap();
    assert_eq!(value.state, AffinityState::Confirmed);
    let value: AffinityValue = serde_json::from_str(r#"{"state":""}"#).unwrap();
    assert_eq!(value.state, AffinityState::Confirmed);
    let pending = AffinityValue {
        state: AffinityState::PendingDeletion,
        deleted: false,
    };
    let text = serde_json::to_string(&pending).unwrap();
    assert_eq!(text, r#"{"state":"pendingDeletion","deleted":false}"#);
    let handle: HandleValue = serde_json::from_str(r#"{"block":{"10.0.0.0/26":2}}"#).unwrap();
    let text = serde_json::to_string(&handle).unwrap();
    assert_eq!(text, r#"{"block":{"10.0.0.0/26":2},"deleted":false}"#);
    let config: IpamConfig = serde_json::from_str("{}").unwrap();
    assert_eq!(config, IpamConfig::default());
    let text = r#"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4}"#;
    let config: IpamConfig = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&config).unwrap(), text);
}

#[test]
fn defects_are_named_and_never_give_an_address_twice() {
    let mut bad = stored();
    bad["allocations"] = json!([0, 9, null, null]);
    bad["unallocated"] = json!([0, 2, 2, 7]);
    let block: Block = serde_json::from_value(bad).unwrap();
    let expected = [
        BlockDefect::NoRecord(Ordinal::new(1)),
        BlockDefect::FreeAndHeld(Ordinal::new(0)),
        BlockDefect::BadFree(2),
        BlockDefect::BadFree(7),
        BlockDefect::NeitherFreeNorHeld(Ordinal::new(3)),
    ];
    assert_eq!(block.defects(), expected);
    let free: Vec<_> = block.free().map(Ordinal::value).collect();
    assert_eq!(free, [2, 3]);
    let again: Block = serde_json::from_value(serde_json::to_value(&block).unwrap()).unwrap();
    assert!(again.defects().is_empty());
    for (field, value) in [
        ("cidr", json!("10.0.0.0/8")),
        ("cidr", json!("10.0.0.1/30")),
        ("affinity", json!("node1")),
        ("allocations", json!([null])),
        ("allocations", json!([-1, null, null, null])),
    ] {
        let mut bad = stored();
        bad[field] = value;
        assert!(serde_json::from_value::<Block>(bad).is_err(), "{field}");
    }
    let short = BlockRecordError::Length {
        expected: 4,
        found: 1,
    };
    assert_eq!(short.to_string(), "allocations: 1 entries for 4 addresses");
}

proptest! {
    #[test]
    fn any_history_survives_storage(
        bits in 0_u8..=8,
        steps in prop::collection::vec((any::<bool>(), 0_u16..256, 0_usize..5), 0..120),
    ) {
        let cidr = ocicat_ipam::Prefix::containing("10.0.0.0".parse().unwrap(), 32 - bits).unwrap();
        let mut block = Block::new(cidr, Owner::host("n"), at(0)).unwrap();
        let holders: Vec<_> = (0..5)
            .map(|n| {
                let attributes = BTreeMap::from([("pod".to_owned(), n.to_string())]);
                Arc::new(Allocation::new(HandleId::new(&format!("h{}", n / 2)), attributes))
            })
            .collect();
        for (moment, (take, ordinal, holder)) in steps.into_iter().enumerate() {
            let ordinal = Ordinal::new(ordinal);
            let was_free = block.is_free(ordinal);
            block.advance();
            if take {
                prop_assert_eq!(block.take(ordinal, &holders[holder]), was_free);
            } else {
                let cooldown = Duration::from_secs(60 * (holder as u64 % 2));
                block.release(ordinal, at(moment as u64), cooldown);
            }
            let sum = block.free_count() + block.held_count();
            prop_assert!(sum <= block.size());
        }
        let back: Block = serde_json::from_value(serde_json::to_value(&block).unwrap()).unwrap();
        prop_assert!(back.defects().is_empty());
        prop_assert_eq!(back, block);
    }
}
