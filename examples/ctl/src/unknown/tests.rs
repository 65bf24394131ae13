use serde_json::json;

use super::*;

fn said(kind: Kind, value: &Value) -> Vec<String> {
    let found = fields(kind, value);
    let line = |one: &Unknown| format!("{}: {}", one.field, one.message);
    found.iter().map(line).collect()
}

#[test]
fn what_was_meant_is_said() {
    let cases = [
        (
            Kind::IpPool,
            json!({"spec": {"cidr": "10.0.0.0/8", "blocksize": 26}}),
            "spec.blocksize: unknown field; did you mean blockSize?",
        ),
        (
            Kind::IpPool,
            json!({"metadata": {"nmae": "x"}}),
            "metadata.nmae: unknown field; did you mean name?",
        ),
        (
            Kind::NetworkPolicy,
            json!({"spec": {"ingress": [{}, {"action": "Allow", "source": {"notSelektor": "all()"}}]}}),
            "spec.ingress[1].source.notSelektor: unknown field; did you mean notSelector?",
        ),
        (
            Kind::KubeNetworkPolicy,
            json!({"spec": {"podselector": {}}}),
            "spec.podselector: unknown field; did you mean podSelector?",
        ),
        (
            Kind::KubeNetworkPolicy,
            json!({"spec": {"ingress": [{"from": [{"ipblock": {"cidr": "10.0.0.0/8"}}]}]}}),
            "spec.ingress[0].from[0].ipblock: unknown field; did you mean ipBlock?",
        ),
        (
            Kind::BgpPeer,
            json!({"spec": {"password": {"secretKeyref": {"name": "x"}}}}),
            "spec.password.secretKeyref: unknown field; did you mean secretKeyRef?",
        ),
        (
            Kind::FelixConfiguration,
            json!({"spec": {"vxlanPrt": 1}}),
            "spec.vxlanPrt: unknown field; did you mean vxlanPort?",
        ),
        (
            Kind::KubeControllersConfiguration,
            json!({"spec": {"controlers": {}}}),
            "spec.controlers: unknown field; did you mean controllers?",
        ),
        (
            Kind::Node,
            json!({"spec": {"bgp": {"ipv4Adress": "10.0.0.1"}}}),
            "spec.bgp.ipv4Adress: unknown field; did you mean ipv4Address?",
        ),
    ];
    for (kind, value, expected) in cases {
        assert_eq!(said(kind, &value), [expected], "{value}");
    }
}

#[test]
fn what_is_elsewhere_or_nowhere_is_said() {
    let cases = [
        (
            Kind::IpPool,
            json!({"blockSize": 26}),
            "blockSize: unknown field here; did you mean spec.blockSize?",
        ),
        (
            Kind::NetworkPolicy,
            json!({"spec": {"ingress": [{"action": "Allow", "ports": [80]}]}}),
            "spec.ingress[0].ports: unknown field here; did you mean spec.egress[].destination.ports?",
        ),
        (
            Kind::IpReservation,
            json!({"spec": {"zzz": 1}}),
            "spec.zzz: unknown field; there are reservedCIDRs",
        ),
    ];
    for (kind, value, expected) in cases {
        assert_eq!(said(kind, &value), [expected], "{value}");
    }
}

#[test]
fn what_is_kept_as_it_is_is_fine() {
    let metadata = json!({
        "name": "x", "labels": {"any.thing/here": "y"}, "annotations": {"z": ""}, "managedFields": [{"f:spec": {}}],
        "ownerReferences": [{"uid": "u"}],
    });
    for (kind, value) in [
        (
            Kind::IpPool,
            json!({"metadata": metadata, "status": {"conditions": []}}),
        ),
        (
            Kind::FelixConfiguration,
            json!({"spec": {"vxlanMTUV6": 1, "vxlanPort": 4789, "aSettingOfTomorrow": 1}}),
        ),
        (
            Kind::FelixConfiguration,
            json!({"spec": {"routeTableRanges": [{"min": 1, "max": 2}]}}),
        ),
        (
            Kind::KubeControllersConfiguration,
            json!({"spec": {"controllers": {"node": {"hostEndpoint": {}}}}}),
        ),
        (
            Kind::Profile,
            json!({"spec": {"labelsToApply": {"pcns.any": "x"}}}),
        ),
        (Kind::Pod, json!({"spec": {"containers": [{"image": "x"}]}})),
        (
            Kind::Namespace,
            json!({"metadata": {"name": "x"}, "spec": {"finalizers": []}}),
        ),
        // Its type is wrong, which is told elsewhere.
        (Kind::IpPool, json!({"spec": {"cidr": {"a": 1}}})),
    ] {
        assert_eq!(said(kind, &value), Vec::<String>::new(), "{kind} {value}");
    }
}

/// Every field of every kind's specification, a letter too short and in the wrong case: the field itself is what was meant.
#[test]
fn every_field_of_every_kind_is_known() {
    let mut kinds = 0;
    for kind in Kind::ALL {
        let Some(schema) = crds::known_fields(*kind) else {
            continue;
        };
        kinds += 1;
        let properties = schema["properties"]["spec"]["properties"].as_object();
        for name in properties.into_iter().flat_map(Map::keys) {
            let right = json!({"spec": {name.as_str(): null}});
            assert_eq!(said(*kind, &right), Vec::<String>::new(), "{kind}");
            let wrong = name.to_uppercase();
            let value = json!({"spec": {wrong.as_str(): null}});
            let expected = format!("spec.{wrong}: unknown field; did you mean {name}?");
            assert_eq!(said(*kind, &value), [expected], "{kind}");
            let wrong = format!("{}x", &name[..name.len() - 1]);
            if name.len() < 3 || properties.is_some_and(|all| all.contains_key(&wrong)) {
                continue;
            }
            let value = json!({"spec": {wrong.as_str(): null}});
            let said = said(*kind, &value);
            let field = format!("spec.{wrong}: unknown field; did you mean ");
            assert!(
                said.len() == 1 && said[0].starts_with(&field),
                "{kind} {said:?}"
            );
        }
    }
    assert_eq!(kinds, 27);
}
