//! The body of a frame to the agent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicat_cni::testing::read_request;

fuzz_target!(|data: &[u8]| {
    if let Err(error) = read_request(data) {
        assert!(error.code != 0 && !error.msg.is_empty(), "{error:?}");
    }
});
