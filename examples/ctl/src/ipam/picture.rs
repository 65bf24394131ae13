//! A picture of blocks: a character for each address.

use ocicat_ipam::{Block, Ordinal, Stored};

/// How many addresses are drawn in a line.
const WIDTH: usize = 64;
/// How many lines a block may take; larger ones are drawn with several addresses a character.
const LINES: usize = 4;

/// Draws blocks in the order of their addresses: `#` held, `.` free, `+` some of the addresses of this character held,
/// `x` neither held nor free (cooling down).
pub(super) fn blocks(blocks: &[Stored<Block>]) -> String {
    let mut blocks: Vec<&Block> = blocks.iter().map(|stored| &stored.value).collect();
    blocks.sort_by_key(|block| block.cidr());
    let width = |block: &&Block| block.cidr().to_string().len();
    let widest = blocks.iter().map(width).max().unwrap_or(0);
    let mut lines = vec!["# held  . free  x cooling down".to_owned()];
    for block in blocks {
        for (index, line) in drawn(block).into_iter().enumerate() {
            let name = if index == 0 {
                block.cidr().to_string()
            } else {
                String::new()
            };
            lines.push(format!("{name:widest$}  {line}"));
        }
    }
    lines.join("\n")
}

fn drawn(block: &Block) -> Vec<String> {
    let size = usize::from(block.size());
    let each = size.div_ceil(WIDTH * LINES).max(1);
    let mut characters = String::new();
    for start in (0..size).step_by(each) {
        let ordinals = (start..size.min(start + each)).filter_map(|one| u16::try_from(one).ok());
        let (mut held, mut free, mut all) = (0, 0, 0);
        for ordinal in ordinals.map(Ordinal::new) {
            all += 1;
            held += usize::from(block.allocation(ordinal).is_some());
            free += usize::from(block.is_free(ordinal));
        }
        characters.push(match (held, free) {
            (held, _) if held == all => '#',
            (0, free) if free == all => '.',
            (0, 0) => 'x',
            (0, _) => '.',
            _ => '+',
        });
    }
    let characters: Vec<char> = characters.chars().collect();
    characters
        .chunks(WIDTH)
        .map(|line| line.iter().collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use ocicat_ipam::{Allocation, HandleId, Owner};

    use super::*;

    #[test]
    fn held_addresses_are_marked() {
        let cidr = "10.0.0.0/29".parse().expect("a range");
        let mut block = Block::new(cidr, Owner::host("n1"), UNIX_EPOCH).expect("a block");
        let allocation = Arc::new(Allocation::new(HandleId::from("h"), BTreeMap::new()));
        for ordinal in [0, 3] {
            assert!(block.take(Ordinal::new(ordinal), &allocation));
        }
        assert_eq!(drawn(&block), ["#..#...."]);
    }
}
