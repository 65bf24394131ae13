//! What passes between the node's speaker and its peers, beside what the RFCs say.

use ocicat_bgp::{Attributes, Community, Filter, FilterPeer, Prefix, Verdict};

/// Marks what came from the mesh. It is put on at import and taken off at export, so that nobody outside sees it.
const FROM_MESH: Community = Community(0xfffe_0001);

/// The MED with which a node passes on what another node of its AS has: worse than the other's own announcement,
/// which has none (0, RFC 4271 section 9.1.2.2 c), and still a way where the other has no session with the router.
const PASSED_ON: u32 = 1000;

/// Import from nodes of the mesh: marks.
#[derive(Debug)]
pub(crate) struct Mesh;

impl Filter for Mesh {
    fn judge(&self, _: &FilterPeer, _: &Prefix, attributes: &Attributes) -> Verdict {
        Verdict::Replace(attributes.edit().community(FROM_MESH).build())
    }

    fn looks_at_prefix(&self) -> bool {
        false
    }
}

/// Export to peers outside the AS: what came from the mesh is worse than what is this node's own.
#[derive(Debug)]
pub(crate) struct Outside;

impl Filter for Outside {
    fn judge(&self, _: &FilterPeer, _: &Prefix, attributes: &Attributes) -> Verdict {
        if !attributes
            .communities()
            .any(|community| community == FROM_MESH)
        {
            return Verdict::Accept;
        }
        let edited = attributes
            .edit()
            .retain_communities(|community| *community != FROM_MESH)
            .med(PASSED_ON);
        Verdict::Replace(edited.build())
    }

    fn looks_at_prefix(&self) -> bool {
        false
    }
}
