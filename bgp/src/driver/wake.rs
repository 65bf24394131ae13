use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// Which connections have something to do. One task waits for all of them; each has a waker of its own.
#[derive(Default)]
pub(super) struct Wakes {
    ready: Mutex<Vec<usize>>,
    task: Mutex<Option<Waker>>,
}

impl Wakes {
    /// Says whom to wake.
    pub(super) fn watch(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &*task {
            Some(known) if known.will_wake(waker) => {}
            _ => *task = Some(waker.clone()),
        }
    }

    /// The connections that have been woken since the last call.
    pub(super) fn take(&self, into: &mut Vec<usize>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *ready, into);
    }

    fn push(&self, connection: usize) {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = &*task {
            task.wake_by_ref();
        }
    }
}

/// Wakes the driver for one connection.
pub(super) struct ConnectionWaker {
    connection: usize,
    queued: AtomicBool,
    wakes: Arc<Wakes>,
}

impl ConnectionWaker {
    pub(super) fn new(connection: usize, wakes: &Arc<Wakes>) -> Arc<Self> {
        Arc::new(Self {
            connection,
            queued: AtomicBool::new(false),
            wakes: Arc::clone(wakes),
        })
    }

    /// To be called before the connection is looked at: wakes from now on count anew.
    pub(super) fn rearm(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.wakes.push(self.connection);
        }
    }
}
