//! `node diags`: whatever the node's files and its agent say, no secret is in the archive.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use serde_json::json;

/// Secrets of a node with everything: BGP's passwords, one that JSON writes otherwise, etcd's password and key, a kubeconfig's
/// token, one of the environment, one that only the agent knows.
const SECRETS: [&str; 8] = [
    "bgp-rack-password",
    "quo\"ted\\password",
    "etcd-user-password",
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    "Qm9keSBvZiBhIGtleQ==",
    "kube-token-of-the-node",
    "of-the-environment",
    "of-a-kubernetes-secret",
];

/// A frame of the control socket.
fn frame(value: &serde_json::Value) -> Vec<u8> {
    let text = value.to_string();
    let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// An agent that says all it knows.
fn talkative(listener: &UnixListener) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = [0; 4];
    stream.read_exact(&mut head).unwrap();
    let mut request = vec![0; u32::from_be_bytes(head) as usize];
    stream.read_exact(&mut request).unwrap();
    let told = json!({ "told": SECRETS }).to_string();
    for text in [&told, &SECRETS.join("\n")] {
        let file = json!({"file": "objects.json", "text": text});
        stream.write_all(&frame(&file)).unwrap();
    }
    stream.write_all(&frame(&json!({}))).unwrap();
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn no_secret_is_in_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let [rack, quoted, password, key, more, token, variable, known] = SECRETS;
    write(&at("secrets/bgp/rack"), &format!("{rack}\n"));
    write(&at("secrets/bgp/deep/quoted"), quoted);
    write(&at("etcd.password"), &format!("{password}\n"));
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n{more}\n-----END PRIVATE KEY-----\n");
    write(&at("etcd.key"), &pem);
    write(
        &at("kubeconfig"),
        &format!("users:\n- name: node\n  user:\n    token: {token}\n"),
    );
    let snapshot = json!({"version": 1, "secrets": {"bgp/tor": known}}).to_string();
    write(&at("state/state/snapshot.json"), &snapshot);
    let place = folder.path().display();
    let text = format!(
        "# {password} was the first one\n[datastore]\nurl = 'etcd:https://127.0.0.1:1?key={place}/etcd.key&cert={place}/none\
         &user=agent&password-file={place}/etcd.password'\n[paths]\nsecrets = '{place}/secrets'\nstate = '{place}/state'\n"
    );
    write(&at("node.toml"), &text);
    std::fs::create_dir(at("run")).unwrap();
    let listener = UnixListener::bind(at("run/node.sock")).unwrap();
    let agent = std::thread::spawn(move || talkative(&listener));
    let archive = at("d.tar.gz");
    let output = Command::new(env!("CARGO_BIN_EXE_ocicatctl"))
        .args(["node", "diags", "--file"])
        .arg(&archive)
        .arg("--config")
        .arg(at("node.toml"))
        .arg("--run")
        .arg(at("run"))
        .args(["--datastore", &format!("kubernetes:{place}/kubeconfig")])
        .env("SOMEBODYS_PASSWORD", variable)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    agent.join().unwrap();
    let texts = files(&archive);
    let told = |text: &str| texts.iter().any(|(_, one)| one.contains(text));
    assert!(
        told("etcd:https://127.0.0.1:1?key="),
        "the configuration is in it"
    );
    assert!(told("\"told\""), "and what the agent said");
    for secret in SECRETS {
        let json = json!(secret).to_string();
        for form in [secret, json.trim_matches('"')] {
            let found = texts.iter().find(|(_, text)| text.contains(form));
            assert!(
                found.is_none(),
                "{form} in {:?}",
                found.map(|(name, _)| name)
            );
        }
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&archive).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "it is for its owner alone");
}

fn files(archive: &Path) -> Vec<(String, String)> {
    let file = std::fs::File::open(archive).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.push((name, text));
    }
    files
}
