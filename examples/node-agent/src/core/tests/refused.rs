use ocicat_dataplane::state::SetId;
use ocicat_dataplane::{Fault, Object as Refused};

use super::*;

#[test]
fn what_nftables_refuses_is_counted_once() {
    let mut bench = bench(BTreeMap::new());
    bench.cluster();
    bench.sync();
    let mut apply = |objects: &[Refused]| {
        let mut outcome = Report::default();
        for object in objects {
            let why = "no".to_owned();
            outcome.fail(object.clone(), Fault::Policy { why });
        }
        let generation = bench.desired.borrow().generation;
        bench.core.applied(Applied {
            generation,
            outcome: Ok(outcome),
        });
        bench.core.refused
    };
    let route = Refused::Route(RouteKey::main("10.0.0.0/26".parse().unwrap()));
    let set = |name| Refused::Set(SetId::new(name));
    assert_eq!(apply(&[]), 0);
    assert_eq!(
        apply(std::slice::from_ref(&route)),
        0,
        "no business of nftables"
    );
    assert_eq!(apply(&[set("a"), route.clone()]), 1);
    assert_eq!(apply(&[set("a"), route]), 1, "tried again");
    assert_eq!(apply(&[set("a"), set("b")]), 2);
    assert_eq!(apply(&[]), 2);
    assert_eq!(apply(&[set("a")]), 3, "refused anew");
}
