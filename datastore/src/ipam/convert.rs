use std::time::Duration;

use ocicat_ipam::{
    AffinityState, AttributeRecord, Block, BlockAffinity, BlockRecord, Handle, HandleId,
    IpamConfig, Owner, Prefix, Timestamp,
};
use serde_json::Value;

use crate::model;
use crate::object::Object;

/// Why a record cannot be understood: the field and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {reason}")]
pub(super) struct Unsound {
    field: String,
    reason: String,
}

fn unsound(field: &str, reason: impl ToString) -> Unsound {
    Unsound {
        field: field.to_owned(),
        reason: reason.to_string(),
    }
}

/// Whether the first half of a deletion has been done.
pub(super) fn is_deleted(object: &Object) -> bool {
    match object
        .value
        .get("spec")
        .and_then(|spec| spec.get("deleted"))
    {
        Some(Value::Bool(deleted)) => *deleted,
        Some(Value::String(deleted)) => deleted == "true",
        _ => false,
    }
}

pub(super) fn config(spec: &model::IpamConfigSpec) -> IpamConfig {
    let mut config = IpamConfig::default();
    config.strict_affinity = spec.strict_affinity;
    config.auto_allocate_blocks = spec.auto_allocate_blocks;
    config.max_blocks_per_host = spec.max_blocks_per_host.unwrap_or(0);
    config.cooldown = Duration::from_secs(spec.ip_cooldown_seconds.unwrap_or(0).into());
    config
}

pub(super) fn block(stored: &model::IpamBlock) -> Result<Block, Unsound> {
    let spec = &stored.spec;
    let cidr = prefix("spec.cidr", &spec.cidr)?;
    let record = BlockRecord {
        cidr,
        affinity: spec.affinity.clone(),
        affinity_claim_time: time(
            "spec.affinityClaimTime",
            spec.affinity_claim_time.as_deref(),
        )?,
        strict_affinity: spec.strict_affinity,
        allocations: spec
            .allocations
            .iter()
            .map(|place| place.map(|at| at as usize))
            .collect(),
        unallocated: spec.unallocated.clone(),
        attributes: spec
            .attributes
            .iter()
            .map(attribute)
            .collect::<Result<_, _>>()?,
        sequence_number: spec.sequence_number,
        sequence_number_for_allocation: spec.sequence_number_for_allocation.clone(),
        deleted: spec.deleted,
    };
    Block::from_record(record).map_err(|error| unsound("spec", error))
}

pub(super) fn attribute(stored: &model::AllocationAttribute) -> Result<AttributeRecord, Unsound> {
    Ok(AttributeRecord {
        handle_id: stored.handle_id.clone(),
        secondary: stored.secondary.clone(),
        alternate_owner_attrs: stored.alternate_owner_attrs.clone(),
        released_at: time("spec.attributes.releasedAt", stored.released_at.as_deref())?,
    })
}

pub(super) fn store_block(block: &Block, into: &mut model::IpamBlock) {
    let record = block.to_record();
    let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    into.spec = model::IpamBlockSpec {
        cidr: record.cidr.to_string(),
        affinity: record.affinity,
        affinity_claim_time: record.affinity_claim_time.map(|time| time.to_string()),
        allocations: record
            .allocations
            .into_iter()
            .map(|at| at.map(place))
            .collect(),
        unallocated: record.unallocated,
        attributes: record.attributes.into_iter().map(store_attribute).collect(),
        sequence_number: record.sequence_number,
        sequence_number_for_allocation: record.sequence_number_for_allocation,
        strict_affinity: record.strict_affinity,
        deleted: false,
    };
}

fn store_attribute(record: AttributeRecord) -> model::AllocationAttribute {
    model::AllocationAttribute {
        handle_id: record.handle_id,
        secondary: record.secondary,
        alternate_owner_attrs: record.alternate_owner_attrs,
        released_at: record.released_at.map(|time| time.to_string()),
    }
}

pub(super) fn affinity(stored: &model::BlockAffinity) -> Result<BlockAffinity, Unsound> {
    let spec = &stored.spec;
    let owner = match spec.r#type.as_deref() {
        None | Some("" | "host") => Owner::host(&spec.node),
        Some("virtual") => Owner::virtual_owner(&spec.node),
        Some(other) => {
            return Err(unsound(
                "spec.type",
                format!("{other:?} is no type of owner"),
            ));
        }
    };
    let state: AffinityState = spec
        .state
        .parse()
        .map_err(|error| unsound("spec.state", error))?;
    Ok(BlockAffinity {
        owner,
        block: prefix("spec.cidr", &spec.cidr)?,
        state,
    })
}

pub(super) fn store_affinity(claim: &BlockAffinity, into: &mut model::BlockAffinity) {
    into.spec = model::BlockAffinitySpec {
        state: claim.state.to_string(),
        node: claim.owner.name().to_owned(),
        r#type: Some(claim.owner.kind().to_owned()),
        cidr: claim.block.to_string(),
        deleted: false,
    };
}

pub(super) fn handle(stored: &model::IpamHandle) -> Result<Handle, Unsound> {
    let mut handle = Handle::new(HandleId::new(&stored.spec.handle_id));
    for (block, count) in &stored.spec.block {
        handle.increment(prefix("spec.block", block)?, *count);
    }
    Ok(handle)
}

pub(super) fn store_handle(handle: &Handle, into: &mut model::IpamHandle) {
    let blocks = handle
        .blocks
        .iter()
        .map(|(block, count)| (block.to_string(), *count));
    into.spec = model::IpamHandleSpec {
        handle_id: handle.id.to_string(),
        block: blocks.collect(),
        deleted: false,
    };
}

fn prefix(field: &str, text: &str) -> Result<Prefix, Unsound> {
    text.parse().map_err(|error| unsound(field, error))
}

fn time(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, Unsound> {
    text.map(str::parse)
        .transpose()
        .map_err(|error| unsound(field, error))
}
