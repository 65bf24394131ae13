//! What tests of programs on this crate need (feature `testing`): an executor without a runtime, a store that fails on
//! demand, and the kit that a strategy must pass.

mod dice;
mod faulty;
mod kit;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

pub use self::dice::Dice;
pub use self::faulty::{Call, FaultyStore, Mishap};
pub use self::kit::{Fault, KitFailure, KitOptions, strategy_kit, strategy_kit_with};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread. [`MemoryStore`](crate::MemoryStore) is never waited for.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
