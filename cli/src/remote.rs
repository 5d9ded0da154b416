//! The public API over the gateway, as the user of one access token.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use secrecy::{ExposeSecret, SecretString};
use service_kit::{client::ClientTls, config::Reader};
use studios_proto::{
    core::{
        account_service_client::AccountServiceClient, api_key_service_client::ApiKeyServiceClient,
        audit_service_client::AuditServiceClient, auth_service_client::AuthServiceClient,
        company_service_client::CompanyServiceClient, document_service_client::DocumentServiceClient,
        file_service_client::FileServiceClient, invitation_service_client::InvitationServiceClient,
        notification_service_client::NotificationServiceClient, privacy_service_client::PrivacyServiceClient,
        studio_service_client::StudioServiceClient,
    },
    execution::{
        agent_service_client::AgentServiceClient, connection_service_client::ConnectionServiceClient,
        execution_audit_service_client::ExecutionAuditServiceClient, execution_service_client::ExecutionServiceClient,
        flow_service_client::FlowServiceClient, plan_service_client::PlanServiceClient,
        snapshot_service_client::SnapshotServiceClient, template_service_client::TemplateServiceClient,
        workflow_service_client::WorkflowServiceClient,
    },
};
use tonic::{Request, metadata::MetadataValue, transport::Channel};
use url::Url;

const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Which gateway.
#[derive(Debug, Clone, clap::Args)]
pub struct Gateway {
    /// The gateway's base URL.
    #[arg(long = "gateway", env = "STUDIOS_GATEWAY", default_value = "http://127.0.0.1:8080")]
    pub url: Url,
    /// A PEM file of authorities to believe besides the system's, where the gateway is at an https address.
    #[arg(long, env = "STUDIOS_TLS_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

impl Gateway {
    /// The gateway at an address, believed by the system's authorities.
    pub fn at(url: Url) -> Self {
        Self { url, ca: None }
    }

    /// How it is spoken to; `STUDIOS_TLS_CLIENT_CERT` and `STUDIOS_TLS_CLIENT_KEY` name what is shown where it asks.
    fn tls(&self) -> Result<ClientTls> {
        let ca = self
            .ca
            .as_ref()
            .map(|it| ("tls_ca".to_owned(), it.display().to_string()));
        let mut reader = Reader::load(&["STUDIOS_"], None, ca.as_slice());
        let tls = ClientTls::read(&mut reader);
        reader.finish()?;
        Ok(tls)
    }
}

/// A connection to a gateway.
#[derive(Debug, Clone)]
pub struct Remote {
    channel: Channel,
    token: Option<SecretString>,
}

impl Remote {
    /// Connects to a gateway at first use.
    pub fn new(gateway: &Gateway, token: Option<SecretString>) -> Result<Self> {
        let channel = gateway.tls()?.channel(&gateway.url).context("the gateway's URL")?;
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

    /// Invitations to companies.
    pub fn invitations(&self) -> InvitationServiceClient<Channel> {
        InvitationServiceClient::new(self.channel.clone())
    }

    /// Keys of machines.
    pub fn api_keys(&self) -> ApiKeyServiceClient<Channel> {
        ApiKeyServiceClient::new(self.channel.clone())
    }

    /// Exports and erasures.
    pub fn privacy(&self) -> PrivacyServiceClient<Channel> {
        PrivacyServiceClient::new(self.channel.clone())
    }

    /// What companies are told.
    pub fn notifications(&self) -> NotificationServiceClient<Channel> {
        NotificationServiceClient::new(self.channel.clone())
    }

    /// What was done to companies, members, studios and documents.
    pub fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel.clone())
    }

    /// What was done to models, workflows, snapshots and executions.
    pub fn execution_audit(&self) -> ExecutionAuditServiceClient<Channel> {
        ExecutionAuditServiceClient::new(self.channel.clone())
    }

    /// The caller's own account.
    pub fn account(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(self.channel.clone())
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

    /// Files.
    pub fn files(&self) -> FileServiceClient<Channel> {
        FileServiceClient::new(self.channel.clone())
    }

    /// Workflows.
    pub fn workflows(&self) -> WorkflowServiceClient<Channel> {
        WorkflowServiceClient::new(self.channel.clone())
    }

    /// Connections.
    pub fn connections(&self) -> ConnectionServiceClient<Channel> {
        ConnectionServiceClient::new(self.channel.clone())
    }

    /// Snapshots.
    pub fn snapshots(&self) -> SnapshotServiceClient<Channel> {
        SnapshotServiceClient::new(self.channel.clone())
    }

    /// Templates.
    pub fn templates(&self) -> TemplateServiceClient<Channel> {
        TemplateServiceClient::new(self.channel.clone())
    }

    /// Agent sessions.
    pub fn agents(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(self.channel.clone())
    }

    /// Learning plans.
    pub fn plans(&self) -> PlanServiceClient<Channel> {
        PlanServiceClient::new(self.channel.clone())
    }

    /// Flows of ActivePieces.
    pub fn flows(&self) -> FlowServiceClient<Channel> {
        FlowServiceClient::new(self.channel.clone())
    }

    /// Executions.
    pub fn executions(&self) -> ExecutionServiceClient<Channel> {
        ExecutionServiceClient::new(self.channel.clone())
    }
}
