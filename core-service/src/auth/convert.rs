//! Sign-up and sessions as the contract writes them.

use service_kit::{
    error::{Error, Result, Violations},
    update,
};
use studios_proto::core as proto;

use super::{ACCESS_TOKEN_LIFETIME, Credentials, Password, RefreshToken, Registered, Registration, Session};
use crate::{contact::Email, mails::MailToken, users};

impl TryFrom<proto::RegisterRequest> for Registration {
    type Error = Error;

    fn try_from(request: proto::RegisterRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let email = Email::read(&mut violations, "email", &request.email);
        let password = Password::chosen(&mut violations, "password", &request.password);
        let full_name = violations.text("full_name", &request.full_name, users::FULL_NAME);
        violations.finish()?;
        Ok(Self {
            email: email.expect("a missing one is a violation"),
            password: password.expect("a missing one is a violation"),
            full_name: full_name.expect("a missing one is a violation"),
        })
    }
}

pub(super) fn credentials(request: &proto::SignInRequest) -> Result<Credentials> {
    let mut violations = Violations::new();
    let email = Email::read(&mut violations, "email", &request.email);
    let password = Password::given(&mut violations, "password", &request.password);
    violations.finish()?;
    Ok(Credentials {
        email: email.expect("a missing one is a violation"),
        password: password.expect("a missing one is a violation"),
        code: request.code.clone().into(),
    })
}

pub(super) fn email(text: &str) -> Result<Email> {
    let mut violations = Violations::new();
    let email = Email::read(&mut violations, "email", text);
    violations.finish()?;
    Ok(email.expect("a missing one is a violation"))
}

/// The token of a mail; only its absence is a mistake of form, another text is a wrong token.
pub(super) fn mail_token(text: &str) -> Result<MailToken> {
    if text.is_empty() {
        return Err(Error::invalid("token", "must not be empty"));
    }
    text.parse()
}

/// The token of a mail, and the password from now on.
pub(super) fn reset(request: &proto::ResetPasswordRequest) -> Result<(MailToken, Password)> {
    let mut violations = Violations::new();
    let password = Password::chosen(&mut violations, "new_password", &request.new_password);
    if request.token.is_empty() {
        violations.add("token", "must not be empty");
    }
    violations.finish()?;
    Ok((request.token.parse()?, password.expect("a missing one is a violation")))
}

/// A refresh token; only its absence is a mistake of form, another text is a wrong token.
pub(super) fn refresh_token(text: &str) -> Result<RefreshToken> {
    if text.is_empty() {
        return Err(Error::invalid("refresh_token", "must not be empty"));
    }
    text.parse()
}

impl From<Registered> for proto::Session {
    fn from(registered: Registered) -> Self {
        match registered {
            Registered::SignedIn(session) => session.into(),
            Registered::Unproved(user) => Self {
                user: Some(user.into()),
                ..Self::default()
            },
        }
    }
}

impl From<Session> for proto::Session {
    fn from(session: Session) -> Self {
        Self {
            access_token: session.access_token,
            expires_in: Some(update::duration(ACCESS_TOKEN_LIFETIME)),
            refresh_token: session.refresh_token.expose(),
            user: Some(session.user.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_field_of_a_registration_is_named() {
        let request = proto::RegisterRequest {
            email: "ada".into(),
            password: "short".into(),
            full_name: " A ".into(),
        };
        let Err(Error::Invalid(violations)) = Registration::try_from(request) else {
            panic!("refused")
        };
        let fields: Vec<_> = violations.iter().map(|it| it.field.as_str()).collect();
        assert_eq!(fields, ["email", "password", "full_name"]);
    }

    #[test]
    fn an_absent_refresh_token_is_invalid_and_a_wrong_one_unauthenticated() {
        assert!(matches!(refresh_token(""), Err(Error::Invalid(_))));
        assert!(matches!(
            refresh_token("x"),
            Err(Error::Unauthenticated("REFRESH_TOKEN_INVALID"))
        ));
    }
}
