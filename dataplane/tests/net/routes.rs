use std::collections::BTreeMap;
use std::sync::Arc;

use ocicat_dataplane::state::{Hop, RouteKey, Workload};
use ocicat_dataplane::testing::ready;
use ocicat_dataplane::{Attach as _, Attachment, Dataplane as _, Fault, LinuxAttach, State, names};

use crate::sandbox::{
    async_node, container, heard, ip, kernel, name, our_routes, route, state, uplink, via,
};

#[test]
fn every_kind_of_route_is_made_changed_and_removed() {
    async_node(async || {
        uplink();
        let mut kernel = kernel();
        let both = ["192.168.10.2", "192.168.10.3"].map(|gateway| via(gateway, Some("up0")));
        let mut multipath = route("10.5.0.0/24", both);
        multipath.1.hops.sort();
        let desired = state([
            route("10.1.0.0/26", [via("192.168.10.2", Some("up0"))]),
            route("10.2.0.0/26", [via("192.168.10.3", None)]),
            route("10.3.0.0/26", [Hop::Blackhole]),
            route("10.4.0.1/32", [Hop::Link(name("up0"))]),
            multipath,
            route("fd01::/122", [via("fd00:10::2", Some("up0"))]),
            route("fd02::/122", [Hop::Blackhole]),
        ]);
        let report = kernel.apply(&desired).await.unwrap();
        assert_eq!((report.changed, report.failed), (7, vec![]));
        let routes = our_routes();
        for expected in [
            "10.1.0.0/26 via 192.168.10.2 dev up0 onlink",
            "10.2.0.0/26 via 192.168.10.3 dev up0",
            "blackhole 10.3.0.0/26",
            "10.4.0.1 dev up0 scope link",
            "10.5.0.0/24",
            "nexthop via 192.168.10.2 dev up0 weight 1 onlink",
            "fd01::/122 via fd00:10::2 dev up0 metric 1024 onlink pref medium",
            "blackhole fd02::/122 dev lo metric 1024 pref medium",
        ] {
            assert!(
                routes.iter().any(|line| line == expected),
                "{expected}: {routes:#?}"
            );
        }
        assert_eq!(kernel.apply(&desired).await.unwrap().changed, 0);
        // A new dataplane finds everything as it should be.
        assert_eq!(
            crate::sandbox::kernel()
                .apply(&desired)
                .await
                .unwrap()
                .changed,
            0
        );

        let changed = state([
            route("10.1.0.0/26", [via("192.168.10.9", Some("up0"))]),
            route("fd01::/122", [Hop::Blackhole]),
        ]);
        let report = kernel.apply(&changed).await.unwrap();
        assert_eq!((report.changed, report.failed), (7, vec![]));
        assert_eq!(
            our_routes(),
            [
                "10.1.0.0/26 via 192.168.10.9 dev up0 onlink",
                "blackhole fd01::/122 dev lo metric 1024 pref medium"
            ]
        );
        kernel.apply(&State::default()).await.unwrap();
        assert_eq!(our_routes(), [] as [String; 0]);
    });
}

#[test]
fn foreign_routes_are_left_and_ours_are_repaired() {
    async_node(async || {
        uplink();
        ip("route add 10.1.0.0/26 via 192.168.10.7 proto 99");
        ip("route add 10.9.0.0/26 via 192.168.10.7 proto 99");
        ip("route add 10.8.0.0/26 via 192.168.10.7 proto 80");
        let mut kernel = kernel();
        let desired = state([
            route("10.1.0.0/26", [via("192.168.10.2", Some("up0"))]),
            route("10.2.0.0/26", [via("192.168.10.2", Some("up0"))]),
        ]);
        let report = kernel.apply(&desired).await.unwrap();
        assert_eq!(report.failed.len(), 1);
        assert_eq!(report.failed[0].fault, Fault::Taken { protocol: 99 });
        assert_eq!(
            our_routes(),
            ["10.2.0.0/26 via 192.168.10.2 dev up0 onlink"],
            "an old one of ours is gone"
        );
        assert_eq!(ip("route show proto 99").lines().count(), 2);

        ip("route del 10.1.0.0/26");
        ip("route replace 10.2.0.0/26 via 192.168.10.66 proto 80");
        heard(&mut kernel).await;
        let report = kernel.apply(&desired).await.unwrap();
        assert_eq!((report.changed, report.failed), (2, vec![]));
        assert_eq!(our_routes().len(), 2);
    });
}

#[test]
fn an_incomplete_state_removes_nothing() {
    async_node(async || {
        uplink();
        ip("route add 10.8.0.0/26 via 192.168.10.7 proto 80");
        let mut kernel = kernel();
        let mut desired = state([route("10.1.0.0/26", [Hop::Blackhole])]);
        desired.incomplete = true;
        kernel.apply(&desired).await.unwrap();
        assert_eq!(our_routes().len(), 2);
        desired.incomplete = false;
        kernel.apply(&desired).await.unwrap();
        assert_eq!(our_routes(), ["blackhole 10.1.0.0/26"]);
    });
}

#[test]
fn a_link_that_flaps_gets_its_routes_back() {
    async_node(async || {
        uplink();
        let mut kernel = kernel();
        let desired = state([
            route("10.1.0.0/26", [via("192.168.10.2", Some("up0"))]),
            route("10.2.0.1/32", [Hop::Link(name("later"))]),
        ]);
        let report = kernel.apply(&desired).await.unwrap();
        assert_eq!(report.failed[0].fault, Fault::LinkMissing(name("later")));

        ip("link set up0 down");
        heard(&mut kernel).await;
        let report = kernel.apply(&desired).await.unwrap();
        assert_eq!(report.failed[1].fault, Fault::LinkDown(name("up0")));
        ip("link set up0 up");
        heard(&mut kernel).await;
        let report = kernel.apply(&desired).await.unwrap();
        assert_eq!((report.changed, report.failed.len()), (1, 1));

        ip("link add later type bridge");
        ip("link set later up");
        heard(&mut kernel).await;
        assert!(kernel.apply(&desired).await.unwrap().is_complete());
        // Another link of the same name has another index.
        ip("link del later");
        ip("link add later type bridge");
        ip("link set later up");
        heard(&mut kernel).await;
        assert!(kernel.apply(&desired).await.unwrap().is_complete());
        assert_eq!(our_routes().len(), 2);
    });
}

#[test]
fn a_pods_route_is_adopted_and_not_taken_away_before_the_state_knows_of_it() {
    async_node(async || {
        let mut kernel = kernel();
        kernel.apply(&State::default()).await.unwrap();
        let pod = container();
        let link = names::pod_link("default", "web");
        let wanted = Attachment::new(pod, name("eth0"), link.clone(), "one/eth0")
            .addresses(["10.1.0.5".parse().unwrap()]);
        LinuxAttach::new().attach(&wanted).unwrap();
        kernel
            .apply(&state([route("10.9.0.0/26", [Hop::Blackhole])]))
            .await
            .unwrap();
        assert_eq!(our_routes().len(), 2);
        let known = state([route("10.1.0.5/32", [Hop::Link(link)])]);
        let report = kernel.apply(&known).await.unwrap();
        assert_eq!(
            (report.changed, report.failed),
            (1, vec![]),
            "only the blackhole goes"
        );
        let report = kernel.apply(&State::default()).await.unwrap();
        assert_eq!((report.changed, report.failed), (1, vec![]));
        assert_eq!(our_routes(), [] as [String; 0]);
    });
}

/// A removal's link goes a moment before the state says so: nothing is to be done then. But what was taken away by
/// somebody else is found when the kernel is read anew, and what comes back is seen at once.
#[test]
fn a_pods_link_that_goes_wakes_nobody() {
    async_node(async || {
        let link = names::pod_link("default", "web");
        let attach = |alias| {
            let wanted = Attachment::new(container(), name("eth0"), link.clone(), alias);
            let wanted =
                wanted.addresses(["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()]);
            LinuxAttach::new().attach(&wanted).unwrap();
            wanted
        };
        let held = attach("one/eth0");
        let workload = Workload {
            addresses: held.addresses.clone(),
            allowed_sources: Vec::new(),
            ingress: Vec::new(),
            egress: Vec::new(),
            profiles: Vec::new(),
            up: true,
        };
        let with_pod = State {
            workloads: BTreeMap::from([(link.clone(), Arc::new(workload))]),
            ..state([
                route("10.1.0.5/32", [Hop::Link(link.clone())]),
                route("fd00::5/128", [Hop::Link(link.clone())]),
            ])
        };
        let mut kernel = kernel();
        assert_eq!(kernel.apply(&with_pod).await.unwrap().failed, []);

        // Down and up again, which the state says nothing of.
        ip(&format!("link set {link} down"));
        assert!(ready(kernel.changed()).is_none());
        assert_eq!(our_routes(), [] as [String; 0]);
        ip(&format!("link set {link} up"));
        heard(&mut kernel).await;
        assert_eq!(kernel.apply(&with_pod).await.unwrap().changed, 2);

        // A route of its alone is put back, as any other is.
        ip("route del 10.1.0.5");
        heard(&mut kernel).await;
        assert_eq!(kernel.apply(&with_pod).await.unwrap().changed, 1);

        ip(&format!("link del {link}"));
        assert!(ready(kernel.changed()).is_none());
        kernel.invalidate();
        let report = kernel.apply(&with_pod).await.unwrap();
        let faults: Vec<_> = report.failed.iter().map(|one| &one.fault).collect();
        let missing = Fault::LinkMissing(link.clone());
        assert_eq!(faults, [&missing, &missing]);
        drop(held);

        // Removed as a pod is, with the state a moment behind.
        let _held = attach("two/eth0");
        heard(&mut kernel).await;
        assert_eq!(kernel.apply(&with_pod).await.unwrap().failed, []);
        ip(&format!("link del {link}"));
        let report = kernel.apply(&State::default()).await.unwrap();
        assert_eq!((report.changed, report.failed), (0, vec![]));
        assert!(ready(kernel.changed()).is_none());
    });
}

#[test]
fn a_link_that_gets_anothers_number_gets_none_of_its_routes() {
    async_node(async || {
        let mut kernel = kernel();
        let number = |link: &str, number: u32| {
            ip(&format!("link add {link} index {number} type bridge"));
            ip(&format!("link set {link} up"));
        };
        number("up0", 77);
        let desired = state([
            route("10.1.0.1/32", [Hop::Link(name("up0"))]),
            route("fd01::1/128", [Hop::Link(name("up0"))]),
        ]);
        assert_eq!(kernel.apply(&desired).await.unwrap().failed, []);
        assert_eq!(our_routes().len(), 2);
        // Between two looks: the number is another link's, and the name another number's.
        ip("link del up0");
        number("other0", 77);
        let report = kernel.apply(&desired).await.unwrap();
        assert_eq!(
            report.failed,
            [],
            "nothing was heard yet, nothing was asked"
        );
        heard(&mut kernel).await;
        let report = kernel.apply(&desired).await.unwrap();
        let faults: Vec<_> = report.failed.iter().map(|one| &one.fault).collect();
        let missing = Fault::LinkMissing(name("up0"));
        assert_eq!(faults, [&missing, &missing]);
        assert_eq!(our_routes(), [] as [String; 0]);
        number("up0", 78);
        heard(&mut kernel).await;
        assert_eq!(kernel.apply(&desired).await.unwrap().failed, []);
        assert_eq!(
            our_routes(),
            [
                "10.1.0.1 dev up0 scope link",
                "fd01::1 dev up0 metric 1024 pref medium"
            ]
        );
        // The numbers of the two are exchanged at once.
        for link in ["up0", "other0"] {
            ip(&format!("link del {link}"));
        }
        number("up0", 77);
        number("other0", 78);
        heard(&mut kernel).await;
        assert_eq!(kernel.apply(&desired).await.unwrap().failed, []);
        let found: Vec<_> = our_routes();
        assert!(
            found.iter().all(|line| line.contains("dev up0")),
            "{found:?}"
        );
        assert_eq!(found.len(), 2);
    });
}

#[test]
fn routes_of_another_table_with_a_metric_and_a_source_are_made_damaged_and_repaired() {
    async_node(async || {
        uplink();
        ip("addr add 10.1.0.1/32 dev up0");
        ip("addr add fd01::1/128 dev up0 nodad");
        let hinted = |prefix: &str, gateway: &str, source: &str, table, metric| {
            let (key, mut route) = route(prefix, [via(gateway, Some("up0"))]);
            route.source = Some(source.parse().unwrap());
            let key = RouteKey {
                table,
                metric,
                ..key
            };
            (key, route)
        };
        let desired = state([
            hinted("10.2.0.0/26", "192.168.10.2", "10.1.0.1", 1000, 0),
            hinted("10.2.0.0/26", "192.168.10.3", "192.168.10.1", 254, 50),
            hinted("10.2.0.0/26", "192.168.10.2", "10.1.0.1", 254, 0),
            hinted("fd02::/122", "fd00:10::2", "fd01::1", 1000, 1024),
        ]);
        let mut kernel = kernel();
        let report = kernel.apply(&desired).await.unwrap();
        assert_eq!((report.changed, report.failed), (4, vec![]));
        let shown = our_routes();
        for expected in [
            "10.2.0.0/26 via 192.168.10.2 dev up0 table 1000 src 10.1.0.1 onlink",
            "10.2.0.0/26 via 192.168.10.3 dev up0 src 192.168.10.1 metric 50 onlink",
            "10.2.0.0/26 via 192.168.10.2 dev up0 src 10.1.0.1 onlink",
            "fd02::/122 via fd00:10::2 dev up0 table 1000 src fd01::1 metric 1024 onlink pref medium",
        ] {
            assert!(shown.iter().any(|line| line == expected), "{shown:#?}");
        }
        assert_eq!(shown.len(), 4);
        for damage in [
            "route del 10.2.0.0/26 table 1000",
            "route del 10.2.0.0/26 metric 50",
            "route replace 10.2.0.0/26 via 192.168.10.2 dev up0 proto 80 src 192.168.10.1 onlink",
            "-6 route del fd02::/122 table 1000",
            "route add 10.9.0.0/26 via 192.168.10.2 table 1000 proto 80",
        ] {
            ip(damage);
            heard(&mut kernel).await;
            let report = kernel.apply(&desired).await.unwrap();
            assert_eq!((report.changed, report.failed), (1, vec![]), "{damage}");
            assert_eq!(our_routes(), shown, "{damage}");
        }
        // The kernel takes the main table's routes away with their source's address, and says nothing of it: found at the
        // next look.
        ip("addr del 10.1.0.1/32 dev up0");
        kernel.invalidate();
        let report = kernel.apply(&desired).await.unwrap();
        assert_eq!(report.failed.len(), 1, "{:?}", report.failed);
        ip("addr add 10.1.0.1/32 dev up0");
        kernel.invalidate();
        assert_eq!(kernel.apply(&desired).await.unwrap().failed, []);
        assert_eq!(our_routes(), shown);
        kernel.apply(&State::default()).await.unwrap();
        assert_eq!(our_routes(), [] as [String; 0]);
    });
}
