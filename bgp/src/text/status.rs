use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::attributes::{AsPath, Attributes, Origin};
use crate::session::DownReason;

impl Serialize for DownReason {
    /// In words, and the codes of the NOTIFICATION if there was one.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (by, notification) = match self {
            Self::Sent(notification) => (Some("us"), Some(notification)),
            Self::Received(notification) => (Some("peer"), Some(notification)),
            _ => (None, None),
        };
        let mut out = serializer.serialize_struct("DownReason", 4)?;
        out.serialize_field("text", &self.to_string())?;
        out.serialize_field("by", &by)?;
        out.serialize_field("code", &notification.map(|n| n.code))?;
        out.serialize_field("subcode", &notification.map(|n| n.subcode))?;
        out.end()
    }
}

impl Serialize for AsPath<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Attributes {
    /// What has a name; lists that are empty are there all the same.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let origin = match self.origin() {
            Origin::Igp => "igp",
            Origin::Egp => "egp",
            Origin::Incomplete => "incomplete",
        };
        let extended = self.extended_communities().map(u64::from_be_bytes);
        let extended: Vec<_> = extended.map(|value| format!("{value:#018x}")).collect();
        let mut out = serializer.serialize_struct("Attributes", 11)?;
        out.serialize_field("origin", origin)?;
        out.serialize_field("as_path", &self.as_path())?;
        out.serialize_field("next_hop", &self.next_hop())?;
        out.serialize_field("med", &self.med())?;
        out.serialize_field("local_pref", &self.local_pref())?;
        out.serialize_field("communities", &self.communities().collect::<Vec<_>>())?;
        let large: Vec<_> = self.large_communities().collect();
        out.serialize_field("large_communities", &large)?;
        out.serialize_field("extended_communities", &extended)?;
        out.serialize_field("originator_id", &self.originator_id())?;
        let clusters: Vec<_> = self.cluster_list().collect();
        out.serialize_field("cluster_list", &clusters)?;
        out.serialize_field("only_to_customer", &self.only_to_customer())?;
        out.end()
    }
}
