//! Which endpoint answers first.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// Asks one after the other and takes the first answer. Whoever says nothing for a head start, or fails, lets the next one
/// be asked, too; all that were asked may still answer. So a slow endpoint is awaited, and holds up nobody who has others.
///
/// The answer comes with its number; when all fail, the error is that of the first.
pub(super) async fn first_answer<T, E, F>(
    asked: impl IntoIterator<Item = F>,
    head_start: Duration,
) -> Option<Result<(usize, T), E>>
where
    F: Future<Output = Result<T, E>> + Send,
{
    let mut waiting: VecDeque<(usize, Pin<Box<F>>)> =
        asked.into_iter().map(Box::pin).enumerate().collect();
    let mut running = Vec::from_iter(waiting.pop_front());
    let mut next_turn = Box::pin(tokio::time::sleep(head_start));
    let mut failure = None;
    std::future::poll_fn(|context| {
        let mut number = 0;
        loop {
            while let Some((index, call)) = running.get_mut(number) {
                match call.as_mut().poll(context) {
                    Poll::Pending => number += 1,
                    Poll::Ready(Ok(answer)) => return Poll::Ready(Some(Ok((*index, answer)))),
                    Poll::Ready(Err(error)) => {
                        if *index == 0 {
                            failure = Some(error);
                        }
                        running.remove(number);
                        // At once the turn of the next.
                        running.extend(waiting.pop_front());
                        next_turn = Box::pin(tokio::time::sleep(head_start));
                    }
                }
            }
            if running.is_empty() {
                return Poll::Ready(failure.take().map(Err));
            }
            if waiting.is_empty() || next_turn.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            running.extend(waiting.pop_front());
            next_turn = Box::pin(tokio::time::sleep(head_start));
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_START: Duration = Duration::from_secs(3);

    /// When, in seconds, it answers with success or failure; none never does.
    type Endpoint = Option<(u64, bool)>;

    /// The number of the endpoint that answered, or whose error it is.
    type Found = Option<Result<usize, usize>>;

    async fn ask(endpoints: &[Endpoint]) -> (u64, Found) {
        let begin = tokio::time::Instant::now();
        let one = async |(number, endpoint): (usize, &Endpoint)| {
            let Some((seconds, good)) = endpoint else {
                return std::future::pending().await;
            };
            tokio::time::sleep(Duration::from_secs(*seconds)).await;
            if *good { Ok(number) } else { Err(number) }
        };
        let asked = endpoints.iter().enumerate().map(one);
        let found = first_answer(asked, HEAD_START);
        let found = tokio::time::timeout(Duration::from_secs(60), found).await;
        let found = found.ok().flatten().map(|found| {
            found.map(|(index, number)| {
                assert_eq!(index, number);
                number
            })
        });
        (begin.elapsed().as_secs(), found)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_answers_is_taken() {
        let good = |seconds| Some((seconds, true));
        let bad = |seconds| Some((seconds, false));
        let table: &[(&[Endpoint], u64, Found)] = &[
            (&[], 0, None),
            (&[good(0), good(0)], 0, Some(Ok(0))),
            // A slow one that is alone is awaited, and so are slow ones that are all.
            (&[good(9)], 9, Some(Ok(0))),
            (&[good(9), good(9)], 9, Some(Ok(0))),
            (&[good(9), good(5)], 8, Some(Ok(1))),
            // One that is silent costs a head start, one that refuses nothing.
            (&[None, good(0)], 3, Some(Ok(1))),
            (&[None, None, good(1)], 7, Some(Ok(2))),
            (&[bad(0), bad(1), good(1)], 2, Some(Ok(2))),
            // The error is that of the first, whoever fails last.
            (&[bad(0), bad(9)], 9, Some(Err(0))),
            (&[bad(9), bad(1)], 9, Some(Err(0))),
            (&[None], 60, None),
        ];
        for (endpoints, seconds, found) in table {
            assert_eq!(ask(endpoints).await, (*seconds, *found), "{endpoints:?}");
        }
    }
}
