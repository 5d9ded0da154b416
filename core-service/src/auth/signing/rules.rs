//! When keys sign. Terms follow each other without a gap, and a term is published a day before it begins: far longer than
//! anybody caches the key set. Only the first key, and one made after a standstill in which all others ran out, signs at
//! once; verifiers that do not know it yet ask for the key set anew.

use std::time::Duration;

use time::OffsetDateTime;

/// How long a key signs.
pub(super) const TERM: Duration = Duration::from_hours(30 * 24);
/// How long before its term a key is made.
pub(super) const NOTICE: Duration = Duration::from_hours(24);
/// How long after its term a key stays published, for the tokens that it has signed.
pub(super) const AFTERWARDS: Duration = Duration::from_hours(1);

/// The time in which a key signs: from its first moment up to, and without, its last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Term {
    pub(super) from: OffsetDateTime,
    pub(super) until: OffsetDateTime,
}

impl Term {
    fn starting(from: OffsetDateTime) -> Self {
        Self {
            from,
            until: from + TERM,
        }
    }

    pub(super) fn contains(&self, now: OffsetDateTime) -> bool {
        self.from <= now && now < self.until
    }
}

/// The term of the key that must be made now, if one must.
pub(super) fn missing(terms: impl IntoIterator<Item = Term>, now: OffsetDateTime) -> Option<Term> {
    let last = terms.into_iter().map(|term| term.until).max();
    match last {
        Some(last) if last > now + NOTICE => None,
        Some(last) if last > now => Some(Term::starting(last)),
        _ => Some(Term::starting(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{ACCESS_TOKEN_LIFETIME, JWKS_MAX_AGE};

    const HOUR: Duration = Duration::from_hours(1);

    /// Each key's term with the time at which it was published.
    fn a_year_of(step: Duration) -> Vec<(Term, OffsetDateTime)> {
        let mut keys = Vec::new();
        let mut now = OffsetDateTime::UNIX_EPOCH;
        while now < OffsetDateTime::UNIX_EPOCH + 12 * TERM {
            if let Some(term) = missing(keys.iter().map(|(term, _)| *term), now) {
                keys.push((term, now));
            }
            assert_eq!(
                keys.iter().filter(|(term, _)| term.contains(now)).count(),
                1,
                "one key signs at {now}"
            );
            now += step;
        }
        keys
    }

    #[test]
    fn exactly_one_key_signs_at_any_time() {
        assert_eq!(a_year_of(HOUR).len(), 13);
        assert_eq!(a_year_of(Duration::from_mins(7)).len(), 13);
    }

    #[test]
    fn a_key_is_published_longer_before_it_signs_than_the_key_set_is_cached() {
        for (term, published) in a_year_of(HOUR).into_iter().skip(1) {
            assert!(term.from - published >= JWKS_MAX_AGE);
        }
    }

    #[test]
    fn a_key_is_published_until_its_tokens_have_run_out() {
        assert!(AFTERWARDS >= ACCESS_TOKEN_LIFETIME + JWKS_MAX_AGE);
    }

    #[test]
    fn after_a_standstill_a_key_signs_at_once() {
        let now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(missing([], now), Some(Term::starting(now)));
        let over = Term::starting(now - TERM);
        assert_eq!(missing([over], now), Some(Term::starting(now)));
        assert_eq!(
            missing([Term::starting(now - TERM + HOUR)], now),
            Some(Term::starting(now + HOUR))
        );
    }
}
