//! Objects that go from one store to another.

mod common;

use common::{Bench, POOL};
use serde_json::Value;

/// Objects of many kinds, as users have them.
const OBJECTS: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: closed, labels: {team: x}, annotations: {why: said, kubectl.kubernetes.io/last-applied-configuration: '{}'}}
spec: {selector: all(), types: [Ingress]}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {selector: app == 'web', ingress: [{action: Allow, protocol: TCP, destination: {ports: [80, '8000:8010']}}]}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 192.0.2.1, asNumber: 64513, password: {secretKeyRef: {name: bgp, key: tor}}}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: n1}
spec: {bgp: {ipv4Address: 192.0.2.2/24}}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: n1-eth0, labels: {role: edge}}
spec: {node: n1, interfaceName: eth0}
---
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {logSeverityScreen: Debug}
";

const KINDS: [&str; 7] = [
    "ippools",
    "gnp",
    "np",
    "bgppeers",
    "nodes",
    "hep",
    "felixconfigurations",
];

#[test]
fn what_is_exported_is_applied_elsewhere() {
    let (here, there) = (Bench::new(), Bench::new());
    let (code, _, err) = here.piped(&["apply", "-f", "-"], &format!("{POOL}---\n{OBJECTS}"));
    assert_eq!(code, 0, "{err}");
    // Elsewhere something has been before, so that revisions and ids are others.
    there.piped(&["apply", "-f", "-"], POOL);
    assert_eq!(there.run(&["delete", "pool", "pods"]).0, 0);
    for kind in KINDS {
        let get = ["get", kind, "-A"];
        let plain = here.run(&[&get[..], &["-o", "yaml"]].concat()).1;
        assert!(
            plain.contains("uid:") && plain.contains("resourceVersion:"),
            "{plain}"
        );
        let (code, exported, err) = here.run(&[&get[..], &["--export"]].concat());
        assert_eq!(code, 0, "{err}");
        for given in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "last-applied",
        ] {
            assert!(!exported.contains(given), "{kind}: {exported}");
        }
        for verb in ["create", "apply", "replace"] {
            let (code, _, err) = there.piped(&[verb, "-f", "-"], &exported);
            assert_eq!(code, 0, "{verb}: {err}{exported}");
        }
        let export = [&get[..], &["--export"]].concat();
        let (ours, theirs) = (here.json(&export), there.json(&export));
        assert_eq!(ours, theirs, "{kind}");
        assert!(!ours["items"].as_array().unwrap().is_empty(), "{kind}");
        let ids = |bench: &Bench| bench.json(&get)["items"][0]["metadata"]["uid"].clone();
        assert_ne!(ids(&here), ids(&there), "{kind}");
        assert_ne!(ids(&there), Value::Null, "{kind}");
    }
    let one = here.json(&["get", "gnp", "closed", "--export"]);
    assert_eq!(one["metadata"]["annotations"]["why"], "said");
    assert_eq!(one["metadata"]["labels"]["team"], "x");
}
