//! The fewest changes that make a chain's rules those desired: what stays keeps its counters.

use std::sync::Arc;

use super::Op;
use crate::nft::known::KnownChain;
use crate::nft::ruleset::Chain;

/// Past so many rules that differ on both sides the middle is replaced as a whole, not compared.
const COMPARED: usize = 256;

/// One step through both lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The known rule stays.
    Keep(usize),
    /// The known rule goes.
    Drop(usize),
    /// The desired rule comes.
    Add(usize),
}

pub(super) fn append_all(want: &Arc<Chain>, ops: &mut Vec<Op>) {
    ops.extend((0..want.rules.len()).map(|rule| Op::NewRule {
        chain: want.clone(),
        rule,
        before: None,
    }));
}

/// Whether the change of the chain goes by the numbers of its rules.
pub(super) fn needs_handles(have: &KnownChain, want: &Chain) -> bool {
    if have.hook != want.hook {
        return false;
    }
    let steps = steps(have, want);
    let keeps = steps.iter().any(|step| matches!(step, Step::Keep(_)));
    let changes = steps.iter().any(|step| !matches!(step, Step::Keep(_)));
    // Rules that only come at the end need no number.
    let last_keep = steps.iter().rposition(|step| matches!(step, Step::Keep(_)));
    let before = steps.iter().take(last_keep.unwrap_or(0));
    let only_end = before.clone().all(|step| matches!(step, Step::Keep(_)))
        && !steps.iter().any(|step| matches!(step, Step::Drop(_)));
    keeps && changes && !only_end
}

/// The operations; [`needs_handles`] must have been heeded.
pub(super) fn change(want: &Arc<Chain>, have: &KnownChain, ops: &mut Vec<Op>) {
    let steps = steps(have, want);
    if steps.iter().all(|step| matches!(step, Step::Keep(_))) {
        return;
    }
    if !steps.iter().any(|step| matches!(step, Step::Keep(_))) {
        if !have.rules.is_empty() {
            ops.push(Op::Flush(want.name.clone()));
        }
        append_all(want, ops);
        return;
    }
    let handle = |at: usize| {
        have.handles
            .as_ref()
            .and_then(|handles| handles.get(at))
            .copied()
    };
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Keep(_) => {}
            Step::Drop(known) => {
                if let Some(handle) = handle(*known) {
                    ops.push(Op::DelRule {
                        chain: want.name.clone(),
                        handle,
                    });
                }
            }
            Step::Add(rule) => {
                let next = steps.iter().skip(at).find_map(|step| match step {
                    Step::Keep(known) => Some(*known),
                    _ => None,
                });
                let before = next.and_then(handle);
                ops.push(Op::NewRule {
                    chain: want.clone(),
                    rule: *rule,
                    before,
                });
            }
        }
    }
}

fn steps(have: &KnownChain, want: &Chain) -> Vec<Step> {
    let same = |known: usize, rule: usize| {
        have.rules.get(known).copied().flatten() == want.rules.get(rule).map(|rule| rule.hash)
    };
    let (olds, news) = (have.rules.len(), want.rules.len());
    let shorter = olds.min(news);
    let head = (0..shorter).take_while(|at| same(*at, *at)).count();
    let tail = (1..=shorter - head)
        .take_while(|back| same(olds - back, news - back))
        .count();
    let mut steps: Vec<Step> = (0..head).map(Step::Keep).collect();
    let (old, new) = (head..olds - tail, head..news - tail);
    if old.len() * new.len() > COMPARED * COMPARED {
        steps.extend(old.map(Step::Drop));
        steps.extend(new.map(Step::Add));
    } else {
        middle(old, new, same, &mut steps);
    }
    steps.extend((olds - tail..olds).map(Step::Keep));
    steps
}

/// A longest common subsequence by dynamic programming.
fn middle(
    old: std::ops::Range<usize>,
    new: std::ops::Range<usize>,
    same: impl Fn(usize, usize) -> bool,
    steps: &mut Vec<Step>,
) {
    let width = new.len() + 1;
    let mut longest = vec![0_u16; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i * width + j] = if same(old.start + i, new.start + j) {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        let (known, rule) = (old.start + i, new.start + j);
        if i < old.len() && j < new.len() && same(known, rule) {
            steps.push(Step::Keep(known));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || (i < old.len() && longest[(i + 1) * width + j] >= longest[i * width + j + 1])
        {
            steps.push(Step::Drop(known));
            i += 1;
        } else {
            steps.push(Step::Add(rule));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::statement::{Rule, Statement};

    fn chain(rules: &[u32]) -> Arc<Chain> {
        let rule = |bits: &u32| Rule::new(vec![Statement::Marked(*bits)], "");
        Arc::new(Chain {
            name: "c".into(),
            hook: None,
            rules: rules.iter().map(rule).collect(),
        })
    }

    /// Does the operations to a list of rules, as the kernel would.
    fn execute(have: &KnownChain, ops: &[Op]) -> Vec<u64> {
        let handles = have.handles.clone().unwrap_or_default();
        let hashes = have.rules.iter().map(|hash| hash.unwrap_or(0));
        let mut rules: Vec<(u64, u64)> = handles.into_iter().zip(hashes).collect();
        for op in ops {
            match op {
                Op::Flush(_) => rules.clear(),
                Op::DelRule { handle, .. } => rules.retain(|(one, _)| one != handle),
                Op::NewRule {
                    chain,
                    rule,
                    before,
                } => {
                    let at = before.map_or(rules.len(), |before| {
                        rules.iter().position(|(one, _)| *one == before).unwrap()
                    });
                    rules.insert(at, (u64::MAX, chain.rules[*rule].hash));
                }
                other => panic!("{other}"),
            }
        }
        rules.into_iter().map(|(_, hash)| hash).collect()
    }

    #[test]
    fn every_list_becomes_every_other_with_what_is_common_kept() {
        let lists: Vec<Vec<u32>> = (0..243_u32)
            .map(|n| {
                (0..5)
                    .map(|at| n / 3_u32.pow(at) % 3)
                    .filter(|rule| *rule > 0)
                    .collect()
            })
            .collect();
        for old in lists.iter().step_by(3) {
            for new in &lists {
                let (was, want) = (chain(old), chain(new));
                let have = KnownChain {
                    rules: was.rules.iter().map(|rule| Some(rule.hash)).collect(),
                    handles: Some((1..).take(old.len()).collect()),
                    ..KnownChain::default()
                };
                let mut ops = Vec::new();
                change(&want, &have, &mut ops);
                let expected: Vec<u64> = want.rules.iter().map(|rule| rule.hash).collect();
                assert_eq!(execute(&have, &ops), expected, "{old:?} to {new:?}");
                assert_eq!(ops.is_empty(), old == new);
                let blind = KnownChain {
                    handles: None,
                    ..have.clone()
                };
                if !needs_handles(&have, &want) {
                    let mut same = Vec::new();
                    change(&want, &blind, &mut same);
                    assert_eq!(same, ops, "{old:?} to {new:?} needs no numbers");
                }
            }
        }
    }
}
