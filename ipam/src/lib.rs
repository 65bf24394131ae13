#![doc = include_str!("../README.md")]

mod affinity;
mod allocator;
mod block;
mod check;
mod collect;
mod config;
mod error;
mod family;
mod handle;
#[cfg(feature = "serde")]
mod json;
mod lease;
mod owner;
mod pool;
mod prefix;
mod ranges;
mod request;
mod store;
mod strategy;
#[cfg(feature = "testing")]
pub mod testing;
mod timestamp;
mod tunnel;
mod utilisation;
mod view;

pub use ipnetwork;

pub use self::affinity::{AffinityState, AffinityStateError, BlockAffinity};
pub use self::allocator::{Attached, Claims, Ipam, Release, Released, Upheld};
pub use self::block::{
    Allocation, AttributeRecord, Bitmap, Block, BlockDefect, BlockRecord, BlockRecordError,
    BlockSizeError, Ordinal,
};
pub use self::check::{Census, CheckReport, Finding, Held, InUse, Repaired};
pub use self::collect::{Collector, Evidence, Judge, Liveness, Sweep, Verdict};
pub use self::config::{IpamConfig, IpamConfigError};
pub use self::error::{AssignError, ReleaseError, SharedError, StoreError};
pub use self::family::Family;
pub use self::handle::{Handle, HandleId};
#[cfg(feature = "serde")]
pub use self::json::{AffinityValue, HandleValue};
pub use self::lease::Kept;
pub use self::owner::{Owner, OwnerError};
pub use self::pool::{AssignmentMode, Pool, Use};
pub use self::prefix::{Prefix, PrefixError};
pub use self::request::{
    AssignIp, AssignRequest, Assigned, Assignment, HostReserved, PoolRef, Reason, Shortfall, Wanted,
};
pub use self::store::{
    Audience, IpamStore, Listing, MemoryStore, Record, RecordKey, Revision, Stored, Unreadable,
    Write,
};
pub use self::strategy::{Ask, BlockAffine, Rehearsal, Step, Strategy, rehearse, start_index};
pub use self::timestamp::{Timestamp, TimestampError};
pub use self::tunnel::{Tunnel, TunnelAddress};
pub use self::utilisation::{BlockUtilisation, Counts, PoolUtilisation, utilisation};
pub use self::view::{Refusal, View};
