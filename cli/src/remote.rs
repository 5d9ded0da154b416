//! The public API over the gateway, as the user of one access token.

use std::time::Duration;

use anyhow::{Context, Result};
use secrecy::{ExposeSecret, SecretString};
use studios_proto::{
    core::{
        auth_service_client::AuthServiceClient, company_service_client::CompanyServiceClient,
        document_service_client::DocumentServiceClient, studio_service_client::StudioServiceClient,
    },
    execution::{execution_service_client::ExecutionServiceClient, workflow_service_client::WorkflowServiceClient},
};
use tonic::{Request, metadata::MetadataValue, transport::Channel};
use url::Url;

const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to a gateway.
#[derive(Debug, Clone)]
pub struct Remote {
    channel: Channel,
    token: Option<SecretString>,
}

impl Remote {
    /// Connects to a gateway at first use.
    pub fn new(gateway: &Url, token: Option<SecretString>) -> Result<Self> {
        let channel = service_kit::client::channel(gateway).context("the gateway's URL")?;
        Ok(Self { channel, token })
    }

    /// The same connection as the user of another token.
    #[must_use]
    pub fn signed_in(&self, token: String) -> Self {
        Self {
            channel: self.channel.clone(),
            token: Some(token.into()),
        }
    }

    /// A unary request: with the token, the caller's trace and a deadline.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.stream_request(message);
        request.set_timeout(CALL_TIMEOUT);
        request
    }

    /// A request for a stream, which lasts as long as it lasts.
    pub fn stream_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        service_kit::telemetry::inject(request.metadata_mut());
        if let Some(token) = &self.token
            && let Ok(mut value) = MetadataValue::try_from(format!("Bearer {}", token.expose_secret()))
        {
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    /// Sign-up and sessions.
    pub fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }

    /// Companies.
    pub fn companies(&self) -> CompanyServiceClient<Channel> {
        CompanyServiceClient::new(self.channel.clone())
    }

    /// Studios.
    pub fn studios(&self) -> StudioServiceClient<Channel> {
        StudioServiceClient::new(self.channel.clone())
    }

    /// Documents.
    pub fn documents(&self) -> DocumentServiceClient<Channel> {
        DocumentServiceClient::new(self.channel.clone())
    }

    /// Workflows.
    pub fn workflows(&self) -> WorkflowServiceClient<Channel> {
        WorkflowServiceClient::new(self.channel.clone())
    }

    /// Executions.
    pub fn executions(&self) -> ExecutionServiceClient<Channel> {
        ExecutionServiceClient::new(self.channel.clone())
    }
}
