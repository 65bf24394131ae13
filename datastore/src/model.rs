//! The resources: Calico's own and those of Kubernetes that are read, as plain structs.
//!
//! Field names are Calico's JSON names in Rust's spelling. Write literals with `..Default::default()`: fields
//! are added as Calico adds them. Fields that are not here survive when an object is changed through a
//! [`Store`](crate::Store).

mod bgp;
mod cluster;
mod derived;
mod endpoint;
mod ipam;
mod kind;
mod kube;
mod kube_policy;
mod lease;
mod metadata;
pub mod names;
mod node;
mod policy;
mod rule;
mod value;

pub use bgp::*;
pub use cluster::*;
pub use endpoint::*;
pub use ipam::*;
pub use kind::{Kind, UnknownKind};
pub use kube::*;
pub use kube_policy::*;
pub use lease::*;
pub use metadata::{Condition, Metadata, OwnerReference};
pub use node::*;
pub use policy::*;
pub use rule::*;
pub use value::{AsNumber, IntOrString, Port, Protocol, ValueError};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A kind of object as a Rust struct.
pub trait Resource:
    Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static
{
    /// Which kind it is.
    const KIND: Kind;

    /// Name, labels and the rest of what every object carries.
    fn metadata(&self) -> &Metadata;

    /// The same, to be changed.
    fn metadata_mut(&mut self) -> &mut Metadata;
}
