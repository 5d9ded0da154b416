//! Keys as core-service knows them, asked for over gRPC.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use studios_proto::core::{ApiKeyAccess, CheckApiKeyRequest, access_service_client::AccessServiceClient};
use tonic::transport::Channel;

use super::{ApiKey, ApiKeySource};
use crate::{
    client,
    error::{Error, Result},
    status,
    token::ServiceIdentity,
};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks core-service.
#[derive(Debug, Clone)]
pub struct ClientApiKeys {
    access: AccessServiceClient<Channel>,
    identity: Arc<ServiceIdentity>,
}

impl ClientApiKeys {
    /// Over a channel to core-service, as this service.
    pub fn new(channel: Channel, identity: Arc<ServiceIdentity>) -> Self {
        Self {
            access: AccessServiceClient::new(channel),
            identity,
        }
    }
}

impl ApiKeySource for ClientApiKeys {
    fn find(&self, hashes: Vec<Vec<u8>>) -> BoxFuture<'_, Result<Option<ApiKey>>> {
        Box::pin(async move {
            let call = client::call(Some(&self.identity), None, CheckApiKeyRequest { hashes }, TIMEOUT);
            match self
                .access
                .clone()
                .check_api_key(call)
                .await
                .map_err(status::from_status)
            {
                Ok(answer) => read(&answer.into_inner()).map(Some),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }
}

fn read(access: &ApiKeyAccess) -> Result<ApiKey> {
    let unreadable = || Error::internal("core-service's answer about an API key cannot be read");
    Ok(ApiKey {
        id: access.id.parse().map_err(|_| unreadable())?,
        company: access.company_id.parse().map_err(|_| unreadable())?,
        // A scope that this release does not know holds nothing.
        scopes: access.scopes.iter().filter_map(|it| it.parse().ok()).collect(),
        expires_at: access.expire_time.as_ref().map(|it| it.seconds),
    })
}
