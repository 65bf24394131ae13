//! How a live set of ranges changes.
//!
//! The kernel keeps ranges in a tree that packets walk while it changes. Until Linux 7.0 a packet that meets an element
//! which is not in force yet, or not any more, between the start and the end of a range that holds its address, finds
//! nothing: with 10.0.0.0/8 in the set, adding a range inside of it and deleting the large one hides the inner one for
//! as long as the transaction takes. Therefore no range that holds addresses before and after is ever touched: what is
//! added lies beside what stays, what is deleted was wanted by nobody. A change that would have to cut a range takes
//! another set.

use std::collections::BTreeSet;

use crate::nft::ruleset::Element;

/// From the first value to the one behind the last; `None` goes on to the last value there is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    first: Box<[u8]>,
    end: Option<Box<[u8]>>,
}

/// Elements to delete and to add.
pub(crate) type Change = (BTreeSet<Element>, BTreeSet<Element>);

/// The change from `have` to the ranges of `want`, cut in whatever way; `None` when a live set cannot take it.
pub(crate) fn change(have: &BTreeSet<Element>, want: &BTreeSet<Element>) -> Option<Change> {
    let (have, want) = (spans(have)?, merged(spans(want)?));
    let (mut gone, mut new) = (BTreeSet::new(), BTreeSet::new());
    let mut old = have.iter().peekable();
    for span in &want {
        while let Some(before) = old.next_if(|old| old.is_before(span)) {
            gone.extend(before.elements());
        }
        // What of the span is not there yet, between what is.
        let mut from = Some(span.first.clone());
        while let Some(kept) = old.next_if(|old| !span.is_before(old)) {
            if !span.holds(kept) {
                return None;
            }
            let gap = Span {
                first: from.take()?,
                end: Some(kept.first.clone()),
            };
            new.extend(gap.elements());
            from.clone_from(&kept.end);
        }
        if let Some(first) = from {
            let gap = Span {
                first,
                end: span.end.clone(),
            };
            new.extend(gap.elements());
        }
    }
    gone.extend(old.flat_map(Span::elements));
    Some((gone, new))
}

/// Elements to add so that everything of `want` is there, without deleting any.
pub(crate) fn growth(have: &BTreeSet<Element>, want: &BTreeSet<Element>) -> BTreeSet<Element> {
    let (Some(have), Some(want)) = (spans(have), spans(want)) else {
        return BTreeSet::new();
    };
    let mut new = BTreeSet::new();
    for span in merged(want) {
        let mut from = Some(span.first.clone());
        let meets = |old: &&Span| !old.is_before(&span) && !span.is_before(old);
        for old in have.iter().filter(meets) {
            if let Some(first) = from.take().filter(|first| *first < old.first) {
                let end = Some(old.first.clone());
                new.extend(Span { first, end }.elements());
            }
            from.clone_from(&old.end);
        }
        let end = span.end;
        let rest = from.filter(|first| end.as_ref().is_none_or(|end| first < end));
        if let Some(first) = rest {
            new.extend(Span { first, end }.elements());
        }
    }
    new
}

/// What a set holds after [`change`], or what it should hold.
pub(crate) fn after(have: &BTreeSet<Element>, want: &BTreeSet<Element>) -> BTreeSet<Element> {
    match change(have, want) {
        Some((gone, new)) => have.difference(&gone).cloned().chain(new).collect(),
        None => want.clone(),
    }
}

/// `None` when starts and ends do not alternate.
fn spans(elements: &BTreeSet<Element>) -> Option<Vec<Span>> {
    let mut spans = Vec::with_capacity(elements.len() / 2);
    let mut open: Option<&Element> = None;
    // In order: of equal keys the end comes first.
    for element in elements {
        match (element.start, open.take()) {
            (true, None) => open = Some(element),
            (false, Some(start)) => spans.push(Span {
                first: start.key.clone(),
                end: Some(element.key.clone()),
            }),
            // nft puts an end at zero for what comes before the first range.
            (false, None) if element.key.iter().all(|byte| *byte == 0) => {}
            _ => return None,
        }
    }
    if let Some(start) = open {
        spans.push(Span {
            first: start.key.clone(),
            end: None,
        });
    }
    Some(spans)
}

/// Those that touch made one.
fn merged(spans: Vec<Span>) -> Vec<Span> {
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if last.end.as_ref() == Some(&span.first) => last.end = span.end,
            _ => merged.push(span),
        }
    }
    merged
}

impl Span {
    /// Whether all of it lies before all of the other.
    fn is_before(&self, other: &Self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= other.first)
    }

    fn holds(&self, other: &Self) -> bool {
        self.first <= other.first
            && match (&self.end, &other.end) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(own), Some(other)) => other <= own,
            }
    }

    fn is_empty(&self) -> bool {
        self.end.as_ref() == Some(&self.first)
    }

    fn elements(&self) -> impl Iterator<Item = Element> + use<> {
        let start = Element::single(self.first.clone());
        let end = self.end.clone().map(|key| Element {
            key,
            start: false,
            verdict: None,
        });
        let both = (!self.is_empty()).then(|| std::iter::once(start).chain(end));
        both.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranges of numbers below 8, as a bit for each.
    fn set(bits: u8, cuts: u8) -> BTreeSet<Element> {
        let mut all = BTreeSet::new();
        let mut open = false;
        for at in 0..8_u8 {
            let (inside, cut) = (bits >> at & 1 == 1, cuts >> at & 1 == 1);
            let mark = |start| Element {
                key: [at].into(),
                start,
                verdict: None,
            };
            if open && (!inside || cut) {
                all.insert(mark(false));
            }
            if inside && (!open || cut) {
                all.insert(mark(true));
            }
            open = inside;
        }
        all
    }

    /// What a packet finds in a tree whose elements are all there and of which only some are in force: the nearest
    /// start or end at or below its value decides alone.
    fn finds(tree: &BTreeSet<Element>, active: &BTreeSet<Element>, value: u8) -> bool {
        // An exact hit that is not in force is passed over, the kernel sees to that.
        let nearest = tree
            .iter()
            .rfind(|e| e.key[0] < value || (e.key[0] == value && e.start && active.contains(*e)));
        nearest.is_some_and(|nearest| {
            // At one place an end does not hide a start.
            let starts = tree
                .iter()
                .any(|e| e.key == nearest.key && e.start && active.contains(e));
            starts && (nearest.start || nearest.key[0] < value)
        })
    }

    #[test]
    fn what_stays_is_found_all_the_while() {
        let mut hard = 0;
        for old in 0..=255_u8 {
            for new in 0..=255_u8 {
                let cuts = old.wrapping_mul(37) ^ new.rotate_left(3);
                let (have, want) = (set(old, cuts), set(new, 0));
                let Some((gone, fresh)) = change(&have, &want) else {
                    hard += 1;
                    continue;
                };
                let then = after(&have, &want);
                let both: BTreeSet<Element> = have.union(&growth(&have, &want)).cloned().collect();
                assert_eq!(
                    merged(spans(&both).unwrap()),
                    merged(spans(&set(old | new, 0)).unwrap()),
                    "{old:#b} and {new:#b}"
                );
                assert_eq!(
                    merged(spans(&then).unwrap()),
                    merged(spans(&want).unwrap()),
                    "{old:#b} to {new:#b}"
                );
                let tree: BTreeSet<Element> = have.union(&fresh).cloned().collect();
                for value in 0..7 {
                    if (old & new) >> value & 1 == 1 {
                        assert!(
                            finds(&tree, &have, value),
                            "{old:#b} to {new:#b}: {value} before"
                        );
                        assert!(
                            finds(&tree, &then, value),
                            "{old:#b} to {new:#b}: {value} after"
                        );
                    }
                }
                assert_eq!(
                    (gone.is_empty(), fresh.is_empty()),
                    (old & !new == 0, new & !old == 0)
                );
            }
        }
        assert!(hard > 1_000, "{hard}");
    }

    #[test]
    fn a_range_that_would_be_cut_is_left_alone() {
        assert_eq!(change(&set(0b0111_1100, 0), &set(0b0001_0000, 0)), None);
        assert_eq!(
            change(&set(0b0001_0000, 0), &set(0b0111_1100, 0)).map(|(gone, _)| gone.len()),
            Some(0)
        );
    }
}
