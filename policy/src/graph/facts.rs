//! What sets can take from objects, kept small: a large cluster has many endpoints, most with one address and the same
//! few named ports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ocicat_dataplane::Prefix;
use ocicat_dataplane::state::Protocol;
use ocicat_datastore::{Key, Kind};

/// A named port.
pub(super) type Port = (String, Protocol, u16);

/// What a set can take from an object: an endpoint, or a network set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its addresses or ranges.
    pub(super) nets: Nets,
    /// Its named ports.
    pub(super) ports: Option<Arc<[Port]>>,
}

impl Facts {
    pub(super) fn new(nets: &[Prefix], ports: Vec<Port>) -> Self {
        Self {
            nets: Nets::new(nets),
            ports: (!ports.is_empty()).then(|| ports.into()),
        }
    }

    pub(super) fn ports(&self) -> &[Port] {
        self.ports.as_deref().unwrap_or_default()
    }
}

/// Ranges, most often one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Nets {
    One(Prefix),
    Many(Box<[Prefix]>),
}

impl Default for Nets {
    fn default() -> Self {
        Self::Many(Box::default())
    }
}

impl Nets {
    fn new(nets: &[Prefix]) -> Self {
        match nets {
            [one] => Self::One(*one),
            many => Self::Many(many.into()),
        }
    }

    pub(super) fn as_slice(&self) -> &[Prefix] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// The facts of all objects, under small numbers.
#[derive(Debug, Default)]
pub(super) struct Table {
    numbers: BTreeMap<Box<str>, u32>,
    facts: Vec<Facts>,
    free: Vec<u32>,
    /// Equal lists of ports are one.
    ports: BTreeSet<Arc<[Port]>>,
}

impl Table {
    pub(super) const fn new() -> Self {
        Self {
            numbers: BTreeMap::new(),
            facts: Vec::new(),
            free: Vec::new(),
            ports: BTreeSet::new(),
        }
    }

    /// The number of an object.
    pub(super) fn number(&self, key: &Key) -> Option<u32> {
        self.numbers.get(&*text(key)).copied()
    }

    pub(super) fn at(&self, number: u32) -> Option<&Facts> {
        self.facts.get(number as usize)
    }

    /// Notes an object's facts: its number, and what was known of it before.
    pub(super) fn set(&mut self, key: &Key, mut facts: Facts) -> (u32, Option<Facts>) {
        if let Some(ports) = facts.ports.take() {
            let known = self.ports.get(&ports).cloned();
            facts.ports = Some(known.unwrap_or_else(|| {
                self.ports.insert(ports.clone());
                ports
            }));
        }
        let text = text(key);
        if let Some(number) = self.numbers.get(&*text).copied() {
            let place = self.facts.get_mut(number as usize);
            let old = place.map(|place| std::mem::replace(place, facts));
            self.sweep(old.as_ref());
            return (number, old);
        }
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(place) = self.facts.get_mut(number as usize) {
                    *place = facts;
                }
                number
            }
            None => {
                self.facts.push(facts);
                // Four thousand million entries do not fit into memory before the number does.
                u32::try_from(self.facts.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.insert(text.into(), number);
        (number, None)
    }

    /// Forgets an object. Its number may be another's from now on.
    pub(super) fn remove(&mut self, key: &Key) {
        let Some(number) = self.numbers.remove(&*text(key)) else {
            return;
        };
        if let Some(place) = self.facts.get_mut(number as usize) {
            let old = std::mem::take(place);
            self.sweep(Some(&old));
        }
        self.free.push(number);
    }

    /// Forgets a list of ports that nobody else has.
    fn sweep(&mut self, old: Option<&Facts>) {
        if let Some(ports) = old.and_then(|old| old.ports.as_ref())
            && Arc::strong_count(ports) <= 2
        {
            self.ports.remove(ports);
        }
    }
}

/// A key as one text. A slash is in no namespace.
fn text(key: &Key) -> String {
    let kind = match key.kind {
        Kind::WorkloadEndpoint => 'w',
        Kind::Pod => 'p',
        Kind::HostEndpoint => 'h',
        Kind::NetworkSet => 'n',
        _ => 'g',
    };
    let namespace = key.namespace.as_deref().unwrap_or_default();
    format!("{kind}{namespace}/{}", key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(net: &str, ports: &[&str]) -> Facts {
        let ports = ports
            .iter()
            .map(|name| ((*name).to_owned(), Protocol(6), 80));
        Facts::new(&[net.parse().unwrap()], ports.collect())
    }

    #[test]
    fn equal_ports_are_one_list_and_go_with_their_last_user() {
        let mut table = Table::new();
        let keys: Vec<Key> = (0..3)
            .map(|i| Key::namespaced(Kind::WorkloadEndpoint, "ns", format!("pod-{i}")))
            .collect();
        for key in &keys {
            assert_eq!(table.set(key, facts("10.0.0.1/32", &["http"])).1, None);
        }
        assert_eq!(table.ports.len(), 1);
        let (number, old) = table.set(&keys[0], facts("10.0.0.2/32", &["dns"]));
        assert_eq!(old, Some(facts("10.0.0.1/32", &["http"])));
        drop(old);
        assert_eq!(table.at(number).map(|facts| facts.ports().len()), Some(1));
        assert_eq!(table.ports.len(), 2);
        for key in &keys {
            table.remove(key);
            assert_eq!(table.number(key), None);
        }
        assert!(table.ports.is_empty(), "{:?}", table.ports);
        assert!(
            table.set(&keys[0], facts("10.0.0.1/32", &[])).0 < 3,
            "numbers are used again"
        );
    }

    #[test]
    fn objects_of_different_kinds_and_namespaces_are_different() {
        let mut table = Table::new();
        let keys = [
            Key::cluster(Kind::GlobalNetworkSet, "a"),
            Key::namespaced(Kind::NetworkSet, "a", "a"),
            Key::namespaced(Kind::NetworkSet, "b", "a"),
            Key::namespaced(Kind::WorkloadEndpoint, "a", "a"),
            Key::cluster(Kind::HostEndpoint, "a"),
        ];
        let numbers: BTreeSet<u32> = keys
            .iter()
            .map(|key| table.set(key, Facts::default()).0)
            .collect();
        assert_eq!(numbers.len(), keys.len());
    }
}
