//! Connections as calls of ActivePieces need them.

use secrecy::SecretString;
use service_kit::{
    auth::Caller,
    error::{Error, Result},
    ids::{CompanyId, ConnectionId},
};

use super::{Account, Auth};
use crate::{
    App,
    connections::{self, Kind, Open},
};

impl Account {
    /// A connection of this kind; none of another one's, or where it has no secret.
    pub(crate) fn of(open: &Open) -> Option<Self> {
        if open.kind != Kind::ActivePieces {
            return None;
        }
        let secret: SecretString = open.secret.as_ref()?.value().clone();
        let auth = match &open.options.email {
            Some(email) => Auth::SignIn {
                email: email.clone(),
                password: secret,
            },
            None => Auth::ApiKey(secret),
        };
        Some(Self {
            connection: open.id,
            revision: open.revision,
            base_url: open.base_url.clone(),
            project: open.options.project_id.clone(),
            auth,
        })
    }
}

/// A connection that the caller may use, and whose it is.
pub(super) async fn of_caller(app: &App, caller: &Caller, id: ConnectionId) -> Result<(Account, CompanyId)> {
    let open = connections::for_caller(app, caller, id).await?;
    let account = Account::of(&open).ok_or_else(|| Error::FailedPrecondition {
        reason: "CONNECTION_UNSUITED",
        message: "the connection is none to ActivePieces, or has no key or password".into(),
    })?;
    Ok((account, open.company))
}
