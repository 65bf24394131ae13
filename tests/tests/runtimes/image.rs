//! An image without a registry: busybox in an OCI layout.

use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

/// The image's name, for every runtime.
pub(crate) const NAME: &str = "docker.io/local/box:test";

/// The applets that the tests run in containers. Debian's static busybox has a `wget` that crashes: `nc` does instead.
const APPLETS: [&str; 8] = ["sh", "sleep", "ping", "nc", "httpd", "ip", "cat", "echo"];

/// Writes the image's archive. Its entry point sleeps, so that it serves as the pause image too.
pub(crate) fn write(path: &Path) {
    let busybox = std::fs::read("/bin/busybox")
        .expect("/bin/busybox is missing: apt-get install busybox-static");
    let layer = layer(&busybox);
    let config = json!({"architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Entrypoint": ["/bin/sleep"], "Cmd": ["100000"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}})
    .to_string()
    .into_bytes();
    let described = |kind: &str, bytes: &[u8]| {
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": digest(bytes), "size": bytes.len()})
    };
    let manifest = json!({"schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", &config),
        "layers": [described("layer.v1.tar", &layer)]})
    .to_string()
    .into_bytes();
    let mut index = described("manifest.v1+json", &manifest);
    index["platform"] = json!({"architecture": "amd64", "os": "linux"});
    index["annotations"] = json!({"io.containerd.image.name": NAME,
        "org.opencontainers.image.ref.name": NAME});
    let index = json!({"schemaVersion": 2, "manifests": [index]}).to_string();
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    let mut add = |name: String, bytes: &[u8]| {
        let mut header = header(bytes.len(), 0o644);
        archive.append_data(&mut header, name, bytes).unwrap();
    };
    add(
        "oci-layout".to_owned(),
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    );
    add("index.json".to_owned(), index.as_bytes());
    for blob in [&layer, &config, &manifest] {
        let digest = digest(blob);
        add(format!("blobs/sha256/{}", &digest[7..]), blob);
    }
    archive.finish().unwrap();
}

fn layer(busybox: &[u8]) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp", "var"] {
        let mut header = header(0, 0o755);
        header.set_entry_type(tar::EntryType::Directory);
        layer.append_data(&mut header, folder, &[][..]).unwrap();
    }
    let mut program = header(busybox.len(), 0o755);
    layer
        .append_data(&mut program, "bin/busybox", busybox)
        .unwrap();
    for applet in APPLETS {
        let mut header = header(0, 0o777);
        header.set_entry_type(tar::EntryType::Symlink);
        let path = format!("bin/{applet}");
        layer.append_link(&mut header, path, "busybox").unwrap();
    }
    for (name, text) in [
        ("etc/passwd", "root:x:0:0:root:/:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
    ] {
        let mut header = header(text.len(), 0o644);
        layer
            .append_data(&mut header, name, text.as_bytes())
            .unwrap();
    }
    layer.into_inner().unwrap()
}

fn header(size: usize, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(mode);
    header
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
