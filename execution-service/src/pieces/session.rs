//! The session of a connection that signs in: one token for all who call over it.
//!
//! Signing in is limited to 50 a minute for each address, so whoever needs a token waits for the one that is being asked for;
//! after a refusal nobody asks again for a while.

use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::sync::Mutex;

use super::failure::{Failure, Kind};

/// How long nobody signs in again after a refusal that does not say how long.
const PAUSE: Duration = Duration::from_secs(15);
/// The longest that a refusal may ask to wait.
const MAX_PAUSE: Duration = Duration::from_mins(5);
/// How soon a token that was just given is not asked for anew, whatever was answered to it.
const FRESH: Duration = Duration::from_secs(5);

/// A token and which one it is.
#[derive(Clone)]
pub(super) struct Token {
    pub text: SecretString,
    pub generation: u64,
    /// The project of who signed in.
    pub project: Option<String>,
}

/// What signing in gives.
pub(super) struct SignedIn {
    pub token: SecretString,
    pub project: Option<String>,
}

/// A connection's session.
#[derive(Default)]
pub(super) struct Session(Mutex<State>);

#[derive(Default)]
struct State {
    token: Option<(Token, Instant)>,
    /// Why the last one was refused, and until when nobody asks again.
    refused: Option<(Failure, Instant)>,
    generation: u64,
}

impl Session {
    /// The token, newer than the one that was not taken any more. Asks for one where there is none.
    pub(super) async fn token<F>(
        &self,
        stale: Option<u64>,
        now: impl Fn() -> Instant,
        sign_in: impl FnOnce() -> F,
    ) -> Result<Token, Failure>
    where
        F: Future<Output = Result<SignedIn, Failure>>,
    {
        let mut state = self.0.lock().await;
        if let Some((token, since)) = &state.token {
            let is_stale = stale == Some(token.generation);
            if !is_stale {
                return Ok(token.clone());
            }
            if now().saturating_duration_since(*since) < FRESH {
                let message = "ActivePieces does not accept the session that it has just given";
                return Err(Failure::new(Kind::Unauthorised, message));
            }
        }
        if let Some((failure, until)) = &state.refused
            && *until > now()
        {
            return Err(failure.clone());
        }
        match sign_in().await {
            Ok(SignedIn { token, project }) => {
                state.generation += 1;
                let token = Token {
                    text: token,
                    generation: state.generation,
                    project,
                };
                state.token = Some((token.clone(), now()));
                state.refused = None;
                Ok(token)
            }
            Err(failure) => {
                let pause = failure.retry_after.unwrap_or(PAUSE).min(MAX_PAUSE);
                // What did not come to an answer says nothing of the next try.
                if !failure.kind.is_instances() {
                    state.refused = Some((failure.clone(), now() + pause));
                }
                Err(failure)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use secrecy::ExposeSecret;
    use service_kit::clock::{Clock, FakeClock};
    use time::OffsetDateTime;

    use super::*;

    async fn given(asked: &AtomicU32) -> Result<SignedIn, Failure> {
        let n = asked.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::task::yield_now().await;
        Ok(SignedIn {
            token: SecretString::from(format!("token {n}")),
            project: None,
        })
    }

    #[tokio::test]
    async fn many_who_need_a_token_sign_in_once_and_once_more_when_it_is_not_taken_any_more() {
        let clock = FakeClock::new(OffsetDateTime::UNIX_EPOCH);
        let (session, asked) = (Session::default(), AtomicU32::new(0));
        let token = |stale| session.token(stale, || clock.monotonic(), || given(&asked));
        let all = futures::future::join_all((0..20).map(|_| token(None))).await;
        assert!(
            all.iter()
                .all(|it| it.as_ref().unwrap().text.expose_secret() == "token 1")
        );
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        clock.advance(FRESH);
        let all = futures::future::join_all((0..20).map(|_| token(Some(1)))).await;
        assert!(all.iter().all(|it| it.as_ref().unwrap().generation == 2));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert_eq!(
            token(Some(2)).await.map(|it| it.generation).unwrap_err().kind,
            Kind::Unauthorised,
            "given just now"
        );
    }

    #[tokio::test]
    async fn after_a_refusal_nobody_signs_in_again_for_as_long_as_was_asked() {
        let clock = FakeClock::new(OffsetDateTime::UNIX_EPOCH);
        let (session, asked) = (Session::default(), AtomicU32::new(0));
        let refuse = || async {
            asked.fetch_add(1, Ordering::Relaxed);
            let limited = Failure::new(Kind::RateLimited, "slow down");
            Err(Failure {
                retry_after: Some(Duration::from_secs(51)),
                ..limited
            })
        };
        for _ in 0..3 {
            assert!(session.token(None, || clock.monotonic(), refuse).await.is_err());
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        clock.advance(Duration::from_secs(52));
        assert!(
            session
                .token(None, || clock.monotonic(), || given(&asked))
                .await
                .is_ok()
        );
    }
}
