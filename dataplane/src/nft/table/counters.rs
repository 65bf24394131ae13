//! What the table's rules have counted, by what they were made for.

use super::{ATTEMPTS, Error, Table, kernel};
use crate::nft::compile::{self, Piece};
use crate::nft::dump::{self, Counted};
use crate::nft::ruleset::Chain;
use crate::nft::socket::DumpError;
use crate::nft::statement::hash_in;
use crate::{Count, Counters, Direction};

impl Table {
    /// What the kernel has counted, of what the last [`apply`](Self::apply) put into it.
    ///
    /// # Errors
    /// When the table could not be read.
    pub fn counters(&mut self) -> Result<Counters, Error> {
        for _ in 0..ATTEMPTS {
            let all = match dump::counts(&mut self.socket) {
                Ok(all) => all,
                Err(DumpError::Interrupted) => continue,
                Err(DumpError::Kernel(errno)) => {
                    let errno = kernel(errno);
                    return Err(Error::Read { errno });
                }
            };
            let mut counters = Counters {
                chains: self.known.chains.len(),
                rules: all.values().map(Vec::len).sum(),
                ..Counters::default()
            };
            for (piece, chain) in self.desired.policies() {
                let rules = all.get(&chain.name).map_or(&[][..], Vec::as_slice);
                let counts = of_policy(chain, rules);
                match piece {
                    Piece::Policy(id, way) => {
                        counters
                            .policies
                            .insert((id.clone(), direction(*way)), counts);
                    }
                    Piece::Profile(id, way) => {
                        counters
                            .profiles
                            .insert((id.clone(), direction(*way)), counts);
                    }
                    _ => {}
                }
            }
            for (name, rules) in &all {
                if name.starts_with("policy-") || name.starts_with("profile-") {
                    continue;
                }
                for rule in rules.iter().filter(|rule| rule.denies) {
                    let reason = rule.comment.get(17..).unwrap_or_default();
                    if let Some(count) = rule.count.filter(|_| !reason.is_empty()) {
                        *counters.denied.entry(reason.to_owned()).or_default() += count;
                    }
                }
            }
            return Ok(counters);
        }
        Err(Error::Contended { attempts: ATTEMPTS })
    }
}

const fn direction(direction: compile::Direction) -> Direction {
    match direction {
        compile::Direction::In => Direction::Ingress,
        compile::Direction::Out => Direction::Egress,
    }
}

/// A count for each rule of the policy, of the kernel's rules that it became.
fn of_policy(chain: &Chain, rules: &[Counted]) -> Vec<Count> {
    let last = chain.rules.iter().filter_map(|rule| rule.origin).max();
    let mut counts = vec![Count::default(); last.map_or(0, |last| last + 1)];
    // Equal rules come in the order of the policy, in both.
    let mut found = rules.iter();
    for want in &chain.rules {
        let same = found.find(|rule| hash_in(&rule.comment) == Some(want.hash));
        let (Some(rule), Some(origin)) = (same, want.origin) else {
            continue;
        };
        if let (Some(sum), Some(count)) = (counts.get_mut(origin), rule.count) {
            *sum += count;
        }
    }
    counts
}
