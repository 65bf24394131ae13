//! The same without any privilege on the machine, in a user namespace, and with little room in the socket.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::SetId;

use crate::lab::*;

/// Removes the copy of this program, whatever happens.
struct Copy(std::path::PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn in_a_user_namespace() {
    let copy = Copy(std::env::temp_dir().join(format!("ocnft-{}", std::process::id())));
    std::fs::copy(std::env::current_exe().unwrap(), &copy.0).unwrap();
    std::fs::set_permissions(&copy.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = if knows_nobody() {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "unshare",
        ]);
        command
    } else {
        Command::new("unshare")
    };
    let output = command
        .arg("-Urnm")
        .arg(&copy.0)
        .args(["adopt::", "shape::", "small_room"])
        .current_dir("/")
        .output()
        .expect("setpriv(1) and unshare(1) are needed");
    let text = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{err}");
    assert!(!text.contains(" 0 passed"), "{text}");
}

/// Whether this process can become user 65534: as the machine's root, not as root of a user namespace of one user.
fn knows_nobody() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let count = map
        .split_whitespace()
        .nth(2)
        .and_then(|count| count.parse().ok());
    nix::unistd::geteuid().is_root() && count.unwrap_or(0_u64) > 65_534
}

#[test]
fn small_room() {
    node(|| {
        let mut state = small();
        let set = state.sets.entry(SetId::new("s:friends")).or_default();
        for at in 0..5_000_u16 {
            let [a, b] = at.to_be_bytes();
            set.insert(host(&format!("10.66.{a}.{b}")));
        }
        for at in 0..200 {
            let pod = workload(
                &[&format!("10.65.1.{at}")],
                vec![tier(&["np/default/default/web"])],
                Vec::new(),
            );
            state
                .workloads
                .insert(link(&format!("calix{at}")), pod.into());
        }
        // The least that the kernel gives is some 4 KiB.
        let mut table = Table::with_send_buffer(1).unwrap();
        let report = table.apply(&state).unwrap();
        assert!(report.longest < 5 << 10, "{report:?}");
        assert!(report.transactions > 50, "{report:?}");
        run("nft delete table inet ocicat");
        let mut table = Table::with_send_buffer(64 << 10).unwrap();
        let report = table.apply(&state).unwrap();
        assert!(report.longest < 64 << 10, "{report:?}");
        assert!(report.transactions > 5, "{report:?}");
        assert_eq!(Table::open().unwrap().apply(&state).unwrap().changed, 0);
        state.workloads.clear();
        state.sets.clear();
        assert!(table.apply(&state).unwrap().longest < 64 << 10);
        assert_eq!(Table::open().unwrap().apply(&state).unwrap().changed, 0);
    });
}
