use std::fmt;

use crate::number::AsNumber;
use crate::wire::segments;

/// An AS_PATH: the ASes that a route has passed, the last one first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AsPath<'a>(pub(crate) &'a [u8]);

/// A part of an AS_PATH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// ASes in the order that the route passed them, the last one first.
    Sequence(Vec<AsNumber>),
    /// ASes without an order, left by aggregation.
    Set(Vec<AsNumber>),
}

fn numbers(octets: &[u8]) -> impl Iterator<Item = AsNumber> + '_ {
    octets
        .chunks_exact(4)
        .map(|n| AsNumber(u32::from_be_bytes([n[0], n[1], n[2], n[3]])))
}

impl<'a> AsPath<'a> {
    /// Every AS number in the path, those of sets too.
    pub fn iter(&self) -> impl Iterator<Item = AsNumber> + 'a {
        segments(self.0, 4).flat_map(|(_, octets)| numbers(octets))
    }

    /// The segments.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + 'a {
        segments(self.0, 4).map(|(kind, octets)| match kind {
            1 => Segment::Set(numbers(octets).collect()),
            _ => Segment::Sequence(numbers(octets).collect()),
        })
    }

    /// The length that the decision process compares: a set counts as one (RFC 4271 section 9.1.2.2 a).
    #[must_use]
    pub fn length(&self) -> usize {
        segments(self.0, 4)
            .map(|(kind, octets)| if kind == 1 { 1 } else { octets.len() / 4 })
            .sum()
    }

    /// The AS that the route came from: the first of a path that begins with a sequence.
    #[must_use]
    pub fn first(&self) -> Option<AsNumber> {
        let (kind, octets) = segments(self.0, 4).next()?;
        if kind == 2 {
            numbers(octets).next()
        } else {
            None
        }
    }

    /// The AS that originated the route: the last of a path that ends with a sequence.
    #[must_use]
    pub fn origin(&self) -> Option<AsNumber> {
        let (kind, octets) = segments(self.0, 4).last()?;
        if kind == 2 {
            numbers(octets).last()
        } else {
            None
        }
    }

    /// Whether the path is empty: a route of this AS.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How often `number` is in the path.
    #[must_use]
    pub fn count(&self, number: AsNumber) -> usize {
        self.iter().filter(|&each| each == number).count()
    }
}

impl fmt::Display for AsPath<'_> {
    /// Numbers with spaces between them, sets in braces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for (kind, octets) in segments(self.0, 4) {
            let (open, between, close) = if kind == 1 {
                ("{", ",", "}")
            } else {
                ("", " ", "")
            };
            write!(f, "{space}{open}")?;
            space = " ";
            for (at, number) in numbers(octets).enumerate() {
                write!(f, "{}{number}", if at == 0 { "" } else { between })?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

impl fmt::Debug for AsPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
