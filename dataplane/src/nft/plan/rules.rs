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
