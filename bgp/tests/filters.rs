//! What filters change on the way out and in.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Net, address, block};
use ocicat_bgp::{Attributes, Filter, FilterPeer, PeerConfig, Prefix, Verdict};

struct WithMed(u32);

impl Filter for WithMed {
    fn judge(&self, _: &FilterPeer, _: &Prefix, attributes: &Attributes) -> Verdict {
        Verdict::Replace(attributes.edit().med(self.0).build())
    }

    fn looks_at_prefix(&self) -> bool {
        false
    }
}

/// Node 0 has the block and a session with the router, node 2; node 1, of the same AS, passes the block on.
fn triangle(passed_on: Option<u32>) -> Option<u32> {
    let mut net = Net::new(1);
    let med = Attributes::builder().med(7).build();
    let speaker = net.start(0, Net::config(0, 64512));
    speaker.originate(block(0, 0), &med);
    speaker.originations_complete();
    net.start(1, Net::config(1, 64512)).originations_complete();
    net.start(2, Net::config(2, 64513)).originations_complete();
    net.peer(0, PeerConfig::new(address(1), 64512));
    net.peer(1, PeerConfig::new(address(0), 64512));
    let export = passed_on.map(|med| Arc::new(WithMed(med)) as Arc<dyn Filter>);
    net.peer(1, PeerConfig::new(address(2), 64513).export(export));
    net.peer(2, PeerConfig::new(address(1), 64512));
    net.run(Duration::from_secs(30));
    let routes = net.speaker(2).routes();
    let route = routes
        .iter()
        .find(|route| route.prefix == block(0, 0))
        .expect("the router has the block");
    route.paths[0].attributes.med()
}

#[test]
fn a_med_goes_no_further_than_the_neighbouring_as() {
    assert_eq!(triangle(None), None, "RFC 4271 section 5.1.4");
}

#[test]
fn a_med_that_an_export_filter_sets_is_sent() {
    assert_eq!(triangle(Some(1000)), Some(1000));
}

#[test]
fn a_filter_that_leaves_the_received_med_sends_none() {
    assert_eq!(triangle(Some(7)), None);
}
