//! The RPCs of `StudioService`.

use std::sync::Arc;

use service_kit::{auth::Caller, db, error::Violations, page::Page};
use studios_proto::core::{self as proto, studio_service_server::StudioService};
use tonic::{Request, Response, Status};

use super::Filter;
use crate::App;

pub(super) const CREATE_STUDIO: &str = "/studios.core.v1.StudioService/CreateStudio";
const LIST_STUDIOS: &str = "/studios.core.v1.StudioService/ListStudios";

/// Serves `StudioService`.
#[derive(Clone)]
pub struct Studios {
    app: Arc<App>,
}

impl Studios {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl StudioService for Studios {
    async fn create_studio(
        &self,
        request: Request<proto::CreateStudioRequest>,
    ) -> Result<Response<proto::Studio>, Status> {
        let caller = Caller::of(&request)?;
        let new = request.into_inner().try_into()?;
        let studio = db::retry("studios.create", || super::create(&self.app, &caller, &new)).await?;
        Ok(Response::new(studio.into()))
    }

    async fn get_studio(&self, request: Request<proto::GetStudioRequest>) -> Result<Response<proto::Studio>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let studio = db::retry("studios.get", || super::get(&self.app, &caller, id)).await?;
        Ok(Response::new(studio.into()))
    }

    async fn list_studios(
        &self,
        request: Request<proto::ListStudiosRequest>,
    ) -> Result<Response<proto::ListStudiosResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (request, keys) = (request.get_ref(), &self.app.keys);
        let filter = Filter::try_from(request)?;
        let page = Page::parse(keys, LIST_STUDIOS, &filter, request.page_size, &request.page_token)?;
        let rows = db::retry("studios.list", || super::list(&self.app, &caller, &filter, &page)).await?;
        let (studios, next_page_token) = page.finish(keys, LIST_STUDIOS, &filter, rows, |it| it.id);
        let studios = studios.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListStudiosResponse {
            studios,
            next_page_token,
        }))
    }

    async fn update_studio(
        &self,
        request: Request<proto::UpdateStudioRequest>,
    ) -> Result<Response<proto::Studio>, Status> {
        let caller = Caller::of(&request)?;
        let update = request.into_inner().try_into()?;
        let studio = db::retry("studios.update", || super::update(&self.app, &caller, &update)).await?;
        Ok(Response::new(studio.into()))
    }

    async fn delete_studio(
        &self,
        request: Request<proto::DeleteStudioRequest>,
    ) -> Result<Response<proto::Studio>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.get_ref();
        let id = Violations::only_id("id", &request.id)?;
        let studio = db::retry("studios.delete", || {
            super::delete(&self.app, &caller, id, &request.etag)
        })
        .await?;
        Ok(Response::new(studio.into()))
    }

    async fn undelete_studio(
        &self,
        request: Request<proto::UndeleteStudioRequest>,
    ) -> Result<Response<proto::Studio>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let studio = db::retry("studios.undelete", || super::undelete(&self.app, &caller, id)).await?;
        Ok(Response::new(studio.into()))
    }
}
