//! What nft(8) prints about a packet, read.

use serde::Serialize;

/// A step of a packet through a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "lowercase")]
pub(super) enum Step {
    /// It is at a hook.
    At {
        /// The chain of the hook.
        chain: String,
        /// Where it came in.
        link: String,
        /// Where it goes out, once that is known.
        out: Option<String>,
        /// Its length with its header, bytes.
        length: Option<u32>,
    },
    /// A rule decided something about it.
    Rule {
        /// The rule's chain.
        chain: String,
        /// Whose chain that is, for users.
        of: Option<String>,
        /// The rule without counters.
        rule: String,
        /// What it decided.
        verdict: String,
    },
}

/// Reads a line of `nft monitor trace`: the packet's number and the step. Lines about other things, and rules that decide
/// nothing, are none.
pub(super) fn read(line: &str) -> Option<(String, Step)> {
    let rest = line.strip_prefix("trace id ")?;
    let mut words = rest.splitn(5, ' ');
    let (id, family, table, chain) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let what = words.next()?.trim();
    if table == "ocicat-trace" {
        return None;
    }
    let chain = match table {
        "ocicat" => chain.to_owned(),
        // Somebody else's: its table says whose.
        _ => format!("{family} {table} {chain}"),
    };
    let step = if let Some(packet) = what.strip_prefix("packet: ") {
        Step::At {
            chain,
            link: value(packet, "iif").unwrap_or_default(),
            out: value(packet, "oif"),
            length: value(packet, "length").and_then(|text| text.parse().ok()),
        }
    } else if let Some(rule) = what.strip_prefix("rule ") {
        let (rule, verdict) = rule.rsplit_once(" (verdict ")?;
        let verdict = verdict.trim_end_matches(')').to_owned();
        if verdict == "continue" {
            return None;
        }
        Step::Rule {
            of: owner(&chain, rule),
            chain,
            rule: plain(rule),
            verdict,
        }
    } else {
        // A chain's own end matters only where it refuses.
        let verdict = what.strip_prefix("policy ")?;
        let verdict = verdict.split(' ').next().filter(|one| *one != "accept")?;
        Step::Rule {
            chain,
            of: None,
            rule: "the end of the chain".to_owned(),
            verdict: verdict.to_owned(),
        }
    };
    Some((id.to_owned(), step))
}

/// The word behind a word, without quotes.
fn value(text: &str, name: &str) -> Option<String> {
    let mut words = text.split(' ');
    words.find(|word| *word == name)?;
    Some(words.next()?.trim_matches('"').to_owned())
}

/// Whose a chain is.
fn owner(chain: &str, rule: &str) -> Option<String> {
    let parts: Vec<&str> = chain.split('/').collect();
    match parts.as_slice() {
        ["policy-in" | "policy-out", "np", namespace, tier, name @ ..] => {
            let name = name.join("/");
            Some(format!("NetworkPolicy {namespace}/{name} in tier {tier}"))
        }
        ["policy-in" | "policy-out", "gnp", tier, name @ ..] => {
            let name = name.join("/");
            Some(format!("GlobalNetworkPolicy {name} in tier {tier}"))
        }
        ["profile-in" | "profile-out", name] => Some(format!("Profile {name}")),
        _ => comment(rule),
    }
}

/// What our comment says behind its number.
fn comment(rule: &str) -> Option<String> {
    let comment = rule.split_once("comment \"")?.1.trim_end_matches('"');
    Some(comment.split_once(' ')?.1.to_owned())
}

/// A rule without its counter and our number.
fn plain(rule: &str) -> String {
    let rule = rule.split(" comment \"").next().unwrap_or_default();
    let mut words: Vec<&str> = rule.split(' ').collect();
    if let Some(at) = words.iter().position(|word| *word == "counter") {
        words.drain(at..(at + 5).min(words.len()));
    }
    words.join(" ")
}

impl Step {
    /// Whether it ends here.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self, Self::Rule { verdict, .. } if verdict == "drop" || verdict == "reject")
    }

    /// Whether a reader wants it: jumps between our own chains say nothing.
    pub(super) fn is_worth_telling(&self) -> bool {
        match self {
            Self::At { .. } => true,
            Self::Rule { of, verdict, .. } => {
                self.is_denial() || (of.is_some() && !verdict.starts_with("jump"))
            }
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At {
                chain,
                link,
                out,
                length,
            } => {
                write!(f, "at {chain}, from {link}")?;
                if let Some(out) = out {
                    write!(f, " to {out}")?;
                }
                match length {
                    Some(length) => write!(f, ", {length} bytes"),
                    None => Ok(()),
                }
            }
            Self::Rule {
                chain,
                of,
                rule,
                verdict,
            } => {
                let of = of.as_ref().unwrap_or(chain);
                let verdict = match verdict.as_str() {
                    // The mark is how our chains say it to those that called them.
                    "return" if rule.contains("| 0x00010000") => "allows",
                    "return" if rule.contains("| 0x00020000") => "passes on",
                    "return" => "returns",
                    "accept" => "accepts",
                    "drop" => "DROPS",
                    other => other,
                };
                write!(f, "{of}: {verdict}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "trace id 74590b69 inet ocicat forward packet: iif \"cali5\" oif \"vxlan.calico\" ether saddr da:a8:42:ea:5d:b8 ip saddr 10.1.0.1 ip length 60 tcp dport 80 ";

    #[test]
    fn packets_and_rules_are_read() {
        let (id, step) = read(AT).expect("a packet");
        assert_eq!(id, "74590b69");
        assert_eq!(
            step.to_string(),
            "at forward, from cali5 to vxlan.calico, 60 bytes"
        );
        let rule =
            |text: &str| read(&format!("trace id 1 inet ocicat {text}")).map(|(_, step)| step);
        let allowed = rule(
            "policy-in/np/shop/default/knp.default.a rule tcp dport 8080 counter packets 1 bytes 60 meta mark set meta mark | 0x00010000 return comment \"757a\" (verdict return)",
        );
        let allowed = allowed.expect("a rule");
        assert!(allowed.is_worth_telling() && !allowed.is_denial());
        assert_eq!(
            allowed.to_string(),
            "NetworkPolicy shop/knp.default.a in tier default: allows"
        );
        let Step::Rule { rule: text, .. } = allowed else {
            panic!("it is a rule");
        };
        assert_eq!(
            text,
            "tcp dport 8080 meta mark set meta mark | 0x00010000 return"
        );
        let denied = rule(
            "tier-in/e0 rule counter packets 1 bytes 60 drop comment \"bb8e end of tier default\" (verdict drop)",
        );
        let denied = denied.expect("a rule");
        assert!(denied.is_denial());
        assert_eq!(denied.to_string(), "end of tier default: DROPS");
        assert_eq!(rule("forward policy accept meta mark 0x1"), None);
        assert!(rule("forward policy drop ").expect("an end").is_denial());
        assert_eq!(rule("x rule meta mark set 1 (verdict continue)"), None);
    }

    #[test]
    fn another_firewall_is_named() {
        let line = "trace id 1 ip filter DOCKER rule drop (verdict drop)";
        let (_, step) = read(line).expect("a rule");
        assert_eq!(step.to_string(), "ip filter DOCKER: DROPS");
        assert_eq!(
            read("trace id 1 inet ocicat-trace packets policy accept "),
            None
        );
        assert_eq!(read("add rule inet x y"), None);
    }
}
