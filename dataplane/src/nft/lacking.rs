//! What a kernel may lack, and what is programmed instead.

use std::fmt;

use super::statement::{Rule, Statement, Verdict};

/// A part of nf_tables that a kernel may be built without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Lacking {
    /// Module nft_log or a logger: Log rules count and write nothing.
    Log,
    /// Module nft_limit: Log rules with a rate write nothing.
    Limit,
    /// Module nft_reject_inet: what should be refused is dropped silently.
    Reject,
    /// Module nft_fib_inet: the node's own packets keep their address when they go to a tunnel, and what answers a
    /// Service's client on the node may go astray.
    Fib,
    /// nf_tables of family arp (`CONFIG_NF_TABLES_ARP`): pods may name any address in ARP; their packets are still checked.
    Arp,
    /// Modules nft_nat and nft_masq: pods' packets leave with pods' addresses.
    Nat,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "no nft_log: rules with action Log write nothing",
            Self::Limit => "no nft_limit: rules with action Log write nothing",
            Self::Reject => "no nft_reject_inet: what should be refused is dropped silently",
            Self::Fib => "no nft_fib_inet: the node's packets to tunnels keep their address",
            Self::Arp => "no nf_tables for ARP: pods may name any address in ARP",
            Self::Nat => "no nft_nat or nft_masq: pods' packets leave with pods' addresses",
        })
    }
}

impl Statement {
    const fn needs(&self) -> Option<Lacking> {
        match self {
            Self::Log { .. } => Some(Lacking::Log),
            Self::Limit { .. } => Some(Lacking::Limit),
            Self::Reset | Self::Prohibit => Some(Lacking::Reject),
            Self::LocalSource { .. } => Some(Lacking::Fib),
            Self::Masquerade { .. } | Self::SourceNat { .. } => Some(Lacking::Nat),
            _ => None,
        }
    }
}

/// What the kernel may lack when it does not know an expression of the rule.
pub(crate) fn suspects(rule: &Rule) -> impl Iterator<Item = Lacking> + '_ {
    rule.statements.iter().filter_map(Statement::needs)
}

/// The rule without what the kernel lacks; `None` when nothing useful is left of it.
pub(crate) fn without(rule: &Rule, lacking: &[Lacking]) -> Option<Rule> {
    let missing = |statement: &Statement| statement.needs().filter(|one| lacking.contains(one));
    if !rule
        .statements
        .iter()
        .any(|statement| missing(statement).is_some())
    {
        return Some(rule.clone());
    }
    let mut statements = Vec::new();
    for statement in &rule.statements {
        match missing(statement) {
            None => statements.push(statement.clone()),
            Some(Lacking::Reject) => statements.push(Statement::Verdict(Verdict::Drop)),
            // Without its limit a log would flood.
            Some(Lacking::Log | Lacking::Limit) => break,
            Some(Lacking::Fib | Lacking::Nat | Lacking::Arp) => return None,
        }
    }
    Some(Rule {
        origin: rule.origin,
        ..Rule::new(statements, &rule.remark)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_becomes_a_drop_and_a_log_a_count() {
        let log = Statement::Log {
            prefix: "p".into(),
            group: None,
        };
        let limit = Statement::Limit { per_minute: 1 };
        let rule = |statements| Rule::new(statements, "r");
        let text = |rule: Option<Rule>| rule.map(|rule| rule.to_string());
        let refuse = rule(vec![Statement::Counter, Statement::Reset]);
        assert_eq!(
            text(without(&refuse, &[Lacking::Reject])).as_deref(),
            Some("counter drop")
        );
        assert_eq!(without(&refuse, &[Lacking::Log]), Some(refuse.clone()));
        let limited = rule(vec![Statement::Counter, limit, log]);
        assert_eq!(
            text(without(&limited, &[Lacking::Limit])).as_deref(),
            Some("counter")
        );
        assert_eq!(
            without(
                &rule(vec![Statement::Masquerade { ports: None }]),
                &[Lacking::Nat]
            ),
            None
        );
    }
}
