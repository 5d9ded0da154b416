//! The connections that a stage's calls go through.

use std::sync::Arc;

use http::HeaderName;
use secrecy::{ExposeSecret, SecretString};
use service_kit::ids::{CompanyId, ConnectionId};

use crate::{
    connections::{Kind, Open, confined, header},
    engine::{failure::FailureClass, journal::AttemptFailure, request::HttpRequest},
    providers::{CallError, Provider},
    worker::{Note, Shared, scene::Ground, store::Model},
};

/// What carries a connection's secret in a request.
#[derive(Debug, Clone)]
pub(super) struct SecretHeader {
    pub name: HeaderName,
    pub value: SecretString,
}

/// A connection in use, to say how it fares.
#[derive(Debug, Clone)]
pub(super) struct InUse {
    pub open: Arc<Open>,
    shared: Arc<Shared>,
}

/// A connection that the company does not have.
pub(super) fn gone() -> AttemptFailure {
    AttemptFailure::lasting(FailureClass::ProviderError, "connection_gone", "its connection is gone")
}

impl InUse {
    /// Notes how a call went. That an answer is not what the stage wants is not the connection's failure.
    pub(super) fn fared(&self, failure: Option<&CallError>) {
        use FailureClass::{ProviderError, RateLimit, Timeout};
        let failure = failure.filter(|it| matches!(it.class, ProviderError | RateLimit | Timeout));
        self.shared.connections.note(Note {
            company: self.open.company,
            connection: self.open.id,
            failure: failure.map(|it| (it.class.as_str().to_owned(), it.reason.to_owned(), it.message.clone())),
        });
    }
}

impl Shared {
    /// A connection of a company that may be used. Waits for nothing: a database that is away is a failure that passes.
    pub(super) async fn connection(
        self: &Arc<Self>,
        company: CompanyId,
        id: ConnectionId,
    ) -> Result<InUse, AttemptFailure> {
        let lasting =
            |reason: &str, message: String| AttemptFailure::lasting(FailureClass::ProviderError, reason, message);
        let found = self.connections.find(company, id).await;
        let found = found.map_err(|error| {
            tracing::warn!(error = ?error, connection = %id, "a connection could not be opened");
            AttemptFailure::passing(
                FailureClass::ProviderError,
                "connection_unreadable",
                "the connection could not be opened".to_owned(),
            )
        })?;
        let open = found.ok_or_else(gone)?;
        if !open.enabled {
            let message = format!("its connection \"{}\" is disabled", open.name);
            return Err(lasting("connection_disabled", message));
        }
        let shared = self.clone();
        Ok(InUse { open, shared })
    }

    /// What answers a company's model, and the connection that it is behind, if it is.
    pub(super) async fn served(
        self: &Arc<Self>,
        company: CompanyId,
        model: &Model,
    ) -> Result<(Arc<dyn Provider>, Option<InUse>), AttemptFailure> {
        if let Some(id) = model.connection {
            let in_use = self.connection(company, id).await?;
            return Ok((self.provider_at(&in_use.open)?, Some(in_use)));
        }
        let provider = self.providers.get(&model.provider).ok_or_else(|| {
            let message = format!("the provider \"{}\" is not configured", model.provider);
            AttemptFailure::lasting(FailureClass::ProviderError, "config", message)
        })?;
        Ok((provider, None))
    }

    /// What answers calls of models behind a connection.
    pub(super) fn provider_at(&self, open: &Open) -> Result<Arc<dyn Provider>, AttemptFailure> {
        let lasting = |message: String| AttemptFailure::lasting(FailureClass::ProviderError, "config", message);
        let endpoint = open
            .endpoint()
            .ok_or_else(|| lasting(format!("its connection \"{}\" answers no calls of models", open.name)))?;
        let endpoint = endpoint.map_err(|error| lasting(format!("the connection's address {error}")))?;
        Ok(self.providers.connected(open.id, open.revision, &endpoint))
    }
}

impl Ground {
    /// A connection of the run's company that may be used.
    pub(super) async fn connection(&self, id: ConnectionId) -> Result<InUse, AttemptFailure> {
        self.shared.connection(self.facts.company, id).await
    }

    /// What answers calls of models behind a connection.
    pub(super) fn provider_at(&self, open: &Open) -> Result<Arc<dyn Provider>, AttemptFailure> {
        self.shared.provider_at(open)
    }

    /// The secret that goes with a request, if it stays on the connection's server.
    pub(super) fn secret_of(open: &Open, request: &HttpRequest) -> Result<SecretHeader, AttemptFailure> {
        let refused =
            |reason: &str, message: String| AttemptFailure::lasting(FailureClass::Validation, reason, message);
        if open.kind != Kind::Http {
            let message = format!("its connection \"{}\" is not one for http stages", open.name);
            return Err(refused("config", message));
        }
        confined(&open.base_url, &request.url).map_err(|error| {
            refused(
                "url",
                format!("the url that was rendered does not go with its connection: {error}"),
            )
        })?;
        let secret = open.secret.as_ref().map(|it| it.value().expose_secret().to_owned());
        let header = secret.and_then(|it| header(&open.options, &it));
        let (name, value) = header.ok_or_else(|| refused("config", "its connection has no secret".to_owned()))?;
        Ok(SecretHeader {
            name,
            value: value.into(),
        })
    }
}
