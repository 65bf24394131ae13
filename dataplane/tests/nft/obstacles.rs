//! Other firewalls that would drop what policy has let through.

use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::Protocol;
use ocicat_dataplane::verdict::{Connection, Packet};

use crate::lab::*;
use crate::wire::*;

#[test]
fn found_and_named_with_what_helps() {
    node(|| {
        let mut table = Table::open().unwrap();
        table.apply(&small()).unwrap();
        assert_eq!(table.obstacles().unwrap(), []);
        nft(
            "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }
             table inet firewalld { chain filter_FORWARD {
               type filter hook forward priority 10; policy accept;
               ct state established accept
               counter reject with icmpx admin-prohibited
             }; }
             table inet early { chain forward { type filter hook forward priority -100; policy drop; }; }
             table inet harmless { chain forward {
               type filter hook forward priority 0; policy accept;
               iifname \"evil0\" drop
             }; chain input { type filter hook input priority 0; policy drop; }; }",
        );
        let found = table.obstacles().unwrap();
        let names: Vec<String> = found
            .iter()
            .map(|one| format!("{} {} {}", one.family, one.table, one.chain))
            .collect();
        assert_eq!(
            names,
            [
                "ip filter FORWARD",
                "inet firewalld filter_FORWARD",
                "inet early forward"
            ]
        );
        for one in &found {
            run_shell(&one.remedy);
        }
        assert_eq!(table.obstacles().unwrap(), []);
    });
}

/// A packet between two pods that policy lets through.
fn between(friend: &End, web: &End, number: u16) -> Packet {
    Packet {
        in_link: Some(link("cali2")),
        out_link: Some(link("cali1")),
        source: friend.address(true),
        destination: web.address(true),
        protocol: Protocol::UDP,
        ports: Some((40_000 + number, 80)),
        icmp: None,
        connection: Connection::New,
    }
}

/// What the kernel does with it.
fn reaches(friend: &End, web: &End, number: u16) -> bool {
    friend.send(&between(friend, web, number), number);
    web.received() == [number]
}

#[test]
fn legacy_iptables_is_found_and_helped() {
    node(|| {
        forwarding();
        let web = End::new("cali1", "10.65.0.2", "fd00::2");
        let friend = End::new("cali2", "10.65.0.3", "fd00::3");
        let mut table = Table::open().unwrap();
        table.apply(&small()).unwrap();
        careless();
        assert!(reaches(&friend, &web, 1));
        // To look makes no table.
        assert_eq!(table.obstacles().unwrap(), []);
        for version in ["ip", "ip6"] {
            let names = format!("/proc/thread-self/net/{version}_tables_names");
            let names = std::fs::read_to_string(&names).unwrap_or_else(|error| {
                panic!("{names}: {error}: this kernel has no legacy iptables to test with")
            });
            assert_eq!(names, "");
        }
        run("iptables-legacy -A FORWARD -i evil0 -j DROP");
        run("iptables-legacy -P INPUT DROP");
        run("ip6tables-legacy -A FORWARD -p tcp -j REJECT");
        assert_eq!(table.obstacles().unwrap(), []);
        run("iptables-legacy -P FORWARD DROP");
        assert!(!reaches(&friend, &web, 2), "the legacy policy drops it");
        // What is behind a rule that stops everything is not reached, whatever the policy.
        run("ip6tables-legacy -A FORWARD -j REJECT");
        let found = table.obstacles().unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|one| {
                (
                    one.family,
                    one.table.as_str(),
                    one.chain.as_str(),
                    one.legacy,
                )
            })
            .collect();
        assert_eq!(
            names,
            [
                ("ip", "filter", "FORWARD", true),
                ("ip6", "filter", "FORWARD", true)
            ]
        );
        for one in &found {
            run_shell(&one.remedy);
        }
        assert_eq!(table.obstacles().unwrap(), []);
        assert!(reaches(&friend, &web, 3), "the remedy helps");
        run("ip6tables-legacy -F FORWARD");
        run("ip6tables-legacy -P FORWARD DROP");
        assert_eq!(table.obstacles().unwrap().len(), 1);
    });
}

/// Each in turn as its program makes it: pods' packets do not pass, the obstacle is found, and its remedy is one.
#[test]
fn pods_pass_other_firewalls_with_the_remedy() {
    let docker =
        "iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER; iptables -P FORWARD DROP";
    let ufw = "iptables -P FORWARD DROP; iptables -N ufw-before-forward; \
        iptables -N ufw-reject-forward; iptables -A FORWARD -j ufw-before-forward; \
        iptables -A FORWARD -j ufw-reject-forward; \
        iptables -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
    let firewalld = "nft -f - <<'END'
        table inet firewalld {
          chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
            ct state { established, related } accept
            ct status dnat accept
            iifname lo accept
            jump filter_FORWARD_ZONES
            ct state invalid drop
            reject with icmpx admin-prohibited
          }
          chain filter_FORWARD_ZONES { iifname eth0 goto filter_FWD_public; }
          chain filter_FWD_public { }
        }\nEND";
    let early = "nft add table inet early; \
        nft add chain inet early forward '{ type filter hook forward priority -100; policy drop; }'";
    for (name, script) in [
        ("Docker", docker),
        ("ufw", ufw),
        ("firewalld", firewalld),
        ("one before us", early),
    ] {
        node(move || {
            forwarding();
            let web = End::new("cali1", "10.65.0.2", "fd00::2");
            let friend = End::new("cali2", "10.65.0.3", "fd00::3");
            let mut table = Table::open().unwrap();
            table.apply(&small()).unwrap();
            careless();
            assert!(reaches(&friend, &web, 1), "{name}");
            run_shell(&script.replace("\\n", "\n"));
            assert!(!reaches(&friend, &web, 2), "{name} drops it");
            let found = table.obstacles().unwrap();
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            run_shell(&found[0].remedy);
            assert_eq!(table.obstacles().unwrap(), [], "{name}");
            assert!(reaches(&friend, &web, 3), "{name}: the remedy helps");
            // What policy denies does not pass for that.
            let denied = Packet {
                ports: Some((40_000, 81)),
                ..between(&friend, &web, 4)
            };
            friend.send(&denied, 4);
            assert_eq!(web.received(), [] as [u16; 0], "{name}");
        });
    }
}

fn run_shell(line: &str) {
    let output = std::process::Command::new("sh")
        .args(["-c", line])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
