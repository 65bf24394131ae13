use std::collections::BTreeMap;
use std::io::Read;
use std::process::Command;

use serde_json::Value;

use super::*;

/// A folder of this test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ocicat-dist-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("bin")).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn entries(tar: impl Read) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let mut all = BTreeMap::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        let mode = entry.header().mode().expect("a mode");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("whole");
        all.insert(name, (mode, bytes));
    }
    all
}

#[test]
fn the_image_is_what_the_specification_says_and_the_same_each_time() {
    let folder = Folder::new("image");
    let programs = [
        folder.file("ocicat-node", "node"),
        folder.file("ocicatctl", "ctl"),
    ];
    let plugins = [folder.file("ocicat", "plugin")];
    let (one, other) = (folder.0.join("one.tar"), folder.0.join("other.tar"));
    for tar in [&one, &other] {
        image::write(tar, "docker.io/ocicat/node:1", &programs, &plugins).expect("written");
    }
    let bytes = std::fs::read(&one).expect("there");
    assert_eq!(bytes, std::fs::read(&other).expect("there"));
    let image = entries(bytes.as_slice());
    assert!(image.contains_key("oci-layout"));
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().expect("a digest");
        let digest = digest.strip_prefix("sha256:").expect("SHA-256");
        let (_, bytes) = &image[&format!("blobs/sha256/{digest}")];
        assert_eq!(hex(&Sha256::digest(bytes)), digest);
        assert_eq!(descriptor["size"], bytes.len());
        bytes.clone()
    };
    let json = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).expect("JSON") };
    let index = json(&image["index.json"].1);
    let tagged = &index["manifests"][0];
    assert_eq!(
        tagged["annotations"]["io.containerd.image.name"],
        "docker.io/ocicat/node:1"
    );
    let manifest = json(&blob(tagged));
    let config = json(&blob(&manifest["config"]));
    assert_eq!(
        config["config"]["Entrypoint"][0],
        "/opt/ocicat/bin/ocicat-node"
    );
    assert_eq!(
        config["rootfs"]["diff_ids"][0],
        manifest["layers"][0]["digest"]
    );
    let layer = entries(blob(&manifest["layers"][0]).as_slice());
    let names: Vec<&str> = layer.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "opt/ocicat/bin/ocicat-node",
            "opt/ocicat/bin/ocicatctl",
            "opt/ocicat/cni/ocicat"
        ]
    );
    assert!(layer.values().all(|(mode, _)| *mode == 0o755));
    assert_eq!(layer["opt/ocicat/cni/ocicat"].1, b"plugin");
}

#[test]
fn manifests_are_whole() {
    let folder = Folder::new("manifests");
    manifests(&folder.0).expect("written");
    for (name, kinds) in [
        (
            "ocicat-kubernetes.yaml",
            &[
                "CustomResourceDefinition",
                "ClusterRole",
                "ConfigMap",
                "DaemonSet",
            ][..],
        ),
        ("ocicat-etcd.yaml", &["Namespace", "ConfigMap", "DaemonSet"]),
        ("ocicat-reflector.yaml", &["Deployment"]),
    ] {
        let text = std::fs::read_to_string(folder.0.join(name)).expect("there");
        let says = |document: &&str| {
            document
                .lines()
                .any(|line| !line.is_empty() && !line.starts_with('#'))
        };
        let documents: Vec<&str> = text.split("\n---\n").filter(says).collect();
        for document in &documents {
            let stated = |key: &str| {
                document
                    .lines()
                    .filter(|line| line.starts_with(key))
                    .count()
            };
            assert_eq!(
                (stated("kind: "), stated("apiVersion: ")),
                (1, 1),
                "{name}: {document}"
            );
        }
        for kind in kinds {
            let line = format!("kind: {kind}");
            let has = |document: &&str| document.lines().any(|one| one == line);
            assert!(documents.iter().any(has), "{name} has no {kind}");
        }
        let image = format!("image: ocicat/node:{VERSION}");
        assert!(
            text.contains(&image),
            "{name} does not name the image that is shipped"
        );
    }
}

#[test]
fn checksums_hold() {
    let folder = Folder::new("checksums");
    folder.file("a.yaml", "a");
    folder.file("bin/x", "x");
    checksums(&folder.0).expect("written");
    let mut check = Command::new("sha256sum");
    let checked = check
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(&folder.0)
        .output();
    let checked = checked.expect("sha256sum runs");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{said}");
    assert!(
        said.contains("bin/x: OK") && said.lines().count() == 2,
        "{said}"
    );
}

#[test]
fn programs_that_need_a_linker_are_told_from_those_that_do_not() {
    let own = std::env::current_exe().expect("this test is a program");
    assert_eq!(is_dynamic(&own), Ok(true));
    // Debian's busybox-static, which other tests install.
    assert_eq!(is_dynamic(Path::new("/bin/busybox")), Ok(false));
    let folder = Folder::new("elf");
    assert!(is_dynamic(&folder.file("x", "no ELF")).is_err());
}

#[test]
fn the_version_that_is_shipped_is_the_programs() {
    let text = std::fs::read_to_string(workspace::root().join("examples/node-agent/Cargo.toml"));
    let line = format!("version = \"{VERSION}\"");
    assert!(text.expect("there").lines().any(|one| one == line));
}
