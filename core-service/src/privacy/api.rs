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

use crate::{App, files};

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

    async fn request_user_export(
        &self,
        request: Request<proto::RequestUserExportRequest>,
    ) -> Result<Response<proto::PrivacyRequest>, Status> {
        let caller = Caller::of(&request)?;
        let asked = db::retry("privacy.export_user", || super::export_user(&self.app, &caller)).await?;
        Ok(Response::new(asked.into()))
    }

    async fn request_company_export(
        &self,
        request: Request<proto::RequestCompanyExportRequest>,
    ) -> Result<Response<proto::PrivacyRequest>, Status> {
        let caller = Caller::of(&request)?;
        let company = Violations::only_id("company_id", &request.get_ref().company_id)?;
        let asked = db::retry("privacy.export_company", || {
            super::export_company(&self.app, &caller, company)
        });
        Ok(Response::new(asked.await?.into()))
    }

    async fn request_user_erasure(
        &self,
        request: Request<proto::RequestUserErasureRequest>,
    ) -> Result<Response<proto::PrivacyRequest>, Status> {
        let caller = Caller::of(&request)?;
        let confirmed = Violations::only_id("confirm_user_id", &request.get_ref().confirm_user_id)?;
        let asked = db::retry("privacy.erase_user", || {
            super::erase_user(&self.app, &caller, confirmed)
        })
        .await?;
        Ok(Response::new(asked.into()))
    }

    async fn request_company_erasure(
        &self,
        request: Request<proto::RequestCompanyErasureRequest>,
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
        let archive = db::retry("privacy.archive", || super::archive(&self.app, caller.user, id)).await?;
        let size = u64::try_from(archive.size_bytes).map_err(Error::internal)?;
        let content = self.app.objects.read(&archive.key, 0..size).await?;
        let content = content.ok_or_else(|| Error::internal("an archive is missing"))?;
        let parts = content.map(|it| {
            it.map(|data| proto::DownloadExportResponse { data })
                .map_err(Status::from)
        });
        Ok(Response::new(parts.boxed()))
    }

    async fn create_export_url(
        &self,
        request: Request<proto::CreateExportUrlRequest>,
    ) -> Result<Response<proto::DownloadUrl>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.get_ref();
        let id = Violations::only_id("id", &request.id)?;
        let lifetime = request.lifetime.as_ref();
        db::retry("privacy.share", || super::share(&self.app, &caller, id)).await?;
        Ok(Response::new(files::api::export_url(
            &self.app,
            caller.user,
            id,
            lifetime,
        )?))
    }
}
