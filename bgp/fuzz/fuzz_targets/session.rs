//! A speaker and whatever a neighbour may do: octets in any pieces, connections that come and go, time that passes.
//!
//! The input is steps: an octet that says what happens, with an argument, then what belongs to it.

#![no_main]

mod stage;

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use stage::Stage;

fuzz_target!(|data: &[u8]| {
    // Half of the inputs have everything switched on.
    let full = data.len() % 2 == 1;
    let mut stage = if full { Stage::full(1) } else { Stage::new(1) };
    let witness = stage.join(10, 64512, true);
    let mut neighbour = stage.connect(11, 64513);
    let mut rest = data;
    while let [what, argument, behind @ ..] = rest {
        let (taken, behind) = behind.split_at(usize::from(*argument).min(behind.len()));
        rest = behind;
        match what % 8 {
            // Raw octets, in the pieces that the input makes.
            0 => stage.send(neighbour, taken),
            // A message with a sound header.
            1..=3 => stage.send(neighbour, &stage::message(what / 8 % 6, taken)),
            // The handshake as it should be.
            4 => stage.send(neighbour, &stage::hello(11, 64513, true, full)),
            5 => {
                stage.pass(Duration::from_secs(u64::from(*argument)));
                stage.send(witness, &stage::message(4, &[]));
            }
            6 => stage.close(neighbour),
            _ => neighbour = stage.connect(11, 64513),
        }
        stage.sent(witness);
        if argument % 2 == 0 {
            stage.sent(neighbour);
        }
    }
    stage.settle();
});
