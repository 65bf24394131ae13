#![doc = include_str!("../README.md")]

mod annotations;
mod backend;
mod cache;
#[cfg(feature = "crds")]
pub mod crds;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(any(feature = "memory", feature = "sqlite"))]
mod feed;
#[cfg(feature = "follow")]
mod follow;
#[cfg(any(feature = "crds", feature = "kubernetes"))]
mod group;
#[cfg(any(
    feature = "apiserver",
    feature = "etcd",
    feature = "memory",
    feature = "sqlite"
))]
mod identity;
#[cfg(feature = "ipam")]
pub mod ipam;
#[cfg(any(
    feature = "etcd",
    feature = "ipam",
    feature = "kubernetes",
    feature = "testing"
))]
mod join;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(any(feature = "etcd", feature = "sqlite"))]
mod layout;
#[cfg(feature = "memory")]
mod memory;
pub mod model;
mod object;
mod open;
mod reflector;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "validate")]
pub mod validate;

pub use annotations::LEASE_ANNOTATION;
pub use backend::{Backend, Change, Listing, Op, Parts, Watch};
pub use cache::{Cache, Snapshot};
pub use error::StoreError;
#[cfg(feature = "etcd")]
pub use etcd::{Etcd, EtcdOptions};
#[cfg(feature = "follow")]
pub use follow::{Follow, follow, follow_scopes};
#[cfg(any(feature = "crds", feature = "kubernetes"))]
pub use group::ApiGroup;
#[cfg(feature = "kubernetes")]
pub use kubernetes::{Kubernetes, KubernetesOptions};
#[cfg(feature = "memory")]
pub use memory::{Call, Fate, Memory};
pub use model::{Kind, Metadata, Resource};
pub use object::{Key, Object, Revision, Scope};
pub use open::open;
pub use reflector::{Event, Reflector, Step};
#[cfg(feature = "sqlite")]
pub use sqlite::{Sqlite, SqliteOptions};
pub use store::{Listed, Name, Store, Versioned};
