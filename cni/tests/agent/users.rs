//! Who may call, as the kernel tells it.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use ocicat_cni::CniError;
use serde_json::{Value, json};

use super::{network, served};

/// Prints its user, sends a frame around its second argument to the socket of the first, and prints the answer's JSON. Who is
/// refused may be answered before having said all.
const CALL: &str = r#"use IO::Socket::UNIX;
$SIG{PIPE} = "IGNORE";
print "$<\n";
my $socket = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "connecting: $!";
syswrite($socket, pack("N", length $ARGV[1]) . $ARGV[1]);
local $/;
print substr(<$socket>, 4);"#;

/// A container's root is nobody here, whatever it is called inside.
#[test]
fn root_of_another_user_namespace_is_refused() {
    const NOBODY: u32 = 65534;
    let served = served(|limits| limits.user = 0);
    let socket = served.server.socket();
    // Nothing but the agent's own look stands in the way.
    let everybody = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    everybody(socket.parent().unwrap(), 0o755);
    everybody(socket, 0o666);
    let own = rustix::process::getuid().as_raw();
    let (mut command, outside) = if own == 0 {
        let mut command = Command::new("setpriv");
        command.args([
            &format!("--reuid={NOBODY}"),
            "--regid=65534",
            "--clear-groups",
            "unshare",
        ]);
        (command, NOBODY)
    } else {
        (Command::new("unshare"), own)
    };
    let call = json!({"protocol": 1, "command": "DEL", "container_id": "a", "ifname": "eth0",
        "config": network().raw});
    let output = command
        .args(["--user", "--map-root-user", "perl", "-e", CALL])
        .arg(socket)
        .arg(call.to_string())
        .output()
        .expect("setpriv, unshare and perl are needed");
    let told = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    let (inside, reply) = told
        .split_once('\n')
        .unwrap_or_else(|| panic!("no user namespace could be made: {failed}"));
    assert_eq!(inside, "0", "not root of its own namespace: {failed}");
    let reply: Value = serde_json::from_str(reply).unwrap();
    assert_eq!(reply["error"]["code"], CniError::IO_FAILURE, "{reply}");
    let text = format!("user {outside} may not use the node agent");
    assert_eq!(reply["error"]["msg"], text.as_str());
    assert!(served.stop().calls().is_empty());
}
