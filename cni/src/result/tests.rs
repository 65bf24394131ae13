use serde_json::json;

use super::*;

fn full() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "cali0", "mac": "ee:ee:ee:ee:ee:ee", "mtu": 1450},
            {"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1450, "sandbox": "/run/netns/a",
             "socketPath": "/run/s", "pciID": "0000:00:1f.6", "vendor": 1},
        ],
        "ips": [
            {"address": "10.1.0.5/24", "gateway": "10.1.0.1", "interface": 1},
            {"address": "fd00::5/64", "interface": 1},
        ],
        "routes": [
            {"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1400, "advmss": 1360, "priority": 10,
             "table": 254, "scope": 0},
        ],
        "dns": {"nameservers": ["10.96.0.10"], "domain": "a", "search": ["b"], "options": ["c"]},
        "vendor": {"x": [1]},
    })
}

#[test]
fn the_newest_form_round_trips_with_unknown_keys() {
    let result = AddResult::from_value(&full()).unwrap();
    assert_eq!(result.to_value(Version::V1_1_0), full());
    assert_eq!(result.interfaces[1].mtu, Some(1450));
    assert_eq!(result.ips[0].gateway, Some("10.1.0.1".parse().unwrap()));
}

#[test]
fn each_version_has_its_own_fields() {
    let result = AddResult::from_value(&full()).unwrap();
    for version in Version::ALL {
        let value = result.to_value(*version);
        assert_eq!(value["cniVersion"], version.as_str());
        let new = *version >= Version::V1_1_0;
        assert_eq!(value["interfaces"][1].get("mtu").is_some(), new);
        assert_eq!(value["interfaces"][1].get("socketPath").is_some(), new);
        assert_eq!(value["interfaces"][1].get("pciID").is_some(), new);
        for key in ["mtu", "advmss", "priority", "table", "scope"] {
            assert_eq!(value["routes"][0].get(key).is_some(), new, "{key}");
        }
        let old = *version < Version::V1_0_0;
        assert_eq!(value["ips"][0]["version"] == "4", old);
        assert_eq!(value["ips"][1]["version"] == "6", old);
        assert_eq!(value["vendor"], json!({"x": [1]}));
        let again = AddResult::from_value(&value).unwrap();
        assert_eq!(again.ips, result.ips);
    }
}

#[test]
fn what_go_writes_for_nothing_is_nothing() {
    let value = json!({"cniVersion": "1.0.0", "interfaces": null, "ips": null, "routes": null,
        "dns": {"nameservers": null}});
    assert_eq!(AddResult::from_value(&value).unwrap(), AddResult::new());
    let value = json!({"ips": [{"address": "10.0.0.1/8", "gateway": ""}]});
    assert_eq!(AddResult::from_value(&value).unwrap().ips[0].gateway, None);
}

#[test]
fn what_is_no_result_is_refused() {
    for wrong in [
        json!([]),
        json!("x"),
        json!({"ips": {}}),
        json!({"ips": [{}]}),
        json!({"ips": [{"address": "10.0.0.1"}]}),
        json!({"ips": [{"address": "10.0.0.1/33"}]}),
        json!({"ips": [{"address": "10.0.0.1/8", "gateway": "x"}]}),
        json!({"ips": [{"address": "10.0.0.1/8", "interface": 0}]}),
        json!({"ips": [{"address": "10.0.0.1/8", "interface": -1}]}),
        json!({"interfaces": [{}]}),
        json!({"routes": [{"dst": "default"}]}),
    ] {
        let error = AddResult::from_value(&wrong).unwrap_err();
        assert_eq!(error.code, CniError::DECODE_FAILURE, "{wrong}");
    }
}

#[test]
fn the_default_route_is_of_the_gateways_family() {
    for (gateway, dst) in [("10.0.0.1", "0.0.0.0/0"), ("fe80::1", "::/0")] {
        let route = Route::default_via(gateway.parse().unwrap());
        assert_eq!(route.dst.to_string(), dst);
        assert_eq!(route.gw.unwrap().to_string(), gateway);
    }
}
