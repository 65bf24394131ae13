use super::*;

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    std::fs::write(&path, text).unwrap();
    let pairs = environment
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
    Config::load(Some(&path), pairs)
}

fn source(config: &Config, name: &str) -> (String, String) {
    let one = config
        .shown()
        .into_iter()
        .find(|one| one.name == name)
        .unwrap();
    (one.value, one.source)
}

#[test]
fn the_environment_wins_over_the_file_and_each_value_has_its_source() {
    let text = "[node]\nname = \"a\"\n[datastore]\nurl = \"memory:\"\n[felix]\nVXLANMTU = 1400\n";
    let file = load(text, &[]).unwrap();
    let (name, from) = source(&file, "node.name");
    assert!(name == "a" && from.ends_with("node.toml"), "{name} {from}");
    assert_eq!(source(&file, "bgp.router-id").1, "default");
    let environment = [
        ("NODENAME", "b"),
        ("OCICAT_DATASTORE", "etcd:https://x?user=u&password-file=p"),
        ("CALICO_ROUTER_ID", "1.2.3.4"),
        ("FELIX_LOGSEVERITYSCREEN", "Warning"),
    ];
    let set = load(text, &environment).unwrap();
    for (name, value, from) in [
        ("node.name", "b", "environment NODENAME"),
        (
            "datastore.url",
            "etcd:https://x",
            "environment OCICAT_DATASTORE",
        ),
        ("bgp.router-id", "1.2.3.4", "environment CALICO_ROUTER_ID"),
        ("log.filter", "warn", "environment FELIX_LOGSEVERITYSCREEN"),
    ] {
        assert_eq!(
            source(&set, name),
            (value.to_owned(), from.to_owned()),
            "{name}"
        );
    }
    assert!(set.warnings.is_empty(), "{:?}", set.warnings);
}

#[test]
fn calicos_names_of_datastores_are_understood() {
    for (environment, url) in [
        (&[("DATASTORE_TYPE", "kubernetes")][..], "kubernetes:"),
        (
            &[("DATASTORE_TYPE", "kubernetes"), ("KUBECONFIG", "/k")],
            "kubernetes:/k",
        ),
        (
            &[
                ("ETCD_ENDPOINTS", "https://a:2379,https://b:2379"),
                ("ETCD_CA_CERT_FILE", "/ca"),
            ],
            "etcd:https://a:2379,https://b:2379?ca=/ca",
        ),
        (
            &[
                ("DATASTORE_TYPE", "kubernetes"),
                ("OCICAT_DATASTORE", "memory:"),
            ],
            "memory:",
        ),
        (
            &[("ETCD_ENDPOINTS", "")],
            "sqlite:/var/lib/ocicat/ocicat.db",
        ),
    ] {
        assert_eq!(load("", environment).unwrap().datastore.url, url);
    }
}

#[test]
fn an_unknown_key_is_named() {
    for (text, key) in [
        ("[bgp]\nlisten-port = 179\n", "listen-port"),
        ("[felix]\nHealtEnabled = true\n", "HealtEnabled"),
        ("[nod]\n", "nod"),
    ] {
        let error = load(text, &[]).unwrap_err().to_string();
        assert!(
            error.contains(key) && error.contains("node.toml"),
            "{error}"
        );
    }
    let config = load(
        "",
        &[
            ("OCICAT_DATASTOR", "x"),
            ("CALICO_NETWORKING_BACKEND", "bird"),
        ],
    )
    .unwrap();
    assert_eq!(config.warnings.len(), 1);
    assert!(
        config.warnings[0].contains("OCICAT_DATASTOR"),
        "{:?}",
        config.warnings
    );
}

#[test]
fn a_bad_variable_is_named() {
    for (name, value) in [("AS", "many"), ("CALICO_ROUTER_ID", "first")] {
        let error = load("", &[(name, value)]).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(value), "{error}");
    }
    assert_eq!(load("", &[("AS", "1.10")]).unwrap().as_number, Some(65_546));
}

#[test]
fn health_and_metrics_are_felixs_parameters_in_other_words() {
    let config = load(
        "[health]\nlisten = \"127.0.0.1:9\"\n",
        &[("FELIX_HEALTHPORT", "10")],
    )
    .unwrap();
    let fixed = config.parameters();
    let all = parameters::Parameters {
        fixed: &fixed,
        objects: &[],
    };
    let names = ("healthEnabled", "healthHost", "healthPort");
    let listen = all.listen(names, SocketAddr::from(([0, 0, 0, 0], 1)), &mut Vec::new());
    assert_eq!(listen.unwrap().to_string(), "127.0.0.1:10");
}

#[test]
fn a_node_needs_a_name_that_kubernetes_accepts() {
    for (name, good) in [
        ("node1", true),
        ("a.b-c", true),
        ("Node", false),
        ("-a", false),
        ("", false),
        ("a_b", false),
    ] {
        let mut config = Config::default();
        config.node.name = Some(name.to_owned());
        assert_eq!(config.node_name().is_ok(), good, "{name}");
    }
}
