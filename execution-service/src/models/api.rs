//! The RPCs of `ModelService`.

use std::sync::Arc;

use service_kit::{auth::Caller, db, error::Violations, page::Page};
use studios_proto::execution::{self as proto, model_service_server::ModelService};
use tonic::{Request, Response, Status};

use super::{Cursor, convert};
use crate::App;

const CREATE: &str = "/studios.execution.v1.ModelService/CreateModel";
const LIST: &str = "/studios.execution.v1.ModelService/ListModels";

/// Serves `ModelService`.
#[derive(Clone)]
pub struct Api {
    app: Arc<App>,
}

impl Api {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl ModelService for Api {
    async fn create_model(
        &self,
        request: Request<proto::CreateModelRequest>,
    ) -> Result<Response<proto::Model>, Status> {
        let caller = Caller::of(&request)?;
        let new = convert::new(CREATE, &self.app.providers, request.get_ref())?;
        let model = db::retry("models.create", || {
            super::create(&self.app, &caller, new.company, &new.settings, new.key.as_ref())
        });
        Ok(Response::new(model.await?.into()))
    }

    async fn get_model(&self, request: Request<proto::GetModelRequest>) -> Result<Response<proto::Model>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let model = db::retry("models.get", || super::get(&self.app, &caller, id));
        Ok(Response::new(model.await?.into()))
    }

    async fn list_models(
        &self,
        request: Request<proto::ListModelsRequest>,
    ) -> Result<Response<proto::ListModelsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = convert::filter(&request)?;
        let page = Page::parse(&self.app.keys, LIST, &filter, request.page_size, &request.page_token)?;
        let rows = db::retry("models.list", || super::list(&self.app, &caller, &filter, &page)).await?;
        let (models, next_page_token) = page.finish(&self.app.keys, LIST, &filter, rows, |it| Cursor::from(it));
        let models = models.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListModelsResponse {
            models,
            next_page_token,
        }))
    }

    async fn update_model(
        &self,
        request: Request<proto::UpdateModelRequest>,
    ) -> Result<Response<proto::Model>, Status> {
        let caller = Caller::of(&request)?;
        let (id, etag, changes) = convert::changes(request.get_ref())?;
        let model = db::retry("models.change", || {
            super::change(&self.app, &caller, id, &etag, &changes)
        });
        Ok(Response::new(model.await?.into()))
    }

    async fn delete_model(
        &self,
        request: Request<proto::DeleteModelRequest>,
    ) -> Result<Response<proto::DeleteModelResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = Violations::only_id("id", &request.id)?;
        db::retry("models.delete", || super::delete(&self.app, &caller, id, &request.etag)).await?;
        Ok(Response::new(proto::DeleteModelResponse {}))
    }
}
