//! The account as the contract writes it.

use service_kit::{
    auth::Caller,
    error::{Error, Result, Violations},
    update,
};
use studios_proto::core as proto;

use super::{Enrolment, OpenSession};
use crate::{auth::Password, contact::Email};

/// The password until now, and the one from now on.
pub(super) fn passwords(request: &proto::ChangePasswordRequest) -> Result<(Password, Password)> {
    let mut violations = Violations::new();
    let current = Password::given(&mut violations, "current_password", &request.current_password);
    let new = Password::chosen(&mut violations, "new_password", &request.new_password);
    violations.finish()?;
    Ok((
        current.expect("a missing one is a violation"),
        new.expect("a missing one is a violation"),
    ))
}

/// The password, and the address from its confirmation on.
pub(super) fn new_email(request: &proto::ChangeEmailRequest) -> Result<(Password, Email)> {
    let mut violations = Violations::new();
    let password = Password::given(&mut violations, "password", &request.password);
    let email = Email::read(&mut violations, "new_email", &request.new_email);
    violations.finish()?;
    Ok((
        password.expect("a missing one is a violation"),
        email.expect("a missing one is a violation"),
    ))
}

pub(super) fn password(text: &str) -> Result<Password> {
    let mut violations = Violations::new();
    let password = Password::given(&mut violations, "password", text);
    violations.finish()?;
    Ok(password.expect("a missing one is a violation"))
}

/// A code; only its absence is a mistake of form, another text is a wrong code.
pub(super) fn code(text: &str) -> Result<&str> {
    if text.trim().is_empty() {
        return Err(Error::invalid("code", "must not be empty"));
    }
    Ok(text)
}

/// A number of sessions.
pub(super) fn number(sessions: usize) -> i32 {
    i32::try_from(sessions).unwrap_or(i32::MAX)
}

/// A session as the caller sees it.
pub(super) fn session(session: OpenSession, caller: &Caller) -> proto::AccountSession {
    proto::AccountSession {
        id: session.id.to_string(),
        current: caller.session == Some(session.id),
        address: session.address.unwrap_or_default(),
        user_agent: session.user_agent.unwrap_or_default(),
        create_time: Some(update::timestamp(session.created_at)),
        last_use_time: Some(update::timestamp(session.last_used_at)),
        expire_time: Some(update::timestamp(session.expires_at)),
    }
}

impl From<Enrolment> for proto::EnrolTotpResponse {
    fn from(enrolment: Enrolment) -> Self {
        Self {
            secret: enrolment.secret,
            uri: enrolment.uri,
        }
    }
}
