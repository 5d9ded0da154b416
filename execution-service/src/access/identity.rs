//! Users of other issuers: core-service knows them, and makes their profiles.

use futures::future::BoxFuture;
use service_kit::{
    auth::{Identities, Identity},
    client,
    error::Result,
    ids::UserId,
};
use studios_proto::core::ResolveIdentityRequest;

use super::{CHECK_TIMEOUT, CoreClient, convert, in_time};

impl Identities for CoreClient {
    fn resolve<'i>(&'i self, identity: &'i Identity) -> BoxFuture<'i, Result<UserId>> {
        let request = ResolveIdentityRequest {
            issuer: identity.issuer.clone(),
            subject: identity.subject.clone(),
            email: identity.email.clone().unwrap_or_default(),
            email_verified: identity.email_verified,
            full_name: identity.full_name.clone().unwrap_or_default(),
        };
        let call = client::call(Some(&self.identity), None, request, CHECK_TIMEOUT);
        let mut access = self.access.clone();
        Box::pin(async move {
            let answer = in_time(access.resolve_identity(call)).await?;
            convert::id(&answer.user_id)
        })
    }
}
