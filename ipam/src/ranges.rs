use std::collections::BTreeMap;

use crate::{Family, Prefix};

/// A set of addresses as merged runs, with searches in O(log n).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    v4: BTreeMap<u128, u128>,
    v6: BTreeMap<u128, u128>,
}

impl Ranges {
    pub(crate) fn insert(&mut self, range: &Prefix) {
        let runs = match range.family() {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        let (mut first, mut last) = (range.first(), range.last());
        let touches = |end: u128, first: u128| end >= first || end + 1 == first;
        if let Some((&start, &end)) = runs.range(..=first).next_back() {
            if touches(end, first) {
                first = start;
                last = last.max(end);
            }
        }
        let next = last.saturating_add(1);
        while let Some((&start, &end)) = runs.range(first..=next).next_back() {
            runs.remove(&start);
            last = last.max(end);
        }
        runs.insert(first, last);
    }

    /// The end of a run that has an address in `first..=last`.
    pub(crate) fn meeting(&self, family: Family, first: u128, last: u128) -> Option<u128> {
        let (_, end) = self.runs(family).range(..=last).next_back()?;
        (*end >= first).then_some(*end)
    }

    /// The end of the run that has every address in `first..=last`.
    pub(crate) fn covering(&self, family: Family, first: u128, last: u128) -> Option<u128> {
        let (_, end) = self.runs(family).range(..=first).next_back()?;
        (*end >= last).then_some(*end)
    }

    pub(crate) fn contains(&self, family: Family, address: u128) -> bool {
        self.covering(family, address, address).is_some()
    }

    /// The parts of the runs that lie in `first..=last`, from its end to its start.
    pub(crate) fn within(
        &self,
        family: Family,
        first: u128,
        last: u128,
    ) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.runs(family)
            .range(..=last)
            .rev()
            .take_while(move |(_, end)| **end >= first)
            .map(move |(start, end)| ((*start).max(first), (*end).min(last)))
    }

    fn runs(&self, family: Family) -> &BTreeMap<u128, u128> {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_set_of_addresses(
            ranges in prop::collection::vec((0_u32..256, 24_u8..=32), 0..12),
            probe in (0_u128..256, 0_u128..40),
        ) {
            let (first, last) = (probe.0, (probe.0 + probe.1).min(255));
            let mut runs = Ranges::default();
            let mut model = BTreeSet::new();
            for (address, length) in ranges {
                let range = Prefix::containing(std::net::IpAddr::V4(address.into()), length).unwrap();
                runs.insert(&range);
                model.extend(range.first()..=range.last());
            }
            let v4 = Family::V4;
            for address in 0..256 {
                prop_assert_eq!(runs.contains(v4, address), model.contains(&address));
            }
            let all = (first..=last).all(|one| model.contains(&one));
            let any = (first..=last).any(|one| model.contains(&one));
            prop_assert_eq!(runs.covering(v4, first, last).is_some(), all);
            prop_assert_eq!(runs.meeting(v4, first, last).is_some(), any);
            let inside: BTreeSet<u128> = runs.within(v4, first, last).flat_map(|(a, b)| a..=b).collect();
            prop_assert!(inside.iter().eq(model.range(first..=last)));
            let ends: Vec<_> = runs.v4.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| *pair[0].1 + 1 < *pair[1].0), "runs are merged");
        }
    }
}
