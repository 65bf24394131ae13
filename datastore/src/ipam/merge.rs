use ocicat_ipam::{AttributeRecord, Block};
use serde_json::{Map, Value};

use super::convert;
use crate::model;
use crate::object::Object;

/// The fields of a block's specification that are written here.
const FIELDS: [&str; 10] = [
    "cidr",
    "affinity",
    "affinityClaimTime",
    "allocations",
    "unallocated",
    "attributes",
    "sequenceNumber",
    "sequenceNumberForAllocation",
    "strictAffinity",
    "deleted",
];

/// The fields of a holder's record that are written here.
const ATTRIBUTE_FIELDS: [&str; 4] = [
    "handle_id",
    "secondary",
    "alternateOwnerAttrs",
    "releasedAt",
];

/// A block as the next version of the object that was read: fields that nobody here knows stay, in the specification
/// and in the record of each holder that is still there.
///
/// Blocks are written for every address. So this does by hand what [`Versioned::merged`](crate::Versioned::merged) does
/// for any resource, without reading the old version again.
pub(super) fn block(origin: &Object, block: &Block) -> Object {
    let mut value = Map::new();
    let mut spec = Map::new();
    let mut holders = Vec::new();
    for (key, member) in origin.value.as_object().into_iter().flatten() {
        if key != "spec" {
            value.insert(key.clone(), member.clone());
            continue;
        }
        for (field, member) in member.as_object().into_iter().flatten() {
            if field == "attributes" {
                holders = strangers(member);
            }
            if !FIELDS.contains(&field.as_str()) {
                spec.insert(field.clone(), member.clone());
            }
        }
    }
    write_spec(&mut spec, block, &holders);
    value.insert("spec".to_owned(), Value::Object(spec));
    Object {
        kind: origin.kind,
        namespace: origin.namespace.clone(),
        name: origin.name.clone(),
        value: Value::Object(value),
        revision: origin.revision,
    }
}

fn write_spec(spec: &mut Map<String, Value>, block: &Block, holders: &[(AttributeRecord, Value)]) {
    let record = block.to_record();
    let mut set = |field: &str, value: Value| drop(spec.insert(field.to_owned(), value));
    set("cidr", record.cidr.to_string().into());
    if let Some(affinity) = record.affinity {
        set("affinity", affinity.into());
    }
    if let Some(time) = record.affinity_claim_time {
        set("affinityClaimTime", time.to_string().into());
    }
    set("allocations", record.allocations.into());
    set("unallocated", record.unallocated.into());
    let attribute = |record: AttributeRecord| {
        let known = holders.iter().find(|(holder, _)| *holder == record);
        known.map_or_else(|| write_attribute(record), |(_, value)| value.clone())
    };
    set(
        "attributes",
        record.attributes.into_iter().map(attribute).collect(),
    );
    set("sequenceNumber", record.sequence_number.into());
    if !record.sequence_number_for_allocation.is_empty() {
        let numbers = record.sequence_number_for_allocation.into_iter();
        let numbers = numbers.map(|(ordinal, number)| (ordinal, number.into()));
        set(
            "sequenceNumberForAllocation",
            Value::Object(numbers.collect()),
        );
    }
    set("strictAffinity", record.strict_affinity.into());
}

fn write_attribute(record: AttributeRecord) -> Value {
    let texts = |texts: std::collections::BTreeMap<String, String>| {
        Value::Object(
            texts
                .into_iter()
                .map(|(key, text)| (key, text.into()))
                .collect(),
        )
    };
    let mut value = Map::new();
    if let Some(handle) = record.handle_id {
        value.insert("handle_id".to_owned(), handle.into());
    }
    if !record.secondary.is_empty() {
        value.insert("secondary".to_owned(), texts(record.secondary));
    }
    if !record.alternate_owner_attrs.is_empty() {
        let attributes = texts(record.alternate_owner_attrs);
        value.insert("alternateOwnerAttrs".to_owned(), attributes);
    }
    if let Some(time) = record.released_at {
        value.insert("releasedAt".to_owned(), time.to_string().into());
    }
    Value::Object(value)
}

/// The holders' records with fields that nobody here knows.
fn strangers(attributes: &Value) -> Vec<(AttributeRecord, Value)> {
    let strange = |value: &&Value| {
        let fields = value.as_object().into_iter().flatten();
        fields
            .into_iter()
            .any(|(field, _)| !ATTRIBUTE_FIELDS.contains(&field.as_str()))
    };
    let read = |value: &Value| {
        let stored: model::AllocationAttribute = serde_json::from_value(value.clone()).ok()?;
        Some((convert::attribute(&stored).ok()?, value.clone()))
    };
    attributes
        .as_array()
        .into_iter()
        .flatten()
        .filter(strange)
        .filter_map(read)
        .collect()
}
