//! The breaker and the limits, before a provider that answers as it is told.

use std::{collections::VecDeque, sync::atomic::AtomicUsize};

use super::*;
use crate::providers::Usage;

/// Answers what it is told, then well; each call takes this long.
struct Scripted {
    results: Mutex<VecDeque<CallError>>,
    time: Duration,
    calls: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Scripted {
    fn new(results: impl IntoIterator<Item = CallError>) -> Self {
        Self {
            results: Mutex::new(results.into_iter().collect()),
            time: Duration::from_millis(20),
            calls: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        }
    }
}

impl Provider for Arc<Scripted> {
    fn call<'a>(
        &'a self,
        call: &'a Call,
        _: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<Answer, CallError>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(now, Ordering::SeqCst);
            sleep(self.time).await;
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            let next = lock(&self.results).pop_front();
            next.map_or_else(
                || {
                    Ok(Answer {
                        text: call.prompt.clone(),
                        input_tokens: 10,
                        output_tokens: 10,
                        billing_uncertain: false,
                        finish_reason: "stop".into(),
                        response_model: None,
                        response_id: None,
                        cleaned: false,
                    })
                },
                Err,
            )
        })
    }

    fn embed<'a>(&'a self, _: &'a EmbedCall) -> BoxFuture<'a, Result<Embedded, CallError>> {
        unreachable!("no test embeds here")
    }
}

fn guarded(limits: Limits, results: impl IntoIterator<Item = CallError>) -> (Guarded<Arc<Scripted>>, Arc<Scripted>) {
    let scripted = Arc::new(Scripted::new(results));
    let standing = Arc::new(Standing::new("box", limits));
    (Guarded::new(scripted.clone(), standing), scripted)
}

fn call(timeout: Duration) -> Call {
    Call {
        timeout,
        ..Call::default()
    }
}

fn overloaded() -> CallError {
    CallError::new(FailureClass::ProviderError, "overloaded", "busy").retryable()
}

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn an_endpoint_that_fails_is_left_alone_until_a_probe_finds_it_well() {
    let rest = Duration::from_millis(300);
    let (guarded, scripted) = guarded(Limits::default(), (0..5).map(|_| overloaded()));
    let ask = async || guarded.answer(&call(MINUTE), &|_| {}).await;
    lock(&guarded.standing.breaker).rest = rest;
    for _ in 0..5 {
        assert_eq!(ask().await.unwrap_err().reason, "overloaded");
    }
    let refused = ask().await.unwrap_err();
    assert_eq!(
        (refused.class, refused.reason),
        (FailureClass::ProviderError, "breaker_open")
    );
    assert!(refused.retryable && !refused.billing_uncertain && refused.retry_after.is_some());
    assert_eq!(scripted.calls.load(Ordering::SeqCst), 5, "the endpoint is not called");
    let report = guarded.standing.report();
    assert!(matches!(report.breaker, BreakerState::Open(_)), "{report:?}");
    assert_eq!((report.failures, report.last_failure), (5, Some("overloaded")));
    sleep(rest).await;
    assert!(ask().await.is_ok() && ask().await.is_ok());
    assert_eq!(guarded.standing.report().breaker, BreakerState::Closed);
}

#[tokio::test]
async fn a_probe_that_is_given_up_leaves_its_place_to_the_next() {
    let (guarded, _) = guarded(Limits::default(), (0..5).map(|_| overloaded()));
    let rest = Duration::from_millis(50);
    lock(&guarded.standing.breaker).rest = rest;
    for _ in 0..5 {
        let _ = guarded.answer(&call(MINUTE), &|_| {}).await;
    }
    sleep(rest).await;
    let given_up = tokio::time::timeout(Duration::from_millis(5), guarded.answer(&call(MINUTE), &|_| {})).await;
    assert!(given_up.is_err());
    assert!(guarded.answer(&call(MINUTE), &|_| {}).await.is_ok());
}

#[test]
fn only_what_the_endpoint_is_to_blame_for_counts() {
    use FailureClass::{ProviderError, RateLimit, Timeout, Validation};
    let of = |class, reason, time| verdict(&CallError::new(class, reason, ""), time);
    for reason in [
        "overloaded",
        "server_error",
        "unreachable",
        "connection_lost",
        "incomplete",
        "wrong_body",
    ] {
        assert_eq!(of(ProviderError, reason, MINUTE), Verdict::Failed(None), "{reason}");
    }
    for reason in [
        "quota",
        "credentials",
        "model_not_found",
        "endpoint",
        "address",
        "empty_answer",
        "answer_too_large",
    ] {
        assert_eq!(of(ProviderError, reason, MINUTE), Verdict::Nothing, "{reason}");
    }
    assert_eq!(of(RateLimit, "rate_limit", MINUTE), Verdict::Nothing);
    assert_eq!(of(Validation, "context_length", MINUTE), Verdict::Works);
    assert_eq!(of(Timeout, "first_token", MINUTE), Verdict::Failed(None));
    assert_eq!(of(Timeout, "total", MINUTE), Verdict::Failed(None));
    let short = Duration::from_millis(1);
    assert_eq!(of(Timeout, "total", short), Verdict::Nothing, "a member's own haste");
}

#[tokio::test]
async fn no_more_calls_are_under_way_than_may_be_and_the_first_come_are_first() {
    let limits = Limits {
        concurrency: NonZeroU32::new(2),
        ..Limits::default()
    };
    let (guarded, scripted) = guarded(limits, []);
    let ended = Mutex::new(Vec::new());
    let calls = (0..6).map(|number| {
        let (guarded, ended) = (&guarded, &ended);
        async move {
            guarded.answer(&call(MINUTE), &|_| {}).await.unwrap();
            lock(ended).push(number);
        }
    });
    futures::future::join_all(calls).await;
    assert_eq!(scripted.most_at_once.load(Ordering::SeqCst), 2);
    assert_eq!(*lock(&ended), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn who_would_wait_longer_than_he_can_is_told_how_long_and_no_call_is_made() {
    let limits = Limits {
        concurrency: NonZeroU32::new(1),
        ..Limits::default()
    };
    let (busy, scripted) = guarded(limits, []);
    let (long, short) = (call(MINUTE), call(Duration::from_millis(5)));
    let (first, second) = tokio::join!(busy.answer(&long, &|_| {}), busy.answer(&short, &|_| {}));
    first.unwrap();
    let refused = second.unwrap_err();
    assert_eq!(
        (refused.class, refused.reason),
        (FailureClass::RateLimit, "connection_busy")
    );
    assert!(refused.retryable && refused.retry_after.is_some());
    assert_eq!(scripted.calls.load(Ordering::SeqCst), 1);

    let limits = Limits {
        requests_per_minute: NonZeroU32::new(2),
        ..Limits::default()
    };
    let (paced, scripted) = guarded(limits, []);
    for _ in 0..2 {
        paced.answer(&call(MINUTE), &|_| {}).await.unwrap();
    }
    let refused = paced.answer(&call(Duration::from_secs(5)), &|_| {}).await.unwrap_err();
    assert_eq!(
        (refused.class, refused.reason),
        (FailureClass::RateLimit, "connection_rate")
    );
    let wait = refused.retry_after.unwrap();
    assert!((29..=30).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(scripted.calls.load(Ordering::SeqCst), 2, "no call is made");
    // Who can wait does.
    let rate = paced.standing.rate.as_ref().unwrap();
    *lock(rate) = Rate::new(NonZeroU32::new(600), None, Instant::now());
    for _ in 0..600 {
        lock(rate).take(0, MINUTE, Instant::now()).unwrap();
    }
    let begun = Instant::now();
    paced.answer(&call(MINUTE), &|_| {}).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(90), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn tokens_are_paced_by_an_estimate_that_usage_corrects() {
    let limits = Limits {
        tokens_per_minute: NonZeroU32::new(1_000),
        ..Limits::default()
    };
    let short = CallError::new(FailureClass::Validation, "refusal", "no").with_usage(Usage {
        input_tokens: 5,
        output_tokens: 5,
    });
    let (guarded, _) = guarded(limits, [short]);
    let begun = Instant::now();
    // Each is expected to take 512 and takes 20 or 10: without the correction the second would have to wait.
    for _ in 0..10 {
        let _ = guarded.answer(&call(MINUTE), &|_| {}).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
