//! What can go wrong, in the terms that callers are told it, and the collector of everything wrong with an input.
//!
//! `reason` is a stable word in capitals that programs may depend on; `message` is for people and may change. What is
//! `Internal` never reaches a caller. How each becomes a gRPC status is in [`crate::status`], and there only.

use std::{
    error::Error as StdError,
    fmt::{self, Display},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use serde_json::{Map, Value};

use crate::{ids::ParseIdError, update};

/// The result of a use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input is wrong, in these fields.
    #[error("invalid input: {}", Listed(.0))]
    Invalid(Vec<Violation>),
    /// Who calls could not be established; the reason is stable.
    #[error("unauthenticated: {0}")]
    Unauthenticated(&'static str),
    /// It does not exist, or the caller may not see it: the two are never told apart.
    #[error("{resource} {id} was not found")]
    NotFound {
        /// What kind of thing, like `studio`.
        resource: &'static str,
        /// The id that was asked for.
        id: String,
    },
    /// The caller sees it but may not do this.
    #[error("{message}")]
    PermissionDenied {
        /// Stable.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// A thing with this name or key is there already.
    #[error("{message}")]
    AlreadyExists {
        /// Stable.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// Something changed meanwhile; to be read again and tried again.
    #[error("{message}")]
    Aborted {
        /// Stable.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// The thing is not in a state in which this can be done.
    #[error("{message}")]
    FailedPrecondition {
        /// Stable.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// A limit or quota is used up.
    #[error("{message}")]
    ResourceExhausted {
        /// Stable.
        reason: &'static str,
        /// For people.
        message: String,
        /// When it is worth trying again, where that is known.
        retry_after: Option<Duration>,
    },
    /// Something that is needed is not there right now.
    #[error("{message}")]
    Unavailable {
        /// Stable.
        reason: &'static str,
        /// For people.
        message: String,
        /// When it is worth trying again, where that is known.
        retry_after: Option<Duration>,
    },
    /// The time given for the request is over.
    #[error("the deadline was exceeded")]
    DeadlineExceeded,
    /// The caller gave up.
    #[error("the request was cancelled")]
    Cancelled,
    /// This cannot be done yet; the text names what.
    #[error("{0} is not implemented")]
    Unimplemented(&'static str),
    /// A defect or a broken part of ours.
    #[error("internal error")]
    Internal(#[source] Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// The thing that was asked for is not there for this caller.
    pub fn not_found(resource: &'static str, id: impl Display) -> Self {
        Self::NotFound {
            resource,
            id: id.to_string(),
        }
    }

    /// One field is wrong.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// A defect or a broken part of ours.
    pub fn internal(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Internal(error.into())
    }

    /// The database's error that this one was made of, if it was.
    ///
    /// # Errors
    /// The error itself, if not.
    pub fn into_database(self) -> Result<sqlx::Error> {
        match self {
            Self::Internal(source) => source.downcast().map(|it| *it).map_err(Self::Internal),
            other => Err(other),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if !unreachable(&error) {
            return Self::internal(error);
        }
        tracing::warn!(error = %error, "database unavailable");
        database_unavailable()
    }
}

pub(crate) fn database_unavailable() -> Error {
    Error::Unavailable {
        reason: "DATABASE_UNAVAILABLE",
        message: "the database cannot be reached".into(),
        retry_after: Some(Duration::from_secs(1)),
    }
}

/// Whether the database could not be asked at all, or is going away.
pub(crate) fn unreachable(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed
    ) || lost(error)
}

/// Whether the connection is no longer there.
pub(crate) fn lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => true,
        // Connection exceptions, too many connections, shutting down or starting up.
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("08") || code == "53300" || code.starts_with("57P")),
        _ => false,
    }
}

/// The name of the constraint or unique index that a statement violated.
pub fn constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error()?.constraint()
}

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, like `company.name`.
    pub field: String,
    /// What it must be.
    pub description: String,
}

struct Listed<'a>(&'a [Violation]);

impl Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, violation) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", violation.field, violation.description)?;
        }
        Ok(())
    }
}

/// Collects everything that is wrong with an input, so that the caller hears of all of it at once.
///
/// Its readers answer `None` where they added a violation; after [`finish`](Self::finish) every one of them was `Some`.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Nothing wrong so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that a field is wrong, and what it must be.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(Violation {
            field: field.into(),
            description: description.into(),
        });
    }

    /// Reads an id.
    pub fn id<T: FromStr<Err = ParseIdError>>(&mut self, field: impl Into<String>, text: &str) -> Option<T> {
        text.parse()
            .map_err(|error: ParseIdError| self.add(field, error.to_string()))
            .ok()
    }

    /// Reads the id that is all a request says.
    ///
    /// # Errors
    /// `Invalid` on the field.
    pub fn only_id<T: FromStr<Err = ParseIdError>>(field: &str, text: &str) -> Result<T> {
        text.parse()
            .map_err(|error: ParseIdError| Error::invalid(field, error.to_string()))
    }

    /// Reads an id that may be left out; `None` stands for that too.
    pub fn optional_id<T: FromStr<Err = ParseIdError>>(&mut self, field: impl Into<String>, text: &str) -> Option<T> {
        if text.is_empty() { None } else { self.id(field, text) }
    }

    /// Reads a text that has so many characters (Unicode scalar values) without the blanks around it, which are taken off.
    pub fn text(&mut self, field: impl Into<String>, text: &str, length: RangeInclusive<usize>) -> Option<String> {
        let text = text.trim();
        if text.contains('\0') {
            self.add(field, "must not contain a NUL character");
        } else if !length.contains(&text.chars().count()) {
            let (least, most) = length.into_inner();
            self.add(
                field,
                match least {
                    0 => format!("must have at most {most} characters"),
                    _ => format!("must have {least} to {most} characters"),
                },
            );
        } else {
            return Some(text.to_owned());
        }
        None
    }

    /// Reads a JSON object that can be stored: no NUL characters and only finite numbers. Absent is the empty object.
    pub fn object(
        &mut self,
        field: impl Into<String>,
        given: Option<&prost_types::Struct>,
    ) -> Option<Map<String, Value>> {
        let Some(given) = given else {
            return Some(Map::new());
        };
        if let Some(description) = update::unstorable(given) {
            self.add(field, description);
            return None;
        }
        Some(update::object(given))
    }

    /// Takes over what another collector found.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The value of a result, or its violations noted here.
    ///
    /// # Errors
    /// Any error that is not about the input.
    pub fn include<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Invalid(violations)) => {
                self.0.extend(violations);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses the input if anything is wrong with it.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid(self.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StudioId;

    fn found(violations: Violations) -> Vec<Violation> {
        match violations.finish() {
            Err(Error::Invalid(found)) => found,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_wrong_is_collected_and_what_is_right_is_read() {
        let mut violations = Violations::new();
        let id = StudioId::generate();
        assert_eq!(violations.id("id", &id.to_string()), Some(id));
        assert_eq!(violations.optional_id::<StudioId>("parent", ""), None);
        assert_eq!(violations.text("name", " ok \n", 2..=5).as_deref(), Some("ok"));
        assert!(violations.is_empty());

        assert_eq!(violations.id::<StudioId>("id", ""), None);
        assert_eq!(violations.optional_id::<StudioId>("parent", "x"), None);
        assert_eq!(violations.text("name", "   ", 1..=5), None);
        let mut nested = Violations::new();
        nested.add("stages[0].name", "must be given");
        violations.merge(nested);
        let included = violations.include::<()>(Err(Error::invalid("page_size", "bad")));
        assert_eq!(included.unwrap(), None);
        let fields: Vec<_> = found(violations).into_iter().map(|it| it.field).collect();
        assert_eq!(fields, ["id", "parent", "name", "stages[0].name", "page_size"]);
    }

    #[test]
    fn a_text_is_measured_in_characters_without_the_blanks_around_it() {
        let mut violations = Violations::new();
        assert!(violations.text("t", "äöüß€", 5..=5).is_some());
        assert!(violations.text("t", "", 0..=5).is_some());
        assert!(violations.text("t", "  abcde  ", 1..=5).is_some());
        assert!(violations.text("short", " a ", 3..=5).is_none());
        assert!(violations.text("long", "abcdef", 0..=5).is_none());
        assert!(violations.text("nul", "a\0b", 0..=5).is_none());
        let told: Vec<_> = found(violations).into_iter().map(|it| it.description).collect();
        assert_eq!(
            told,
            [
                "must have 3 to 5 characters",
                "must have at most 5 characters",
                "must not contain a NUL character",
            ]
        );
    }

    #[test]
    fn an_absent_object_is_empty_and_one_that_cannot_be_stored_is_refused() {
        let mut violations = Violations::new();
        assert_eq!(violations.object("metadata", None), Some(Map::new()));
        let given = serde_json::json!({"a": ["x\0"]});
        let given = update::json_to_struct(given.as_object().unwrap());
        assert_eq!(violations.object("metadata", Some(&given)), None);
        assert_eq!(found(violations)[0].field, "metadata");
    }

    #[test]
    fn an_error_about_something_else_is_not_taken_for_bad_input() {
        let result = Violations::new().include::<()>(Err(Error::Cancelled));
        assert!(matches!(result, Err(Error::Cancelled)));
    }
}
