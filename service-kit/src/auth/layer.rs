//! The step that finds out who calls, before anything else is looked at.

use std::sync::Arc;

use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tonic::{Status, body::Body};
use tracing::Span;

use super::{Caller, Door, Operator, OperatorTokens, Verified, Verifier};
use crate::{
    error::{Error, Result},
    server::step::{Below, Step},
};

/// Services that come with every server and are open to everybody.
const OPEN: [&str; 2] = ["/grpc.health.v1.Health/", "/grpc.reflection."];

/// Whether a method, by its path, is one of these.
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.iter().any(|it| path.starts_with(it))
}

/// Puts the [`Caller`] into the request's extensions, or answers UNAUTHENTICATED.
#[derive(Clone)]
pub struct AuthLayer {
    verifier: Arc<Verifier>,
    operators: Option<OperatorTokens>,
    door: fn(&str) -> Door,
}

impl AuthLayer {
    /// `door` is asked with a method's path, like `/studios.core.v1.AuthService/SignIn`.
    pub fn new(verifier: Arc<Verifier>, door: fn(&str) -> Door) -> Self {
        Self {
            verifier,
            operators: None,
            door,
        }
    }

    /// The same, and operators too.
    #[must_use]
    pub fn with_operators(self, operators: OperatorTokens) -> Self {
        Self {
            operators: Some(operators),
            ..self
        }
    }

    fn operator(&self, headers: &HeaderMap) -> Result<Operator> {
        let operators = self.operators.as_ref();
        let operators = operators.ok_or(Error::Unauthenticated("OPERATOR_TOKEN_REQUIRED"))?;
        operators.verify(bearer(headers)?, headers)
    }

    fn door(&self, path: &str) -> Door {
        if is_open(path) { Door::Public } else { (self.door)(path) }
    }

    async fn caller(&self, door: Door, headers: &HeaderMap) -> Result<Option<Caller>> {
        if door == Door::Public {
            return Ok(None);
        }
        let verified = self.verifier.verify(bearer(headers)?).await?;
        admit(door, verified)
    }
}

impl Step for AuthLayer {
    async fn run(self, mut request: Request<Body>, below: impl Below) -> Response<Body> {
        let door = self.door(request.uri().path());
        if door == Door::Operator {
            return match self.operator(request.headers()) {
                Ok(operator) => {
                    request.extensions_mut().insert(operator);
                    below.run(request).await
                }
                Err(error) => Status::from(error).into_http(),
            };
        }
        match self.caller(door, request.headers()).await {
            Ok(caller) => {
                if let Some(caller) = caller {
                    if let Some(key) = &caller.key
                        && let Err(error) = key.scopes.require(request.uri().path())
                    {
                        return Status::from(error).into_http();
                    }
                    Span::current().record("user", tracing::field::display(caller.user));
                    request.extensions_mut().insert(caller);
                }
                below.run(request).await
            }
            Err(error) => Status::from(error).into_http(),
        }
    }
}

/// Who stands behind a door that this token opens; nobody, where a service calls for itself.
fn admit(door: Door, verified: Verified) -> Result<Option<Caller>> {
    match (door, verified) {
        (Door::Public, _) | (Door::Service, Verified::Service { user: None, .. }) => Ok(None),
        (Door::Member, Verified::User(caller)) => Ok(Some(caller)),
        (Door::Operator, _) => Err(Error::Unauthenticated("OPERATOR_TOKEN_REQUIRED")),
        (Door::Service, Verified::User(_)) => Err(Error::Unauthenticated("SERVICE_TOKEN_REQUIRED")),
        (_, Verified::Service { name, user: Some(user) }) => Ok(Some(Caller {
            user,
            session: None,
            service: Some(name),
            key: None,
        })),
        (Door::Member, Verified::Service { user: None, .. }) => Err(Error::Unauthenticated("USER_REQUIRED")),
    }
}

/// The token of `authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Result<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Error::Unauthenticated("TOKEN_MISSING"))?;
    let token = value.to_str().ok().and_then(|it| {
        let (scheme, token) = it.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match (token, values.next()) {
        (Some(token), None) => Ok(token),
        _ => Err(Error::Unauthenticated("TOKEN_INVALID")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|it| (AUTHORIZATION, it.parse().unwrap())).collect()
    }

    #[test]
    fn one_bearer_token_is_read_and_nothing_else() {
        assert_eq!(bearer(&headers(&["Bearer a.b.c"])).unwrap(), "a.b.c");
        assert_eq!(bearer(&headers(&["bearer  a.b.c "])).unwrap(), "a.b.c");
        assert!(matches!(
            bearer(&HeaderMap::new()),
            Err(Error::Unauthenticated("TOKEN_MISSING"))
        ));
        for wrong in [&["a.b.c"][..], &["Basic a.b.c"], &["Bearer"], &["Bearer a", "Bearer b"]] {
            assert!(
                matches!(bearer(&headers(wrong)), Err(Error::Unauthenticated("TOKEN_INVALID"))),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn each_door_opens_to_its_kind_of_token() {
        let user = UserId::generate();
        let own = Caller {
            user,
            session: None,
            service: None,
            key: None,
        };
        let service = |user| Verified::Service {
            name: "execution-service".into(),
            user,
        };
        let acting = Caller {
            user,
            session: None,
            service: Some("execution-service".into()),
            key: None,
        };
        let opened = |door, verified| admit(door, verified).map_err(|error| error.to_string());
        let refused = |reason: &str| Err(format!("unauthenticated: {reason}"));

        assert_eq!(opened(Door::Member, Verified::User(own.clone())), Ok(Some(own.clone())));
        assert_eq!(opened(Door::Member, service(Some(user))), Ok(Some(acting.clone())));
        assert_eq!(opened(Door::Member, service(None)), refused("USER_REQUIRED"));
        assert_eq!(
            opened(Door::Service, Verified::User(own)),
            refused("SERVICE_TOKEN_REQUIRED")
        );
        assert_eq!(opened(Door::Service, service(Some(user))), Ok(Some(acting)));
        assert_eq!(opened(Door::Service, service(None)), Ok(None));
    }
}
