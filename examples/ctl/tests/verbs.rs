//! The program over a store on disk: what each verb does, prints, and returns.

mod common;

use common::{Bench, POOL};
use serde_json::Value;

#[test]
fn objects_are_made_shown_changed_and_deleted() {
    let bench = Bench::new();
    let future = POOL.replace(
        "natOutgoing: true",
        "natOutgoing: true, futureField: {kept: yes}",
    );
    let pool = bench.file("pool.yaml", &future);
    let pool = pool.to_str().unwrap();
    let (code, _, err) = bench.run(&["create", "-f", pool]);
    assert!(
        code == 1 && err.contains("pool.yaml:4: spec.futureField: unknown field"),
        "{code} {err}"
    );
    let create = ["create", "--validate=ignore", "-f", pool];
    assert_eq!(bench.run(&create).1, "IPPool/pods created\n");
    let (code, _, err) = bench.run(&create);
    assert_eq!(code, 5, "{err}");
    assert!(err.contains("IPPool/pods"), "{err}");
    let (code, out, _) = bench.run(&["get", "pool", "-o", "wide"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("10.10.0.0/16") && out.contains("true"),
        "{out}"
    );
    assert_eq!(
        bench.run(&["get", "pool/pods", "-o", "name"]).1,
        "IPPool/pods\n"
    );
    assert_eq!(
        bench.run(&["get", "pools", "-l", "zone=b", "-o", "name"]).1,
        ""
    );

    let patch = r#"{"spec": {"natOutgoing": false}}"#;
    assert_eq!(
        bench.run(&["patch", "pool", "pods", "-p", patch]).1,
        "IPPool/pods patched\n"
    );
    assert_eq!(
        bench.run(&["label", "pool", "pods", "rack=7"]).1,
        "IPPool/pods labelled\n"
    );
    assert_eq!(bench.run(&["label", "pool", "pods", "rack=8"]).0, 5);
    let shown = bench.json(&["get", "pool/pods"]);
    assert_eq!(
        shown["metadata"]["labels"],
        serde_json::json!({"rack": "7", "zone": "a"})
    );
    assert_eq!(shown["spec"]["futureField"]["kept"], "yes");
    assert_eq!(shown["spec"]["natOutgoing"], false);

    assert_eq!(
        bench.run(&["delete", "pool", "pods"]).1,
        "IPPool/pods deleted\n"
    );
    assert_eq!(bench.run(&["delete", "pool", "pods"]).0, 3);
    assert_eq!(bench.run(&["delete", "-f", pool, "--skip-not-exists"]).0, 0);
    let (code, _, err) = bench.run(&["get", "pool", "pods", "-o", "json"]);
    let error: Value = serde_json::from_str(&err).unwrap();
    assert_eq!(
        (code, &error["reason"], &error["code"]),
        (3, &"not-found".into(), &3.into())
    );
}

#[test]
fn that_there_is_nothing_is_said() {
    let bench = Bench::new();
    bench.piped(&["apply", "-f", "-"], POOL);
    let (code, out, err) = bench.run(&["get", "pools", "-l", "zone=b"]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (0, "", "no IPPool with zone=b\n")
    );
    let (_, _, err) = bench.run(&["get", "np"]);
    assert!(
        err.contains("no NetworkPolicy in the namespace default; -A"),
        "{err}"
    );
    let names = bench.run(&["get", "pools,gnp,np", "-o", "name"]).1;
    assert_eq!(names, "IPPool/pods\n");
    let (code, _, err) = bench.run(&["get", "ipool"]);
    assert!(code == 2 && err.contains("did you mean"), "{err}");
}

#[test]
fn what_was_read_is_written_back_once() {
    let bench = Bench::new();
    bench.piped(&["apply", "-f", "-"], POOL);
    // The second time somebody else was faster.
    let (_, yaml, _) = bench.run(&["get", "pool/pods", "-o", "yaml"]);
    let (code, _, err) = bench.piped(
        &["replace", "-f", "-"],
        &yaml.replace("natOutgoing: true", "natOutgoing: false"),
    );
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = bench.piped(&["apply", "-f", "-"], &yaml);
    assert_eq!(code, 5, "{err}");
}

#[test]
fn what_is_wrong_is_named_before_anything_is_written() {
    let bench = Bench::new();
    bench.file("all/a.yaml", POOL);
    bench.file(
        "all/b/c.yaml",
        &POOL
            .replace("pods", "more")
            .replace("10.10.0.0/16", "10.10.9.0/24"),
    );
    let all = bench.folder.path().join("all");
    let all = all.to_str().unwrap();
    let (code, _, err) = bench.run(&["apply", "-f", all]);
    assert_eq!(code, 1);
    assert!(
        err.contains("c.yaml:4: spec.cidr: 10.10.9.0/24 overlaps 10.10.0.0/16"),
        "{err}"
    );
    assert_eq!(bench.run(&["get", "pools", "-o", "name"]).1, "");

    bench.run(&["apply", "-f", &format!("{all}/a.yaml")]);
    let (code, _, err) = bench.run(&["apply", "-f", &format!("{all}/b")]);
    assert_eq!(code, 1);
    assert!(
        err.contains("overlaps 10.10.0.0/16 of the pool pods"),
        "{err}"
    );

    let other = POOL.replace("10.10.0.0/16", "10.11.0.0/16");
    let (code, _, err) = bench.piped(&["apply", "-f", "-"], &other);
    assert!(
        code == 1 && err.contains("stdin:4: spec.cidr: is 10.10.0.0/16 and cannot be changed"),
        "{err}"
    );
    let patch = ["patch", "pool", "pods", "-p", "{spec: {blockSize: 28}}"];
    let (code, _, err) = bench.run(&patch);
    assert!(
        code == 1 && err.contains("spec.blockSize: is 26 and cannot"),
        "{err}"
    );

    assert_eq!(bench.run(&["get", "widgets"]).0, 2);
    assert_eq!(bench.run(&["apply", "-f", "/nowhere.yaml"]).0, 3);
    assert_eq!(bench.run(&["frobnicate"]).0, 2);
}

#[test]
fn what_is_wrong_has_its_line() {
    let bench = Bench::new();
    for (text, expected) in [
        (
            "kind: Widget\napiVersion: v1\nmetadata: {name: x}\n",
            "stdin:1: kind: ",
        ),
        ("a: [1\n", "stdin:"),
        (
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: x}\nspec:\n  selector: a ==\n",
            "stdin:5: spec.selector: ",
        ),
    ] {
        let (code, _, err) = bench.piped(&["validate", "-f", "-"], text);
        assert_eq!(code, 1, "{err}");
        assert!(err.starts_with(expected), "{err}");
    }
}

#[test]
fn fields_that_a_kind_does_not_have_are_refused() {
    let bench = Bench::new();
    bench.piped(&["apply", "-f", "-"], POOL);
    let misspelt = POOL.replace("natOutgoing", "natoutgoing");
    for (validate, code, written) in [
        ("--validate", 1, ""),
        ("--validate=strict", 1, ""),
        ("--validate=warn", 0, "IPPool/other\n"),
        ("--validate=false", 0, "IPPool/other\n"),
    ] {
        let bench = Bench::new();
        let other = misspelt.replace("pods", "other");
        let (found, _, err) = bench.piped(&["apply", validate, "-f", "-"], &other);
        assert_eq!(found, code, "{validate}: {err}");
        let named =
            err.contains("stdin:4: spec.natoutgoing: unknown field; did you mean natOutgoing?");
        assert_eq!(named, validate != "--validate=false", "{validate}: {err}");
        assert_eq!(bench.run(&["get", "pools", "-o", "name"]).1, written);
    }
    // What is wrong is told as well, not one thing at a time.
    let (_, _, err) = bench.piped(
        &["validate", "-f", "-"],
        &misspelt.replace("cidr:", "cdir:"),
    );
    assert!(
        err.contains("did you mean cidr?") && err.contains("did you mean natOutgoing?"),
        "{err}"
    );
    assert!(err.contains("stdin:4: spec.cidr: "), "{err}");
    let patch = ["patch", "pool", "pods", "-p", "{spec: {blocksize: 26}}"];
    let (code, _, err) = bench.run(&patch);
    assert!(
        code == 1
            && err.contains("--patch: spec.blocksize: unknown field; did you mean blockSize?"),
        "{err}"
    );
}

#[test]
fn kubernetes_objects_are_stored_as_calicos() {
    let bench = Bench::new();
    let policy = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: x}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, ingress: [{ports: [{port: 80}]}]}
";
    let (code, out, err) = bench.piped(&["apply", "-f", "-"], policy);
    assert_eq!(code, 0, "{err}");
    assert_eq!(
        out,
        "Profile/kns.shop applied\nNetworkPolicy/shop/knp.default.web applied\n"
    );
    let (_, out, _) = bench.run(&["get", "np", "-n", "shop"]);
    assert!(out.contains("knp.default.web"), "{out}");
    assert_eq!(bench.run(&["get", "np"]).1, "");
    assert_eq!(
        bench.run(&["get", "np", "-A", "-o", "name"]).1,
        "NetworkPolicy/shop/knp.default.web\n"
    );
}

const POD: &str = "\
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: NODE-k8s-POD-eth0, namespace: shop, labels: {app: POD}}
spec:
  {orchestrator: k8s, node: NODE, pod: POD, endpoint: eth0, interfaceName: caliPOD, ipNetworks: [ADDRESS/32], profiles: [kns.shop]}
---
";

fn pod(name: &str, node: &str, address: &str) -> String {
    let text = POD.replace("POD", name).replace("NODE", node);
    text.replace("ADDRESS", address)
}

fn node(name: &str, address: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{bgp: {{ipv4Address: {address}/24}}}}\n---\n"
    )
}

#[test]
fn policy_is_explained_and_compared() {
    let bench = Bench::new();
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n";
    let pods = [
        namespace.to_owned(),
        pod("web", "n1", "10.10.0.1"),
        pod("db", "n2", "10.10.1.1"),
        POOL.to_owned() + "---\n",
        node("n1", "192.168.1.1"),
        node("n2", "192.168.2.1"),
    ];
    let (code, _, err) = bench.piped(&["apply", "-f", "-"], &pods.concat());
    assert_eq!(code, 0, "{err}");
    let to = ["--from", "shop/web", "--to", "shop/db", "--port", "5432"];
    let explained = bench.json(&[&["policy", "explain"], &to[..]].concat());
    assert_eq!(explained["verdict"], "allow");
    let (_, out, _) = bench.run(&[&["trace"], &to[..]].concat());
    assert!(
        out.contains("node n1 sends it to node n2 (192.168.2.1) through the routers"),
        "{out}"
    );
    assert!(
        out.contains("allow: TCP 10.10.0.1 -> 10.10.1.1 port 5432"),
        "{out}"
    );

    let deny = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: none, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
";
    let file = bench.file("deny.yaml", deny);
    let file = file.to_str().unwrap();
    let (code, out, _) = bench.run(&["policy", "diff", "-f", file]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("- shop/web -> shop/db"), "{out}");
    bench.run(&["apply", "-f", file]);
    assert_eq!(
        bench.json(&[&["policy", "explain"], &to[..]].concat())["verdict"],
        "deny"
    );
    let (code, out, _) = bench.run(&["policy", "diff", "-f", file, "--delete"]);
    assert_eq!(code, 4, "{out}");
    assert!(out.contains("+ shop/db -> shop/web"), "{out}");
    let (_, out, _) = bench.run(&["policy", "matrix"]);
    assert!(out.ends_with("0 of 2 pairs reach each other\n"), "{out}");
    let cases = bench.file(
        "cases.yaml",
        "cases:\n  - {name: closed, from: shop/web, to: shop/db, port: 80, expect: deny}\n",
    );
    assert_eq!(bench.run(&["policy", "test", cases.to_str().unwrap()]).0, 0);
    let (code, _, err) = bench.run(&["policy", "explain", "--from", "shop/x", "--to", "shop/db"]);
    assert_eq!(code, 3, "{err}");
}

#[test]
fn agents_that_are_away_are_said_to_be() {
    let bench = Bench::new();
    let (code, _, err) = bench.run(&["node", "status"]);
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("node.sock"), "{err}");
    let (code, out, _) = bench.run(&["version"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("Client:") && out.contains("does not answer"),
        "{out}"
    );
    let pool = bench.file("pool.yaml", POOL);
    let (code, out, _) = bench.run(&["apply", "--wait", "-f", pool.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (6, "IPPool/pods applied\n"));
    let (code, out, _) = bench.run(&["completion", "bash"]);
    assert!(code == 0 && out.contains("ocicatctl"));
}

#[test]
fn nobody_who_reads_is_no_crash() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ocicatctl"))
        .args(["completion", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn what_users_of_calicoctl_type_is_understood() {
    let bench = Bench::new();
    let pool = bench.file("pool.yaml", POOL);
    let report = bench.file("report.json", "");
    let report = report.to_str().unwrap();
    for words in [
        &["create", "-f", pool.to_str().unwrap()][..],
        &["label", "ippool", "pods", "rack=1"],
        &["label", "ippool", "pods", "rack", "--remove"],
        &[
            "patch",
            "ippool",
            "pods",
            "-t",
            "merge",
            "-p",
            "{\"spec\": {\"natOutgoing\": true}}",
        ],
        &["ipam", "check", "-o", report, "--allow-version-mismatch"],
        &["ipam", "release", "--from-report", report],
        &["ipam", "configure", "--strictaffinity=true"],
    ] {
        let (code, out, err) = bench.run(words);
        assert_eq!(code, 0, "{words:?}: {out}{err}");
    }
    let (_, out, _) = bench.run(&["ipam", "configure", "show"]);
    assert!(
        out.contains("StrictAffinity") && out.contains("true"),
        "{out}"
    );
    let pool = bench.json(&["get", "ippool", "pods"]);
    assert_eq!(pool["metadata"]["labels"]["rack"], Value::Null);
    let (code, _, err) = bench.run(&["label", "ippool", "pods", "rack=1", "--remove"]);
    assert!(code == 2 && err.contains("key alone"), "{code} {err}");
}

#[test]
fn objects_have_the_shape_that_is_asked_for() {
    let bench = Bench::new();
    bench.piped(&["apply", "-f", "-"], POOL);
    for (shape, expected) in [
        (
            "custom-columns=N:.metadata.name,S:.spec.blockSize",
            "N     S\npods  <none>\n",
        ),
        (
            "custom-columns=NAME,CIDR",
            "NAME  CIDR\npods  10.10.0.0/16\n",
        ),
        ("jsonpath={.items[*].spec.cidr}", "10.10.0.0/16"),
        (
            "ps",
            "NAME  CIDR          SELECTOR\npods  10.10.0.0/16  all()\n",
        ),
    ] {
        let (code, out, err) = bench.run(&["get", "pools", "-o", shape]);
        assert_eq!((code, out.as_str()), (0, expected), "{err}");
    }
    let one = bench.run(&["get", "pool", "pods", "-o", "jsonpath={.spec.cidr}"]);
    assert_eq!(one.1, "10.10.0.0/16");
    for (words, expected) in [
        (
            &["get", "pools", "-o", "go-template={{.}}"][..],
            "go-template is not built; -o jsonpath",
        ),
        (&["get", "pools", "-o", "jsonpath={.a"], "not closed"),
        (&["get", "pools", "-o", "toml"], "custom-columns=SPEC"),
        (
            &["get", "pools", "-o", "custom-columns=X"],
            "IPPool has no column X; there are NAME",
        ),
        (&["version", "-o", "jsonpath={.a}"], "are for `get`"),
    ] {
        let (code, _, err) = bench.run(words);
        assert!(
            code == 2 && err.contains(expected),
            "{words:?}: {code} {err}"
        );
    }
}

#[test]
fn files_are_converted_to_calicos_objects() {
    let bench = Bench::new();
    let old = "\
apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: {name: pods}
spec: {cidr: 10.0.0.0/16}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}]}
";
    let (code, out, err) = bench.piped(&["convert", "-f", "-"], old);
    assert_eq!(code, 0, "{err}");
    assert!(!out.contains("k8s.io/v1") && !out.contains("crd."), "{out}");
    assert!(out.contains("name: knp.default.web"), "{out}");
    let (code, again, err) = bench.piped(&["convert", "-o", "json", "-f", "-"], &out);
    assert_eq!(code, 0, "{err}");
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["items"][0]["apiVersion"], "projectcalico.org/v3");
    assert_eq!(
        again["items"][1]["spec"]["ingress"][0]["destination"]["ports"][0],
        80
    );
    let (code, _, err) = bench.piped(
        &["convert", "-f", "-"],
        "apiVersion: v1\nkind: ipPool\nmetadata: {cidr: 10.0.0.0/16}\n",
    );
    assert!(
        code == 1 && err.contains("stdin:1: apiVersion: an object of Calico 2"),
        "{err}"
    );
}
