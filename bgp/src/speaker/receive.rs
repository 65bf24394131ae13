use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::SpeakerConfig;
use crate::attributes::{AsPath, Attributes, Community, NextHop, parts};
use crate::filter::{Filter, FilterPeer, Verdict};
use crate::identity::PeerId;
use crate::number::{AsNumber, Families, Family};
use crate::peer::{PeerConfig, Role};
use crate::rib::{Context, Learned, Path, Rib, SetId, Table};
use crate::session::Negotiated;
use crate::wire::{
    AttributeContext, Canonical, Key, Nlri, Notification, UpdateContext, V4, V6, kind, parse,
};

/// The way from a peer's UPDATEs into the RIB.
pub(super) struct Intake {
    peer: FilterPeer,
    source: u16,
    local_as: AsNumber,
    speaker_as: AsNumber,
    router_id: Ipv4Addr,
    cluster_id: Ipv4Addr,
    allow_own_as: u8,
    enforce_first_as: bool,
    /// What we are to the peer (RFC 9234).
    role: Option<Role>,
    max_prefixes: u32,
    filter: Option<Arc<dyn Filter>>,
    /// RFC 8212: nothing is taken without an import filter.
    needs_policy: bool,
    /// Our address on the session: no next hop for what the peer sends.
    pub(super) local: Option<IpAddr>,
    /// Routes in the RIB, by family.
    pub(super) routes: [u32; 2],
    /// Families whose End-of-RIB has come and has not been dealt with.
    pub(super) ended: Families,
    pub(super) updates: u64,
    pub(super) malformed: u64,
    /// The host has been told that the limit is near.
    warned: bool,
    pub(super) last_malformed: Option<Notification>,
}

impl Intake {
    pub(super) fn new(id: PeerId, config: &PeerConfig, speaker: &SpeakerConfig) -> Self {
        let local_as = config.local_as.unwrap_or(speaker.as_number);
        let external = config.peer_as != local_as;
        Self {
            peer: FilterPeer {
                id,
                interface: config.interface.clone(),
                ..FilterPeer::new(config.address, config.peer_as, external)
            },
            source: id.source(),
            local_as,
            speaker_as: speaker.as_number,
            router_id: speaker.router_id,
            cluster_id: speaker.cluster_id,
            allow_own_as: config.allow_own_as,
            enforce_first_as: config.enforce_first_as,
            role: config.role_in(local_as),
            max_prefixes: config.max_prefixes.unwrap_or(u32::MAX),
            filter: config.import.clone(),
            needs_policy: speaker.external_needs_policy
                && config.peer_as != local_as
                && config.import.is_none(),
            local: None,
            routes: [0; 2],
            ended: Families::NONE,
            updates: 0,
            malformed: 0,
            warned: false,
            last_malformed: None,
        }
    }

    /// Takes over what belongs to the session rather than to its settings.
    pub(super) fn inherit(&mut self, old: &Self) {
        self.local = old.local;
        self.routes = old.routes;
        self.ended = old.ended;
        self.updates = old.updates;
        self.malformed = old.malformed;
        self.last_malformed.clone_from(&old.last_malformed);
    }

    pub(super) fn external(&self) -> bool {
        self.peer.external
    }

    pub(super) fn filter_peer(&self) -> FilterPeer {
        self.peer.clone()
    }

    /// Takes in the body of one UPDATE.
    pub(super) fn update(
        &mut self,
        negotiated: &Negotiated,
        body: &[u8],
        rib: &mut Rib,
        canonical: &mut Canonical,
    ) -> Result<(), Notification> {
        self.updates += 1;
        let context = UpdateContext {
            attributes: AttributeContext {
                four_octets: negotiated.four_octets,
                external: self.peer.external,
            },
            families: negotiated.families,
            add_path: negotiated.add_path_receive,
            extended_next_hop: negotiated.extended_next_hop,
        };
        let update = parse(body, context, canonical)?;
        if let Some(family) = update
            .end_of_rib
            .filter(|&family| negotiated.families.contains(family))
        {
            self.ended = self.ended.with(family);
        }
        if negotiated.families.contains(Family::Ipv4Unicast) {
            self.forget::<V4>(update.withdrawn, &mut rib.v4, &mut rib.context);
        }
        match update.mp_withdrawn {
            Some((Family::Ipv4Unicast, routes)) => {
                self.forget::<V4>(routes, &mut rib.v4, &mut rib.context);
            }
            Some((Family::Ipv6Unicast, routes)) => {
                self.forget::<V6>(routes, &mut rib.v6, &mut rib.context);
            }
            None => {}
        }
        if let Some(problem) = update.problem {
            self.malformed += 1;
            self.last_malformed = Some(problem);
            self.forget::<V4>(update.announced, &mut rib.v4, &mut rib.context);
            match update.mp_announced {
                Some((Family::Ipv4Unicast, _, routes)) => {
                    self.forget::<V4>(routes, &mut rib.v4, &mut rib.context);
                }
                Some((Family::Ipv6Unicast, _, routes)) => {
                    self.forget::<V6>(routes, &mut rib.v6, &mut rib.context);
                }
                None => {}
            }
            return Ok(());
        }
        let wire = &canonical.wire;
        if !update.announced.is_empty() && negotiated.families.contains(Family::Ipv4Unicast) {
            let hop = update.next_hop.map(NextHop::V4);
            self.announce::<V4>(hop, wire, update.announced, &mut rib.v4, &mut rib.context);
        }
        match update.mp_announced {
            Some((Family::Ipv4Unicast, hop, routes)) => {
                self.announce::<V4>(Some(hop), wire, routes, &mut rib.v4, &mut rib.context);
            }
            Some((Family::Ipv6Unicast, hop, routes)) => {
                self.announce::<V6>(Some(hop), wire, routes, &mut rib.v6, &mut rib.context);
            }
            None => {}
        }
        self.check_limit()
    }

    /// A new session begins: our address on it.
    pub(super) fn begin(&mut self, local: Option<IpAddr>) {
        self.local = local;
        self.ended = Families::NONE;
        self.warned = false;
    }

    /// The number of prefixes and the limit, when the host is to be told that they are near.
    pub(super) fn warn(&mut self) -> Option<(u32, u32)> {
        let most = self.routes.into_iter().max()?;
        let near = u64::from(most) * 4 > u64::from(self.max_prefixes) * 3;
        (near && !std::mem::replace(&mut self.warned, true)).then_some((most, self.max_prefixes))
    }

    fn check_limit(&self) -> Result<(), Notification> {
        for family in Family::ALL {
            if self.routes[family.index()] > self.max_prefixes {
                // RFC 4486 section 4: family and bound go with it.
                let mut data = family.afi().to_be_bytes().to_vec();
                data.push(family.safi());
                data.extend_from_slice(&self.max_prefixes.to_be_bytes());
                return Err(Notification {
                    code: 6,
                    subcode: 1,
                    data,
                });
            }
        }
        Ok(())
    }

    fn forget<K: Key>(&mut self, routes: Nlri<'_>, table: &mut Table<K>, context: &mut Context) {
        for (key, path) in routes.iter::<K>() {
            let gone = table.forget(key, self.source, path, context);
            self.routes[K::FAMILY.index()] -= u32::from(gone);
        }
    }

    fn announce<K: Key>(
        &mut self,
        hop: Option<NextHop>,
        wire: &[u8],
        routes: Nlri<'_>,
        table: &mut Table<K>,
        context: &mut Context,
    ) {
        // A route that may not be used replaces and thereby removes what the peer sent before.
        if !self.usable(hop, wire) {
            self.forget::<K>(routes, table, context);
            return;
        }
        let set = match self.amended(hop, wire) {
            Some(attributes) => context.interner.intern_attributes(&attributes),
            None => context.interner.intern(hop, wire),
        };
        match self.filter.clone() {
            None => {
                for (key, path) in routes.iter::<K>() {
                    self.learn(key, path, set, table, context);
                }
            }
            Some(filter) => {
                let attributes = context.interner.get(set).clone();
                self.filtered(&*filter, &attributes, set, routes, table, context);
            }
        }
        context.interner.release(set);
    }

    /// The attributes with what is added to them before anybody judges them; `None` where that is nothing.
    fn amended(&self, hop: Option<NextHop>, wire: &[u8]) -> Option<Attributes> {
        // RFC 8326 section 4.2: the route is about to go; any other is better.
        let leaves = self.peer.external && graceful_shutdown(wire);
        // RFC 9234 section 5: what comes from a provider, a peer or a route server goes to customers only.
        let mark = self.role.is_some_and(Role::keeps_marked)
            && !parts(wire).any(|(kind, _)| kind == kind::OTC);
        if !leaves && !mark {
            return None;
        }
        let mut edited = Attributes::from_wire(hop, wire).edit();
        if leaves {
            edited = edited.local_pref(0);
        }
        if mark {
            edited = edited.only_to_customer(self.peer.peer_as);
        }
        Some(edited.build())
    }

    /// RFC 9234 section 5: a customer or a route server's client has no business to pass on a marked route, and a peer
    /// none that others have marked.
    fn is_leak(&self, mark: &[u8]) -> bool {
        match self.role {
            Some(Role::Provider | Role::RouteServer) => true,
            Some(Role::Peer) => mark != self.peer.peer_as.0.to_be_bytes(),
            Some(Role::Customer | Role::RouteServerClient) | None => false,
        }
    }

    fn learn<K: Key>(
        &mut self,
        key: K,
        id: u32,
        set: SetId,
        table: &mut Table<K>,
        context: &mut Context,
    ) {
        let path = Path {
            set,
            id,
            peer: self.source,
            local: 0,
            stale: false,
        };
        let learned = table.learn(key, path, context);
        self.routes[K::FAMILY.index()] += u32::from(learned == Learned::New);
    }

    fn filtered<K: Key>(
        &mut self,
        filter: &dyn Filter,
        attributes: &Attributes,
        set: SetId,
        routes: Nlri<'_>,
        table: &mut Table<K>,
        context: &mut Context,
    ) {
        let by_prefix = filter.looks_at_prefix();
        self.peer.interface = context.interface(attributes.next_hop(), self.source);
        let mut last = None;
        for (key, path) in routes.iter::<K>() {
            let verdict = match last.take() {
                Some(verdict) if !by_prefix => verdict,
                _ => filter.judge(&self.peer, &key.prefix(), attributes),
            };
            match &verdict {
                Verdict::Accept => self.learn(key, path, set, table, context),
                Verdict::Reject => {
                    let gone = table.forget(key, self.source, path, context);
                    self.routes[K::FAMILY.index()] -= u32::from(gone);
                }
                Verdict::Replace(other) => {
                    let other = context.interner.intern_attributes(other);
                    self.learn(key, path, other, table, context);
                    context.interner.release(other);
                }
            }
            last = Some(verdict);
        }
    }

    /// Whether routes with these attributes may be used at all: no loop (RFC 4271 section 9.1.2, RFC 4456 section 8),
    /// the peer's own AS in front (RFC 4271 section 6.3), a next hop that is not ourselves.
    fn usable(&self, hop: Option<NextHop>, wire: &[u8]) -> bool {
        if self.needs_policy {
            return false;
        }
        if hop.is_some_and(|hop| Some(hop.address()) == self.local) {
            return false;
        }
        for (kind, value) in parts(wire) {
            let good = match kind {
                kind::AS_PATH => {
                    let path = AsPath(value);
                    let own = path
                        .iter()
                        .filter(|&number| number == self.local_as || number == self.speaker_as)
                        .count();
                    let first = path.first() == Some(self.peer.peer_as);
                    own <= usize::from(self.allow_own_as)
                        && (first || !self.peer.external || !self.enforce_first_as)
                }
                kind::ORIGINATOR_ID => value != self.router_id.octets(),
                kind::CLUSTER_LIST => !value
                    .chunks_exact(4)
                    .any(|id| id == self.cluster_id.octets()),
                kind::OTC => !self.is_leak(value),
                _ => true,
            };
            if !good {
                return false;
            }
        }
        true
    }
}

fn graceful_shutdown(wire: &[u8]) -> bool {
    parts(wire)
        .find(|&(kind, _)| kind == kind::COMMUNITIES)
        .is_some_and(|(_, value)| {
            let wanted = Community::GRACEFUL_SHUTDOWN.0.to_be_bytes();
            value.chunks_exact(4).any(|community| community == wanted)
        })
}
