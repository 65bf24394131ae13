//! An image in the layout of the OCI image specification, as a tar that `ctr images import` and `podman load` take.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::hex;

/// Writes an image with programs in /opt/ocicat/bin, the first of which it runs, and CNI plugins in /opt/ocicat/cni, from
/// where the agent installs them.
///
/// Times and owners are zero: the same programs make the same image.
pub(super) fn write(
    tar: &Path,
    tag: &str,
    programs: &[PathBuf],
    plugins: &[PathBuf],
) -> io::Result<()> {
    let layer = layer(&[("opt/ocicat/bin", programs), ("opt/ocicat/cni", plugins)])?;
    let first = programs
        .first()
        .and_then(|path| path.file_name())
        .unwrap_or_default();
    let config = bytes(&json!({
        "architecture": architecture(), "os": "linux",
        "config": {
            "Env": ["PATH=/opt/ocicat/bin"],
            "Entrypoint": [format!("/opt/ocicat/bin/{}", first.to_string_lossy())],
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    }));
    let manifest = bytes(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }));
    let mut of_tag = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    of_tag["platform"] = json!({"architecture": architecture(), "os": "linux"});
    of_tag["annotations"] =
        json!({"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag});
    let index = bytes(&json!({"schemaVersion": 2, "manifests": [of_tag]}));
    let mut archive = tar::Builder::new(File::create(tar)?);
    add(
        &mut archive,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
        0o644,
    )?;
    add(&mut archive, "index.json", &index, 0o644)?;
    for blob in [&layer, &config, &manifest] {
        let name = format!("blobs/sha256/{}", hex(&Sha256::digest(blob)));
        add(&mut archive, &name, blob, 0o644)?;
    }
    archive.finish()
}

fn layer(folders: &[(&str, &[PathBuf])]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (folder, files) in folders {
        for file in *files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let bytes = std::fs::read(file)?;
            add(&mut archive, &format!("{folder}/{name}"), &bytes, 0o755)?;
        }
    }
    archive.into_inner()
}

fn add(
    archive: &mut tar::Builder<impl io::Write>,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_cksum();
    archive.append_data(&mut header, name, bytes)
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(blob)))
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// In the names of the image specification, which are Go's.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
