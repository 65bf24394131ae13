//! What is asked: decided here, in plain data.

use std::net::{IpAddr, SocketAddr};

use super::PORT;

/// A server of the test, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// Its node.
    pub(super) node: String,
    /// One address of each family that it has.
    pub(super) addresses: Vec<IpAddr>,
}

/// A part of the test: what holds in it, and what has to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No policy of the test's own.
    Open,
    /// A policy admits somebody else alone.
    Denied,
    /// The one whom that policy admits.
    Admitted,
    /// The policy is gone again.
    Again,
}

impl Phase {
    /// All, in their order.
    pub(super) const ALL: [Self; 4] = [Self::Open, Self::Denied, Self::Admitted, Self::Again];

    /// In reports.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Open => "no policy",
            Self::Denied => "policy denies",
            Self::Admitted => "policy admits",
            Self::Again => "policy removed",
        }
    }

    /// In names of pods.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Denied => "denied",
            Self::Admitted => "admitted",
            Self::Again => "again",
        }
    }

    /// Whether the servers have to be reached.
    pub(super) const fn reached(self) -> bool {
        !matches!(self, Self::Denied)
    }
}

/// One question of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// Who is asked, in words.
    pub(super) to: String,
    /// Where.
    pub(super) address: SocketAddr,
}

/// What the client on a node asks: the server there, those on the other nodes, and the Service at each of its addresses.
pub(super) fn questions(node: &str, servers: &[Server], service: &[IpAddr]) -> Vec<Question> {
    let (own, others): (Vec<_>, Vec<_>) = servers.iter().partition(|one| one.node == node);
    let asked = |server: &Server, to: String| {
        let addresses = server.addresses.clone();
        addresses.into_iter().map(move |address| Question {
            to: to.clone(),
            address: SocketAddr::new(address, PORT),
        })
    };
    let mut all = Vec::new();
    for server in own {
        all.extend(asked(server, "pod on the same node".to_owned()));
    }
    for server in others {
        all.extend(asked(server, format!("pod on {}", server.node)));
    }
    all.extend(service.iter().map(|address| Question {
        to: "Service".to_owned(),
        address: SocketAddr::new(*address, PORT),
    }));
    all
}

/// The nodes to test, at most `most`, and why the others are not tested.
pub(super) fn choose(
    nodes: Vec<(String, Result<(), String>)>,
    most: usize,
) -> (Vec<String>, Vec<String>) {
    let (mut chosen, mut left) = (Vec::new(), Vec::new());
    let mut surplus = 0;
    for (name, fit) in nodes {
        match fit {
            Ok(()) if chosen.len() < most => chosen.push(name),
            Ok(()) => surplus += 1,
            Err(why) => left.push(format!("node {name}: {why}")),
        }
    }
    if surplus > 0 {
        left.push(format!(
            "{surplus} more nodes: --nodes {most} is the most that is asked for"
        ));
    }
    if chosen.len() == 1 {
        left.push("from node to node: there is one node to test".to_owned());
    }
    (chosen, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(node: &str, last: u8) -> Server {
        Server {
            node: node.into(),
            addresses: vec![[10, 0, 0, last].into()],
        }
    }

    #[test]
    fn a_client_asks_its_own_node_the_others_and_the_service() {
        let servers = [server("a", 1), server("b", 2), server("c", 3)];
        let asked = questions("b", &servers, &[[10, 96, 0, 9].into()]);
        let asked: Vec<_> = asked
            .iter()
            .map(|one| (one.to.as_str(), one.address.to_string()))
            .collect();
        let expected = [
            ("pod on the same node", "10.0.0.2:8080"),
            ("pod on a", "10.0.0.1:8080"),
            ("pod on c", "10.0.0.3:8080"),
            ("Service", "10.96.0.9:8080"),
        ];
        assert_eq!(asked, expected.map(|(to, at)| (to, at.to_owned())));
    }

    #[test]
    fn both_families_are_asked() {
        let mut both = server("a", 1);
        both.addresses.push("fd00::1".parse().expect("an address"));
        assert_eq!(questions("a", &[both], &[]).len(), 2);
    }

    #[test]
    fn what_is_not_tested_is_said() {
        let nodes = vec![
            ("a".to_owned(), Ok(())),
            ("b".to_owned(), Err("is not ready".to_owned())),
            ("c".to_owned(), Ok(())),
        ];
        let (chosen, left) = choose(nodes.clone(), 5);
        assert_eq!(
            (chosen.len(), left),
            (2, vec!["node b: is not ready".to_owned()])
        );
        let (chosen, left) = choose(nodes, 1);
        assert_eq!(chosen, ["a"]);
        assert!(
            left.iter().any(|one| one.starts_with("1 more nodes")),
            "{left:?}"
        );
        assert!(left.iter().any(|one| one.contains("one node")), "{left:?}");
    }

    #[test]
    fn the_policy_denies_in_one_phase_alone() {
        let denied: Vec<_> = Phase::ALL.iter().filter(|one| !one.reached()).collect();
        assert_eq!(denied, [&Phase::Denied]);
    }
}
