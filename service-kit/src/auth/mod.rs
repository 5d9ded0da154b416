//! Who calls: tokens are verified here, before anything else is looked at, and become a [`Caller`].
//!
//! The layer asks a service which [`Door`] each method has. Behind a member's door there is always a caller; behind a
//! service's door there is always a service. Why somebody was refused is a stable reason, and never more than that.

pub mod api_keys;
mod cache;
mod external;
mod jwks;
mod layer;
pub mod operator;
mod revocations;
mod verifier;

use std::sync::Arc;

use api_keys::ApiKey;
pub use external::{External, ExternalConfig, Identities, Identity, IssuerConfig, IssuerKeys};
pub use jwks::{ClientJwks, JwksSource, StaticJwks};
pub use layer::AuthLayer;
pub(crate) use layer::is_open;
pub use operator::{Operator, OperatorTokens};
pub use revocations::{REMEMBERED, Revocations};
pub use verifier::{Peer, UserTokens, Verified, Verifier};

use crate::{
    error::{Error, Result},
    ids::{SessionId, UserId},
};

/// Who a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user who calls, or for whom a service does.
    pub user: UserId,
    /// His session, where his own token names it.
    pub session: Option<SessionId>,
    /// The service that acts for him.
    pub service: Option<Arc<str>>,
    /// The API key that he is, where it is no person who calls.
    pub key: Option<Arc<ApiKey>>,
}

impl Caller {
    /// The caller that the layer found.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self> {
        request
            .extensions()
            .get()
            .cloned()
            .ok_or(Error::Unauthenticated("TOKEN_MISSING"))
    }

    /// Refuses a service that acts for a user, where what is asked for is no user's business.
    pub fn nobody<T>(request: &tonic::Request<T>) -> Result<()> {
        match Self::of(request) {
            Ok(_) => Err(Error::Unauthenticated("SERVICE_ALONE_REQUIRED")),
            Err(_) => Ok(()),
        }
    }
}

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Everybody; a token is not looked at.
    Public,
    /// A user by his own token, or a service that acts for one.
    Member,
    /// A service, acting for a user or not.
    Service,
    /// An operator, at the service's own port.
    Operator,
}
