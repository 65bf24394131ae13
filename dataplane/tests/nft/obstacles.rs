//! Other firewalls that would drop what policy has let through.

use ocicat_dataplane::nft::Table;

use crate::lab::*;

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
