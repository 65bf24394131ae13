//! What is in one set: who brought what, and which ranges cover others.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ocicat_dataplane::Prefix;
use ocicat_dataplane::state::Member;

/// The members of one set with the number of contributors of each. A range that lies in a broader one is withheld:
/// an interval set of the kernel refuses overlaps.
#[derive(Debug, Default)]
pub(super) struct Contents {
    nets: BTreeMap<Prefix, u32>,
    /// How many different ranges there are of each family and length: the only ones worth asking for.
    lengths: BTreeMap<(bool, u8), u32>,
    ports: BTreeMap<Member, u32>,
    /// What changed since the last flush: true for added.
    delta: BTreeMap<Member, bool>,
}

impl Contents {
    /// One more contributor of the member.
    pub(super) fn add(&mut self, member: Member) {
        let Member::Net(net) = member else {
            let count = self.ports.entry(member).or_default();
            *count += 1;
            if *count == 1 {
                self.note(member, true);
            }
            return;
        };
        let count = self.nets.entry(net).or_default();
        *count += 1;
        if *count > 1 {
            return;
        }
        *self
            .lengths
            .entry((net.is_ipv4(), net.length()))
            .or_default() += 1;
        if self.is_covered(&net) {
            return;
        }
        for inner in self.outermost_inside(&net) {
            self.note(Member::Net(inner), false);
        }
        self.note(member, true);
    }

    /// One contributor of the member less.
    pub(super) fn remove(&mut self, member: Member) {
        let Member::Net(net) = member else {
            if take_one(&mut self.ports, &member) {
                self.note(member, false);
            }
            return;
        };
        if !take_one(&mut self.nets, &net) {
            return;
        }
        take_one(&mut self.lengths, &(net.is_ipv4(), net.length()));
        if self.is_covered(&net) {
            return;
        }
        self.note(member, false);
        for inner in self.outermost_inside(&net) {
            self.note(Member::Net(inner), true);
        }
    }

    /// All members that are not withheld.
    pub(super) fn members(&self) -> impl Iterator<Item = Member> {
        let mut last: Option<Prefix> = None;
        let nets = self.nets.keys().filter(move |net| {
            let covered = last.is_some_and(|l| l.covers(net));
            if !covered {
                last = Some(**net);
            }
            !covered
        });
        nets.map(|net| Member::Net(*net))
            .chain(self.ports.keys().copied())
    }

    /// What changed since it was last asked: true for added.
    pub(super) fn take_delta(&mut self) -> BTreeMap<Member, bool> {
        std::mem::take(&mut self.delta)
    }

    fn note(&mut self, member: Member, added: bool) {
        if self.delta.remove(&member).is_none() {
            self.delta.insert(member, added);
        }
    }

    /// Whether a broader range is there.
    fn is_covered(&self, net: &Prefix) -> bool {
        let shorter = (net.is_ipv4(), 0)..(net.is_ipv4(), net.length());
        self.lengths.range(shorter).any(|((_, length), _)| {
            Prefix::containing(net.address(), *length)
                .is_ok_and(|broader| self.nets.contains_key(&broader))
        })
    }

    /// The ranges inside of `net`, other than itself, that no other one inside of it covers.
    fn outermost_inside(&self, net: &Prefix) -> Vec<Prefix> {
        let mut out: Vec<Prefix> = Vec::new();
        if net.is_host() {
            return out;
        }
        for (inner, _) in self.nets.range(*net..) {
            if !net.covers(inner) {
                break;
            }
            if inner != net && !out.last().is_some_and(|last| last.covers(inner)) {
                out.push(*inner);
            }
        }
        out
    }
}

/// Lowers a count; true when that was the last one.
fn take_one<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) -> bool {
    let Some(count) = counts.get_mut(key) else {
        return false;
    };
    *count -= 1;
    let last = *count == 0;
    if last {
        counts.remove(key);
    }
    last
}

/// The range of one address as a member.
pub(super) fn host(address: IpAddr) -> Member {
    Member::Net(Prefix::host(address))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn prefix() -> impl Strategy<Value = Prefix> {
        let v4 = (any::<u8>(), 24..=32_u8)
            .prop_map(|(last, length)| (IpAddr::from([10, 0, 0, last]), length));
        let broad = (0..4_u8, 0..24_u8)
            .prop_map(|(third, length)| (IpAddr::from([10, 0, third, 0]), length));
        let v6 = (any::<u8>(), 120..=128_u8).prop_map(|(last, length)| {
            let address = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, last]);
            (address, length)
        });
        prop_oneof![6 => v4, 1 => broad, 2 => v6]
            .prop_map(|(address, length)| Prefix::containing(address, length).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn members_are_the_outermost_ranges_and_the_delta_leads_to_them(
            steps in vec((any::<bool>(), prefix(), any::<bool>()), 1..80)
        ) {
            let mut contents = Contents::default();
            let mut counts: BTreeMap<Prefix, u32> = BTreeMap::new();
            let mut seen: BTreeSet<Member> = BTreeSet::new();
            for (add, net, flush) in steps {
                if add {
                    *counts.entry(net).or_default() += 1;
                    contents.add(Member::Net(net));
                } else if take_one(&mut counts, &net) || counts.contains_key(&net) {
                    contents.remove(Member::Net(net));
                }
                let expected: BTreeSet<Member> = counts
                    .keys()
                    .filter(|n| !counts.keys().any(|o| o != *n && o.covers(n)))
                    .map(|n| Member::Net(*n))
                    .collect();
                let members: BTreeSet<Member> = contents.members().collect();
                prop_assert_eq!(&members, &expected);
                if flush {
                    for (member, added) in contents.take_delta() {
                        let new = if added { seen.insert(member) } else { seen.remove(&member) };
                        prop_assert!(new);
                    }
                    prop_assert_eq!(&seen, &expected);
                }
            }
        }
    }
}
