//! Results, errors, configurations and lists are read alike by ours and by rscni-types, which others wrote.

use ocicat_cni::runtime::Conflist;
use ocicat_cni::{
    AddResult, CniError, Dns, Interface, IpConfig, NetworkConfig, Plugin, Route, Version,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rscni_types as theirs;
use serde_json::{Value, json};

fn interface() -> impl Strategy<Value = Interface> {
    let mac = option::of("([0-9a-f]{2}:){5}[0-9a-f]{2}");
    let sandbox = option::of("/run/netns/[a-z]{1,8}");
    ("[a-z]{1,5}[0-9]", mac, option::of(68_u32..9000), sandbox).prop_map(
        |(name, mac, mtu, sandbox)| {
            let mut interface = Interface::new(name);
            // The other side knows no difference between no address and an empty one.
            (interface.mac, interface.mtu, interface.sandbox) = (mac, mtu, sandbox);
            interface
        },
    )
}

fn network() -> impl Strategy<Value = ocicat_cni::ipnetwork::IpNetwork> {
    let v4 = (any::<u32>(), 0_u8..=32)
        .prop_map(|(bits, length)| (std::net::IpAddr::V4(bits.into()), length));
    let v6 = (any::<u128>(), 0_u8..=128)
        .prop_map(|(bits, length)| (std::net::IpAddr::V6(bits.into()), length));
    prop_oneof![v4, v6].prop_map(|(address, length)| {
        ocicat_cni::ipnetwork::IpNetwork::new(address, length).unwrap()
    })
}

fn result() -> impl Strategy<Value = AddResult> {
    let ips = vec(
        (
            network(),
            option::of(network()),
            any::<prop::sample::Index>(),
        ),
        0..4,
    );
    let routes = vec(
        (network(), option::of(network()), option::of(68_u32..9000)),
        0..3,
    );
    let names = vec("[0-9.]{3,9}", 0..3);
    (vec(interface(), 0..3), ips, routes, names).prop_map(|(interfaces, ips, routes, names)| {
        let mut result = AddResult::new();
        result.interfaces = interfaces;
        for (address, gateway, at) in ips {
            let mut ip = IpConfig::new(address);
            ip.gateway = gateway.map(|gateway| gateway.ip());
            let count = result.interfaces.len();
            ip.interface = (count > 0).then(|| at.index(count));
            result = result.ip(ip);
        }
        for (dst, gw, mtu) in routes {
            let mut route = Route::new(dst);
            (route.gw, route.mtu) = (gw.map(|gw| gw.ip()), mtu);
            result = result.route(route);
        }
        result.dns = Dns::default();
        result.dns.nameservers = names;
        result
    })
}

proptest! {
    #[test]
    fn results_survive_their_reading_and_writing(result in result()) {
        let written = result.to_value(Version::V1_1_0);
        let read: theirs::types::CNIResult = serde_json::from_value(written.clone()).unwrap();
        prop_assert_eq!(read.ips.len(), result.ips.len());
        for (theirs, ours) in read.ips.iter().zip(&result.ips) {
            prop_assert_eq!(theirs.address.to_string(), ours.address.to_string());
            prop_assert_eq!(theirs.gateway, ours.gateway);
            prop_assert_eq!(theirs.interface.map(|at| at as usize), ours.interface);
        }
        let again = AddResult::from_value(&serde_json::to_value(&read).unwrap()).unwrap();
        prop_assert_eq!(again, result);
    }

    #[test]
    fn configurations_mean_the_same(
        name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,12}",
        masquerade in option::of(any::<bool>()),
        ipam in option::of("[a-z][a-z-]{0,9}"),
        ports in vec((1_u16.., 1_u16..), 0..3),
        kept in option::of(vec(("[a-z0-9]{1,9}", "[a-z]{1,8}"), 0..3)),
    ) {
        let mut config = json!({"cniVersion": "1.1.0", "name": name, "type": "ocicat", "own": {"a": [1]}});
        if let Some(masquerade) = masquerade {
            config["ipMasq"] = json!(masquerade);
        }
        if let Some(ipam) = &ipam {
            config["ipam"] = json!({"type": ipam});
        }
        let mappings: Vec<Value> = ports.iter()
            .map(|(host, container)| json!({"hostPort": host, "containerPort": container, "protocol": "udp"}))
            .collect();
        config["runtimeConfig"] = json!({"portMappings": mappings});
        if let Some(kept) = &kept {
            let list: Vec<Value> = kept.iter()
                .map(|(id, ifname)| json!({"containerID": id, "ifname": ifname}))
                .collect();
            config["cni.dev/valid-attachments"] = json!(list);
        }
        let ours = NetworkConfig::from_value(config.clone()).unwrap();
        let other: theirs::types::NetConf = serde_json::from_value(config.clone()).unwrap();
        prop_assert_eq!(ours.name.as_str(), other.name.as_str());
        prop_assert_eq!(ours.ip_masq, other.ip_masq.unwrap_or(false));
        prop_assert_eq!(ours.runtime_config.port_mappings.len(), ports.len());
        let theirs = other
            .runtime_config
            .map_or_else(Vec::new, |runtime| runtime.port_mappings);
        for (ours, theirs) in ours.runtime_config.port_mappings.iter().zip(&theirs) {
            prop_assert_eq!(u32::from(ours.host_port), theirs.host_port);
            prop_assert_eq!(u32::from(ours.container_port), theirs.container_port);
        }
        let pairs = ours.valid_attachments.map(|all| all.iter()
            .map(|one| (one.container_id.to_string(), one.ifname.to_string())).collect::<Vec<_>>());
        let theirs = other.valid_attachments.map(|all| all.into_iter()
            .map(|one| (one.container_id, one.ifname)).collect::<Vec<_>>());
        prop_assert_eq!(pairs, theirs);
        prop_assert_eq!(&other.custom["own"], &config["own"]);
    }
}

#[test]
fn errors_and_versions_are_understood() {
    let error = CniError::try_again("the node agent is not ready").with_details("not in sync");
    let read: Value = error.to_value(Version::V1_0_0);
    let read: theirs::types::ErrorResult = serde_json::from_value(read).unwrap();
    let written = serde_json::to_value(&read).unwrap();
    assert_eq!(written["code"], 11);
    assert_eq!(written["msg"], "the node agent is not ready");
    assert_eq!(written["details"], "not in sync");
    struct Nothing;
    impl Plugin for Nothing {
        type Config = Value;
        fn add(&self, _: ocicat_cni::Call<Value>) -> Result<AddResult, CniError> {
            Ok(AddResult::new())
        }
        fn del(&self, _: ocicat_cni::Call<Value>) -> Result<(), CniError> {
            Ok(())
        }
    }
    let environment = ocicat_cni::Environment::from_fn(|name| {
        (name == "CNI_COMMAND").then(|| "VERSION".to_owned())
    });
    let mut out = Vec::new();
    let _ = ocicat_cni::run(&Nothing, &environment, &b"{}"[..], &mut out);
    let info: theirs::version::PluginInfo = serde_json::from_slice(&out).unwrap();
    let info = serde_json::to_value(&info).unwrap();
    let versions = info["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!("0.3.1")) && versions.contains(&json!("1.1.0")));
}

#[test]
fn lists_mean_the_same() {
    for (disable, expected) in [
        (json!(true), true),
        (json!(false), false),
        (json!("true"), true),
    ] {
        let raw = json!({"cniVersion": "1.1.0", "name": "net", "disableGC": disable,
            "plugins": [{"type": "ocicat"}, {"type": "portmap", "capabilities": {"portMappings": true}}]});
        let other: theirs::types::NetConfList = serde_json::from_value(raw.clone()).unwrap();
        assert_eq!(other.disable_gc, expected);
        let ours = Conflist::from_value(raw).unwrap();
        assert_eq!(ours.gc_disabled(), expected);
        assert_eq!(
            ours.raw()["plugins"].as_array().unwrap().len(),
            other.plugins.len()
        );
    }
}
