//! A network list.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicat_cni::runtime::Conflist;

fuzz_target!(|data: &[u8]| {
    if let Ok(list) = Conflist::parse(data) {
        assert!(!list.plugins().is_empty());
        let again =
            Conflist::from_value(list.raw().clone()).expect("what was read once reads again");
        assert_eq!(again, list);
    }
});
