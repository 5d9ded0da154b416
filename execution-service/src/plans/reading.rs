//! Reading an answer while it comes, until it is whole, or there is no use in waiting for the rest.
//!
//! It knows of a deadline and of pieces of text and of nothing else, so that whatever is said of time is tested on a clock that
//! stands still. Whoever is asked is let go of as soon as it is cut.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio_util::sync::CancellationToken;

use super::{Deadline, Invalid, Late, Module, Outline, Parser};
use crate::engine::{failure::FailureClass, journal::AttemptFailure};

/// Why an attempt has no plan.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub class: FailureClass,
    /// A stable word within the class.
    pub reason: String,
    /// Whether no other model would do better.
    is_lasting: bool,
}

impl From<AttemptFailure> for Failed {
    fn from(failure: AttemptFailure) -> Self {
        Self {
            class: failure.class,
            reason: failure.reason,
            is_lasting: false,
        }
    }
}

impl From<Invalid> for Failed {
    fn from(invalid: Invalid) -> Self {
        Self {
            class: invalid.class(),
            reason: invalid.reason().to_owned(),
            is_lasting: false,
        }
    }
}

impl From<Late> for Failed {
    fn from(_: Late) -> Self {
        Self::late("total")
    }
}

impl Failed {
    /// There was not enough time for something.
    pub(super) fn late(reason: &str) -> Self {
        Self {
            class: FailureClass::Timeout,
            reason: reason.to_owned(),
            is_lasting: false,
        }
    }

    /// Nobody is asked any more.
    pub(super) fn lasting(reason: &str) -> Self {
        Self {
            class: FailureClass::ProviderError,
            reason: reason.to_owned(),
            is_lasting: true,
        }
    }

    /// Whether another model may do what this one did not.
    pub(super) const fn may_fall_back(&self) -> bool {
        !self.is_lasting && matches!(self.class, FailureClass::ProviderError | FailureClass::RateLimit)
    }
}

/// Why an answer was not waited for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The attempt's time is over.
    Late,
    /// Nothing that may come still makes a plan of it.
    TooLong,
    /// Nobody wants it.
    Unwanted(Failed),
}

/// An answer while it comes.
pub(super) struct Reading<'a, S> {
    deadline: &'a Deadline,
    show: S,
    parser: Mutex<Parser>,
    came: AtomicUsize,
    too_long: CancellationToken,
}

impl<'a, S: Fn(Module)> Reading<'a, S> {
    /// Begins, within an attempt's deadline; each module is shown as soon as it is complete.
    pub(super) fn new(deadline: &'a Deadline, show: S) -> Self {
        Self {
            deadline,
            show,
            parser: Mutex::default(),
            came: AtomicUsize::new(0),
            too_long: CancellationToken::new(),
        }
    }

    /// Takes a piece.
    pub(super) fn take(&self, text: &str) {
        self.came.fetch_add(text.len(), Ordering::Relaxed);
        let mut parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        let complete = parser.push(text.as_bytes()).unwrap_or_else(|_| {
            self.too_long.cancel();
            Vec::new()
        });
        for module in complete {
            self.deadline.module_stands();
            (self.show)(module);
        }
    }

    /// How many bytes have come.
    pub(super) fn came(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }

    /// What is answered, by whoever gives the pieces meanwhile; or why that is not waited for.
    pub(super) async fn until<A>(
        &self,
        answer: impl Future<Output = A>,
        unwanted: impl Future<Output = Failed>,
    ) -> Result<A, Cut> {
        tokio::select! {
            biased;
            answered = self.deadline.within(answer) => answered.map_err(|Late| Cut::Late),
            () = self.too_long.cancelled() => Err(Cut::TooLong),
            failed = unwanted => Err(Cut::Unwanted(failed)),
        }
    }

    /// The plan that has come.
    pub(super) fn finish(self) -> Result<Outline, Invalid> {
        self.parser
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin, time::Duration};

    use futures::{Stream, StreamExt, stream};
    use tokio::time::{Instant, sleep_until};

    use super::*;

    const FIRST: &str = r#"{"modules":[{"title":"One","estimated_minutes":30,"tasks":[]}"#;
    const LAST: &str = r#",{"title":"Two","estimated_minutes":30,"tasks":[]}]}"#;

    /// A model that says something so many milliseconds after it was asked.
    fn saying(pieces: &'static [(u64, &'static str)]) -> impl Stream<Item = &'static str> {
        let asked = Instant::now();
        stream::iter(pieces).then(move |(after, text)| async move {
            sleep_until(asked + Duration::from_millis(*after)).await;
            *text
        })
    }

    /// How an answer is read that ends with its last piece, or never: how many milliseconds that takes, how it ends and with how
    /// many modules.
    async fn read(pieces: &'static [(u64, &'static str)], ends: bool) -> (u128, Result<(), Cut>, usize) {
        let shown = AtomicUsize::new(0);
        let deadline = Deadline::start();
        let reading = Reading::new(&deadline, |_| {
            shown.fetch_add(1, Ordering::Relaxed);
        });
        let answer = async {
            let mut pieces = pin!(saying(pieces));
            while let Some(text) = pieces.next().await {
                reading.take(text);
            }
            if !ends {
                pending::<()>().await;
            }
        };
        let ended = reading.until(answer, pending()).await;
        (deadline.elapsed().as_millis(), ended, shown.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_whose_first_module_comes_at_9_49_s_is_waited_for_until_20_s() {
        assert_eq!(read(&[(9_490, FIRST)], false).await, (20_000, Err(Cut::Late), 1));
        assert_eq!(read(&[(9_490, FIRST), (19_990, LAST)], true).await, (19_990, Ok(()), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_whose_first_module_comes_at_9_51_s_is_cut_at_10_s() {
        assert_eq!(read(&[(9_510, FIRST)], false).await, (10_000, Err(Cut::Late), 1));
        assert_eq!(read(&[(9_510, FIRST), (9_990, LAST)], true).await, (9_990, Ok(()), 2));
        let late = &[(9_510, FIRST), (10_010, LAST)];
        assert_eq!(read(late, true).await, (10_000, Err(Cut::Late), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_module_that_is_begun_before_9_5_s_and_complete_after_it_extends_nothing() {
        let (head, tail) = FIRST.split_at(FIRST.len() - 1);
        let pieces: &'static [(u64, &'static str)] = Box::leak(Box::new([(9_490, head), (9_510, tail)]));
        assert_eq!(read(pieces, false).await, (10_000, Err(Cut::Late), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_model_has_what_the_first_has_left_and_may_extend_it() {
        let deadline = Deadline::start();
        let first = Reading::new(&deadline, |_| {});
        let failed = first
            .until(sleep_until(Instant::now() + Duration::from_secs(9)), pending())
            .await;
        assert_eq!(failed, Ok(()));
        let second = Reading::new(&deadline, |_| {});
        let answer = async {
            sleep_until(Instant::now() + Duration::from_millis(490)).await;
            second.take(FIRST);
            pending::<()>().await;
        };
        assert_eq!(second.until(answer, pending()).await, Err(Cut::Late));
        assert_eq!(deadline.elapsed().as_millis(), 20_000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_wants_is_cut_when_that_is_known() {
        let deadline = Deadline::start();
        let reading = Reading::new(&deadline, |_| {});
        let unwanted = async {
            sleep_until(Instant::now() + Duration::from_secs(3)).await;
            Failed::lasting("plan_gone")
        };
        let ended = reading.until(pending::<()>(), unwanted).await;
        assert_eq!(ended, Err(Cut::Unwanted(Failed::lasting("plan_gone"))));
        assert_eq!(deadline.elapsed().as_millis(), 3_000);
        assert!(!Failed::lasting("plan_gone").may_fall_back(), "no other model is asked");
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_rest_makes_a_plan_of_is_cut_at_once() {
        assert_eq!(
            read(&[(1_000, "I would rather not.")], false).await.0,
            10_000,
            "it may be a preface"
        );
        let long: &'static str = Box::leak(" ".repeat(200_001).into_boxed_str());
        let pieces: &'static [(u64, &'static str)] = Box::leak(Box::new([(1_000, long)]));
        assert_eq!(read(pieces, false).await, (1_000, Err(Cut::TooLong), 0));
    }
}
