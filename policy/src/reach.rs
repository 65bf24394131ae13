//! Of all connections that are possible, which do the policies leave? Computed, not probed: for every pair the exact
//! set of protocols and ports, by arithmetic on ranges.

mod region;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::Model;
pub use region::Reachable;

/// Somebody who can send or get packets: a pod with one of its addresses, or an address outside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Party {
    /// `namespace/name` of the endpoint; the address of somebody outside.
    pub name: String,
    /// The address.
    pub address: IpAddr,
}

/// For every pair of parties of one address family, what may pass from the one to the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    cells: BTreeMap<(Party, Party), Reachable>,
}

/// What a change of resources opens and what it closes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diff {
    /// What passes after and did not pass before.
    pub opened: Vec<Change>,
    /// What passed before and does not pass after.
    pub closed: Vec<Change>,
}

/// One pair in a [`Diff`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// Who sends.
    pub source: Party,
    /// Who gets.
    pub destination: Party,
    /// What is opened or closed between them.
    pub what: Reachable,
}

/// What may pass between all pods of the model, and between them and the given addresses outside.
///
/// For every pair, protocol, pair of ports and ICMP type and code, what the matrix says is what
/// [`Model::evaluate`] says of a flow that names no interface. Pods reach themselves and are left out.
///
/// ```
/// use ocicat_datastore::Object;
/// use ocicat_policy::{Model, Update, diff, reach};
///
/// let mut model = Model::new();
/// let mut tell = |model: &mut Model, value| -> Result<(), ocicat_datastore::StoreError> {
///     Update::of(&Object::from_value(value)?)?.into_iter().for_each(|update| model.update(update));
///     Ok(())
/// };
/// tell(&mut model, serde_json::json!({
///     "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
///     "metadata": {"namespace": "shop", "name": "db"},
///     "spec": {"node": "n1", "orchestrator": "k8s", "interfaceName": "cali1", "ipNetworks": ["10.0.0.1/32"],
///              "profiles": ["kns.shop"]},
/// }))?;
/// tell(&mut model, serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))?;
/// let before = reach(&model, &["192.0.2.1".parse()?]);
/// tell(&mut model, serde_json::json!({
///     "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
///     "metadata": {"namespace": "shop", "name": "db"},
///     "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 5432}, {"port": 9000, "endPort": 9009}]}]},
/// }))?;
/// let after = reach(&model, &["192.0.2.1".parse()?]);
/// let (internet, db) = ("192.0.2.1".parse()?, "10.0.0.1".parse()?);
/// assert_eq!(after.between(internet, db).map(|r| r.to_string()), Some("TCP 5432,9000-9009".into()));
/// assert!(diff(&before, &after).opened.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn reach(model: &Model, outside: &[IpAddr]) -> Matrix {
    walk::matrix(model, outside)
}

/// What changed between two matrices. Who is in one of them only counts as reaching nobody in the other.
#[must_use]
pub fn diff(before: &Matrix, after: &Matrix) -> Diff {
    let missing = |has: &Matrix, other: &Matrix| {
        let mut changes = Vec::new();
        for ((source, destination), cell) in &has.cells {
            let there = other.cells.get(&(source.clone(), destination.clone()));
            let what = match there {
                Some(there) => cell.without(there),
                None => cell.clone(),
            };
            if !what.is_nothing() {
                changes.push(Change {
                    source: source.clone(),
                    destination: destination.clone(),
                    what,
                });
            }
        }
        changes
    };
    Diff {
        opened: missing(after, before),
        closed: missing(before, after),
    }
}

impl Matrix {
    /// What may pass from one address to another; `None` when the pair is not in the matrix.
    #[must_use]
    pub fn between(&self, source: IpAddr, destination: IpAddr) -> Option<&Reachable> {
        let is = |(from, to): &(Party, Party)| from.address == source && to.address == destination;
        let mut cells = self.cells.iter();
        cells.find(|(pair, _)| is(pair)).map(|(_, cell)| cell)
    }

    /// All pairs with what may pass between them, nothing included.
    pub fn iter(&self) -> impl Iterator<Item = (&Party, &Party, &Reachable)> {
        let cells = self.cells.iter();
        cells.map(|((source, destination), cell)| (source, destination, cell))
    }

    /// How many pairs there are.
    #[must_use]
    pub fn possible(&self) -> usize {
        self.cells.len()
    }

    /// Between how many pairs something may pass.
    #[must_use]
    pub fn open(&self) -> usize {
        self.cells
            .values()
            .filter(|cell| !cell.is_nothing())
            .count()
    }
}

/// A line for each pair between which something may pass.
impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (source, destination, what) in self.iter().filter(|(_, _, what)| !what.is_nothing()) {
            writeln!(f, "{source} -> {destination}: {what}")?;
        }
        write!(f, "{} of {} pairs", self.open(), self.possible())
    }
}

/// A line for each pair: `+` for what is opened, `-` for what is closed.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (sign, changes) in [("+", &self.opened), ("-", &self.closed)] {
            for change in changes {
                writeln!(f, "{sign} {change}")?;
            }
        }
        write!(
            f,
            "{} pairs opened, {} closed",
            self.opened.len(),
            self.closed.len()
        )
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: {}", self.source, self.destination, self.what)
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.name.parse() == Ok(self.address) {
            return Ok(());
        }
        write!(f, " ({})", self.address)
    }
}
