use std::time::SystemTime;

use ocicat_ipam::testing::strategy_kit;
use ocicat_ipam::{AssignRequest, Block, Family, IpamConfig, Owner, rehearse};

use super::*;

fn pools() -> Vec<Pool> {
    let pool = |name: &str, cidr: &str| Pool::new(name, cidr.parse().unwrap());
    vec![
        pool("a1", "10.1.0.0/24"),
        pool("a2", "10.2.0.0/24"),
        pool("b", "10.3.0.0/26"),
    ]
}

fn strategy() -> SpreadOverRacks {
    SpreadOverRacks::default()
        .pool("a1", "a")
        .pool("a2", "a")
        .pool("b", "b")
}

fn racks(view: &mut View, app: &str, count: u32) -> Vec<&'static str> {
    let request = AssignRequest::new("n1", "h")
        .attribute("app", app)
        .v4(count);
    let served = rehearse(&strategy(), view, &request, Family::V4, &pools());
    assert_eq!(served.stop, None);
    let in_b = |address: &_| pools()[2].cidr.contains(*address);
    served
        .addresses
        .iter()
        .map(|address| if in_b(address) { "b" } else { "a" })
        .collect()
}

fn view() -> View {
    View::new(
        Owner::host("n1"),
        IpamConfig::default(),
        &[],
        SystemTime::UNIX_EPOCH,
    )
}

#[test]
fn an_application_gets_as_many_addresses_in_one_rack_as_in_the_other() {
    let mut view = view();
    assert_eq!(racks(&mut view, "shop", 4), ["a", "b", "a", "b"]);
    assert_eq!(racks(&mut view, "web", 1), ["a"]);
    assert_eq!(racks(&mut view, "shop", 2), ["a", "b"]);
}

#[test]
fn addresses_of_other_hosts_count() {
    let mut view = view();
    let now = SystemTime::UNIX_EPOCH;
    let mut other = Block::new("10.1.0.0/26".parse().unwrap(), Owner::host("n2"), now).unwrap();
    let held = AssignRequest::new("n2", "h2").attribute("app", "shop");
    let held = ocicat_ipam::Allocation::new(held.handle, held.attributes).into();
    (0..3).for_each(|at| assert!(other.take(ocicat_ipam::Ordinal::new(at), &held)));
    view.put(other);
    assert_eq!(racks(&mut view, "shop", 5), ["b", "b", "b", "a", "b"]);
}

#[test]
fn a_full_rack_is_left_out() {
    let mut view = view();
    let all = racks(&mut view, "shop", 130);
    assert_eq!(all.iter().filter(|rack| **rack == "b").count(), 64);
}

#[test]
fn it_keeps_the_rules_of_every_strategy() {
    strategy_kit(&strategy()).unwrap();
}
