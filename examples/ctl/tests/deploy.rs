//! What is shipped in examples/deploy: it parses, it fits together, and it asks for no more than its README says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ocicatctl::document;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn documents(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    let documents = document::parse(file, &text).unwrap();
    documents.iter().map(document::Document::to_json).collect()
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let mut all = documents.iter();
    all.find(|one| one["kind"] == kind)
        .unwrap_or_else(|| panic!("no {kind}"))
}

fn texts(value: &Value) -> BTreeSet<String> {
    let elements = value.as_array().into_iter().flatten();
    elements
        .map(|one| one.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_agents_pod_gets_what_the_readme_says() {
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    for variant in ["kubernetes/daemonset.yaml", "etcd/daemonset.yaml"] {
        let set = documents(variant).remove(0);
        let pod = &set["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let security = &container["securityContext"];
        assert_eq!(security["privileged"], false, "{variant}");
        assert_eq!(security["readOnlyRootFilesystem"], true, "{variant}");
        assert_eq!(
            texts(&security["capabilities"]["drop"]),
            ["ALL".to_owned()].into()
        );
        for capability in texts(&security["capabilities"]["add"]) {
            assert!(readme.contains(&format!("`{capability}`")), "{capability}");
        }
        let volumes = pod["volumes"].as_array().unwrap();
        let named: BTreeMap<&str, &Value> = volumes
            .iter()
            .map(|one| (one["name"].as_str().unwrap(), one))
            .collect();
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mounted: BTreeSet<&str> = mounts
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        assert_eq!(mounted, named.keys().copied().collect(), "{variant}");
        for path in volumes
            .iter()
            .filter_map(|one| one["hostPath"]["path"].as_str())
        {
            assert!(readme.contains(&format!("`{path}`")), "{path}");
        }
    }
}

#[test]
fn the_configurations_are_ones_the_agent_reads() {
    for (file, scheme) in [
        ("kubernetes/config.yaml", "kubernetes:"),
        ("etcd/config.yaml", "etcd:"),
    ] {
        let documents = documents(file);
        let text = of_kind(&documents, "ConfigMap")["data"]["node.toml"]
            .as_str()
            .unwrap();
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file.replace('/', "-"));
        std::fs::write(&path, text).unwrap();
        let config = ocicat_node::config::Config::load(Some(&path), []).unwrap();
        assert!(config.datastore.url.starts_with(scheme), "{file}");
    }
    let systemd = folder().join("systemd/node.toml");
    ocicat_node::config::Config::load(Some(&systemd), []).unwrap();
}

#[test]
fn rights_have_their_accounts() {
    let documents = documents("kubernetes/rbac.yaml");
    let account = &of_kind(&documents, "ServiceAccount")["metadata"];
    for binding in ["ClusterRoleBinding", "RoleBinding"] {
        let binding = of_kind(&documents, binding);
        assert_eq!(binding["subjects"][0]["name"], account["name"]);
        let role = of_kind(&documents, binding["roleRef"]["kind"].as_str().unwrap());
        assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
        for rule in role["rules"].as_array().unwrap() {
            for field in ["apiGroups", "resources", "verbs"] {
                assert!(!texts(&rule[field]).contains("*"), "{rule}");
            }
        }
    }
    let set = self::documents("kubernetes/daemonset.yaml").remove(0);
    assert_eq!(
        set["spec"]["template"]["spec"]["serviceAccountName"],
        account["name"]
    );
}

#[test]
fn the_reflectors_peers_are_valid() {
    let text = std::fs::read_to_string(folder().join("reflector/peers.yaml")).unwrap();
    let read = ocicatctl::manifest::read("peers.yaml", &text).unwrap();
    assert_eq!(read.len(), 2);
}

#[test]
fn the_patch_for_the_hosts_etc_fits_the_daemonsets() {
    let patch = documents("kubernetes/host-etc.yaml").remove(0);
    let pod = &patch["spec"]["template"]["spec"];
    let mount = &pod["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["name"], pod["volumes"][0]["name"]);
    let path = mount["mountPath"].as_str().unwrap();
    for variant in ["kubernetes", "etcd"] {
        let set = documents(&format!("{variant}/daemonset.yaml")).remove(0);
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["name"], pod["containers"][0]["name"]);
        let config = std::fs::read_to_string(folder().join(variant).join("config.yaml")).unwrap();
        assert!(
            config.contains(&format!("# host-etc = \"{path}\"")),
            "{variant}"
        );
    }
}

#[test]
fn the_uninstall_reaches_what_the_agent_reached() {
    let set = documents("kubernetes/uninstall.yaml").remove(0);
    let pod = &set["spec"]["template"]["spec"];
    let agents = documents("kubernetes/daemonset.yaml").remove(0);
    let agents = &agents["spec"]["template"]["spec"];
    let all = |container: &Value, field: &str| {
        let elements = container[field].as_array().unwrap().iter();
        elements.map(Value::to_string).collect::<BTreeSet<_>>()
    };
    let [first, second] = [&pod["initContainers"][0], &pod["containers"][0]];
    let agent = &agents["containers"][0];
    for container in [first, second] {
        assert!(all(container, "volumeMounts").is_superset(&all(agent, "volumeMounts")));
        assert_eq!(container["image"], agent["image"]);
        let rights = |of: &Value| texts(&of["securityContext"]["capabilities"]["add"]);
        assert!(rights(container).is_subset(&rights(agent)));
        assert_eq!(container["securityContext"]["privileged"], false);
    }
    assert!(texts(&first["args"]).contains("uninstall"));
    assert!(texts(&second["args"]).contains("--stay"));
    assert!(all(pod, "volumes").is_superset(&all(agents, "volumes")));
    assert_eq!(pod["tolerations"], agents["tolerations"]);
    let patch = documents("kubernetes/host-etc.yaml").remove(0);
    let patch = &patch["spec"]["template"]["spec"];
    assert!(all(first, "volumeMounts").is_superset(&all(&patch["containers"][0], "volumeMounts")));
}

/// What the agent follows, it may list and watch; a cluster refuses its start otherwise.
#[test]
fn the_agent_may_follow_what_it_follows() {
    use ocicat_datastore::Kind;
    let documents = documents("kubernetes/rbac.yaml");
    let role = documents.iter().find(|one| one["kind"] == "ClusterRole");
    let role = role.unwrap();
    assert_eq!(role["metadata"]["name"], "ocicat-node");
    let may = |resource: &str| {
        let rules = role["rules"].as_array().unwrap().iter();
        let mut of_it = rules.filter(|rule| texts(&rule["resources"]).contains(resource));
        of_it.any(|rule| {
            ["list", "watch"]
                .iter()
                .all(|verb| texts(&rule["verbs"]).contains(*verb))
        })
    };
    let kinds = ocicat_node::world::KINDS.into_iter();
    for kind in kinds.chain(ocicat_node::world::SERVICE_KINDS) {
        let resources: &[&str] = match kind {
            Kind::Profile => &["namespaces", "serviceaccounts"],
            Kind::WorkloadEndpoint => &["pods"],
            Kind::IpamConfig => &["ipamconfigs", "ipamconfigurations"],
            kind => &[kind.plural()],
        };
        for resource in resources {
            assert!(may(resource), "{kind}: {resource}");
        }
    }
}
