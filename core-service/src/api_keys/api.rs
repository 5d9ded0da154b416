//! The RPCs of `ApiKeyService`.

use std::sync::Arc;

use service_kit::{auth::Caller, db, error::Violations, page::Page};
use studios_proto::core::{self as proto, api_key_service_server::ApiKeyService};
use tonic::{Request, Response, Status};

use crate::App;

const LIST_API_KEYS: &str = "/studios.core.v1.ApiKeyService/ListApiKeys";

/// Serves `ApiKeyService`.
#[derive(Clone)]
pub struct ApiKeysApi {
    app: Arc<App>,
}

impl ApiKeysApi {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl ApiKeyService for ApiKeysApi {
    async fn create_api_key(
        &self,
        request: Request<proto::CreateApiKeyRequest>,
    ) -> Result<Response<proto::CreateApiKeyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let new = request.into_inner().try_into()?;
        let (key, secret) = db::retry("api_keys.create", || super::create(&self.app, &caller, &new)).await?;
        Ok(Response::new(proto::CreateApiKeyResponse {
            api_key: Some(key.into()),
            key: secret.text().to_owned(),
        }))
    }

    async fn list_api_keys(
        &self,
        request: Request<proto::ListApiKeysRequest>,
    ) -> Result<Response<proto::ListApiKeysResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (request, keys) = (request.get_ref(), &self.app.keys);
        let company = Violations::only_id("company_id", &request.company_id)?;
        let page = Page::parse(keys, LIST_API_KEYS, &company, request.page_size, &request.page_token)?;
        let rows = db::retry("api_keys.list", || super::list(&self.app, &caller, company, &page)).await?;
        let (found, next_page_token) = page.finish(keys, LIST_API_KEYS, &company, rows, |it| it.id);
        Ok(Response::new(proto::ListApiKeysResponse {
            api_keys: found.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<proto::RevokeApiKeyRequest>,
    ) -> Result<Response<proto::ApiKey>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let key = db::retry("api_keys.revoke", || super::revoke(&self.app, &caller, id)).await?;
        Ok(Response::new(key.into()))
    }
}
