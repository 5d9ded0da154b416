//! The RPCs of `PrivacyService`.

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use service_kit::{
    auth::Caller,
    db,
    error::{Error, Violations},
    page::Page,
};
use studios_proto::core::{self as proto, privacy_service_server::PrivacyService};
use tonic::{Request, Response, Status};

use crate::App;

const LIST: &str = "/studios.core.v1.PrivacyService/ListPrivacyRequests";

/// Serves `PrivacyService`.
#[derive(Clone)]
pub struct Privacy {
    app: Arc<App>,
}

impl Privacy {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl PrivacyService for Privacy {
    type DownloadExportStream = BoxStream<'static, Result<proto::DownloadExportResponse, Status>>;

    async fn export_user(
        &self,
        request: Request<proto::ExportUserRequest>,
    ) -> Result<Response<proto::PrivacyRequest>, Status> {
        let caller = Caller::of(&request)?;
        let asked = db::retry("privacy.export_user", || super::export_user(&self.app, &caller)).await?;
        Ok(Response::new(asked.into()))
    }

    async fn export_company(
        &self,
        request: Request<proto::ExportCompanyRequest>,
    ) -> Result<Response<proto::PrivacyRequest>, Status> {
        let caller = Caller::of(&request)?;
        let company = Violations::only_id("company_id", &request.get_ref().company_id)?;
        let asked = db::retry("privacy.export_company", || {
            super::export_company(&self.app, &caller, company)
        });
        Ok(Response::new(asked.await?.into()))
    }

    async fn erase_user(
        &self,
        request: Request<proto::EraseUserRequest>,
    ) -> Result<Response<proto::PrivacyRequest>, Status> {
        let caller = Caller::of(&request)?;
        let confirmed = Violations::only_id("confirm_user_id", &request.get_ref().confirm_user_id)?;
        let asked = db::retry("privacy.erase_user", || {
            super::erase_user(&self.app, &caller, confirmed)
        })
        .await?;
        Ok(Response::new(asked.into()))
    }

    async fn erase_company(
        &self,
        request: Request<proto::EraseCompanyRequest>,
    ) -> Result<Response<proto::PrivacyRequest>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let company = Violations::only_id("company_id", &request.company_id)?;
        let asked = db::retry("privacy.erase_company", || {
            super::erase_company(&self.app, &caller, company, &request.confirm_name)
        });
        Ok(Response::new(asked.await?.into()))
    }

    async fn get_privacy_request(
        &self,
        request: Request<proto::GetPrivacyRequestRequest>,
    ) -> Result<Response<proto::PrivacyRequest>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let found = db::retry("privacy.get", || super::get(&self.app, &caller, id)).await?;
        Ok(Response::new(found.into()))
    }

    async fn list_privacy_requests(
        &self,
        request: Request<proto::ListPrivacyRequestsRequest>,
    ) -> Result<Response<proto::ListPrivacyRequestsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (request, keys) = (request.get_ref(), &self.app.keys);
        let company = match request.company_id.as_str() {
            "" => None,
            text => Some(Violations::only_id("company_id", text)?),
        };
        let page = Page::parse(keys, LIST, &company, request.page_size, &request.page_token)?;
        let rows = db::retry("privacy.list", || super::list(&self.app, &caller, company, &page)).await?;
        let (found, next_page_token) = page.finish(keys, LIST, &company, rows, |it| it.id);
        Ok(Response::new(proto::ListPrivacyRequestsResponse {
            requests: found.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn cancel_privacy_request(
        &self,
        request: Request<proto::CancelPrivacyRequestRequest>,
    ) -> Result<Response<proto::PrivacyRequest>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let cancelled = db::retry("privacy.cancel", || super::cancel(&self.app, &caller, id)).await?;
        Ok(Response::new(cancelled.into()))
    }

    async fn download_export(
        &self,
        request: Request<proto::DownloadExportRequest>,
    ) -> Result<Response<Self::DownloadExportStream>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let (key, size) = super::archived(&self.app, &caller, id).await?;
        let content = self.app.objects.read(&key, 0..size).await?;
        let content = content.ok_or_else(|| Error::internal("an archive is missing"))?;
        let parts = content.map(|it| {
            it.map(|bytes| proto::DownloadExportResponse { data: bytes.to_vec() })
                .map_err(Status::from)
        });
        Ok(Response::new(parts.boxed()))
    }
}
