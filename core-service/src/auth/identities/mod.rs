//! Who the subjects of other issuers are. The first token of one makes his profile; however many come at once, one is made.
//!
//! (issuer, subject) names a user, an e-mail address never does: nobody is taken for another because an issuer says that they
//! share one. Of the one issuer that is configured as Supabase the subjects are users under their own ids.

use std::{collections::HashMap, sync::Arc};

use futures::future::BoxFuture;
use service_kit::{
    auth::{ExternalConfig, Identities, Identity},
    db::{self, Claims, TenantTx},
    error::{Error, Result},
    ids::UserId,
};
use sqlx::PgPool;

use crate::{App, contact::Email, users};

mod store;

const INVALID: Error = Error::Unauthenticated("TOKEN_INVALID");

/// The issuers that are configured, and the users of theirs that are known.
pub struct Directory {
    pool: PgPool,
    /// Whether each is the Supabase whose users are ours.
    issuers: HashMap<String, bool>,
}

impl Directory {
    /// Of these issuers.
    pub fn new(pool: PgPool, config: &ExternalConfig) -> Arc<Self> {
        let issuers = config.issuers().map(|it| (it.issuer.clone(), it.supabase));
        Arc::new(Self {
            pool,
            issuers: issuers.collect(),
        })
    }

    async fn user(&self, identity: &Identity) -> Result<UserId> {
        let is_supabase = *self.issuers.get(&identity.issuer).ok_or(INVALID)?;
        if let Some(user) = self.find(identity).await? {
            return Ok(user);
        }
        let user = if is_supabase {
            identity.subject.parse().map_err(|_| INVALID)?
        } else {
            UserId::generate()
        };
        let is_new = db::retry("identities.make", || self.make(user, identity)).await?;
        if is_new {
            tracing::info!(user = %user, issuer = identity.issuer, "profile made at the first token");
            return Ok(user);
        }
        // Another token was faster, or the id is somebody's who came another way.
        let found = self.find(identity).await?;
        found.ok_or(Error::Unauthenticated("IDENTITY_CONFLICT"))
    }

    async fn find(&self, identity: &Identity) -> Result<Option<UserId>> {
        let nobody = Claims::user(UserId::generate());
        let mut tx = TenantTx::begin(&self.pool, "identities.find", &nobody).await?;
        store::find(&mut tx, &identity.issuer, &identity.subject).await
    }

    /// Makes a user of an identity, unless either is there.
    async fn make(&self, user: UserId, identity: &Identity) -> Result<bool> {
        let email: Option<Email> = identity.email.as_deref().and_then(|it| it.parse().ok());
        let name = name(identity, email.as_ref());
        let mut is_verified = identity.email_verified && email.is_some();
        loop {
            let mut tx = TenantTx::begin(&self.pool, "identities.make", &Claims::user(user)).await?;
            match store::insert_user(&mut tx, user, email.as_ref(), is_verified, &name).await? {
                store::Inserted::User => {}
                store::Inserted::Nothing => return Ok(false),
                // Somebody else has proved it here: then it is only what the issuer says.
                store::Inserted::EmailTaken => {
                    is_verified = false;
                    continue;
                }
            }
            if !store::insert(&mut tx, &identity.issuer, &identity.subject, user).await? {
                return Ok(false);
            }
            tx.commit().await?;
            return Ok(true);
        }
    }
}

impl Identities for Directory {
    fn resolve<'i>(&'i self, identity: &'i Identity) -> BoxFuture<'i, Result<UserId>> {
        Box::pin(self.user(identity))
    }
}

/// The user behind an identity that another service has verified.
pub async fn resolve(app: &App, identity: &Identity) -> Result<UserId> {
    app.directory.user(identity).await
}

/// What to call a user: as the issuer does, or after his address.
fn name(identity: &Identity, email: Option<&Email>) -> String {
    let local = email.and_then(|it| it.as_str().split('@').next());
    let told = [identity.full_name.as_deref(), local];
    let fits = told.into_iter().flatten().map(|text| {
        let line: String = text.chars().filter(|it| !it.is_control()).collect();
        line.trim().chars().take(*users::FULL_NAME.end()).collect::<String>()
    });
    let mut fits = fits.filter(|it| users::FULL_NAME.contains(&it.trim().chars().count()));
    fits.next().map_or_else(|| "New user".into(), |it| it.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_called_as_his_issuer_does_or_after_his_address() {
        let called = |full_name: Option<&str>, email: Option<&str>| {
            let identity = Identity {
                issuer: "i".into(),
                subject: "s".into(),
                email: None,
                email_verified: false,
                full_name: full_name.map(Into::into),
            };
            name(&identity, email.map(|it| it.parse().unwrap()).as_ref())
        };
        assert_eq!(called(Some(" Ada\nLovelace "), None), "AdaLovelace");
        assert_eq!(called(Some("A"), Some("grace@example.com")), "grace");
        assert_eq!(called(None, Some("g@example.com")), "New user");
        assert_eq!(called(Some(&"x".repeat(300)), None).len(), 100);
    }
}
