//! Waiting for several futures at a time.

#[cfg(any(feature = "etcd", feature = "kubernetes"))]
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

#[cfg(any(feature = "etcd", feature = "kubernetes"))]
use crate::{Object, Op, StoreError};

/// Of one operation.
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
type Answer = Result<Object, StoreError>;

/// Waits for all; their outputs are in the order of the futures.
pub(crate) async fn all<T>(futures: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Some).collect();
    let mut outputs: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (slot, output) in futures.iter_mut().zip(&mut outputs) {
            if let Some(future) = slot {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => {
                        *output = Some(value);
                        *slot = None;
                    }
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// Does operations side by side, those on one object after each other; the answers are in the order of the operations.
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
pub(crate) async fn by_object<'a>(
    ops: Vec<Op>,
    operate: impl Fn(Op) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> + Sync,
) -> Vec<Answer> {
    let mut answers: Vec<Option<Answer>> = Vec::new();
    answers.resize_with(ops.len(), || None);
    let mut waiting: Vec<(usize, Op)> = ops.into_iter().enumerate().collect();
    while !waiting.is_empty() {
        // The first operation on each object; the others come after it.
        let mut busy = BTreeSet::new();
        let (now, later): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|(_, op)| busy.insert(op.key()));
        let (numbers, calls): (Vec<_>, Vec<_>) = now
            .into_iter()
            .map(|(number, op)| (number, operate(op)))
            .unzip();
        for (number, answer) in numbers.into_iter().zip(all(calls).await) {
            if let Some(slot) = answers.get_mut(number) {
                *slot = Some(answer);
            }
        }
        waiting = later;
    }
    answers.into_iter().flatten().collect()
}
