//! The RPCs of `TemplateService`.

use std::sync::Arc;

use service_kit::{auth::Caller, db, error::Violations, page::Page};
use studios_proto::execution::{self as proto, template_service_server::TemplateService};
use tonic::{Request, Response, Status};

use super::{Cursor, convert, publishing, running};
use crate::{App, executions};

const LIST: &str = "/studios.execution.v1.TemplateService/ListTemplates";
const LIST_VERSIONS: &str = "/studios.execution.v1.TemplateService/ListTemplateVersions";
const RUN: &str = "/studios.execution.v1.TemplateService/RunTemplate";
const CREATE: &str = "/studios.execution.v1.TemplateService/CreateTemplate";
const PUBLISH: &str = "/studios.execution.v1.TemplateService/PublishTemplateVersion";
const COPY: &str = "/studios.execution.v1.TemplateService/CopyTemplate";

/// Serves `TemplateService`.
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
impl TemplateService for Api {
    async fn list_templates(
        &self,
        request: Request<proto::ListTemplatesRequest>,
    ) -> Result<Response<proto::ListTemplatesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = convert::filter(&request)?;
        let page = Page::parse(&self.app.keys, LIST, &filter, request.page_size, &request.page_token)?;
        let rows = db::retry("templates.list", || super::list(&self.app, &caller, &filter, &page)).await?;
        let (templates, next_page_token) = page.finish(&self.app.keys, LIST, &filter, rows, |it| Cursor::from(it));
        let templates = templates.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListTemplatesResponse {
            templates,
            next_page_token,
        }))
    }

    async fn get_template(
        &self,
        request: Request<proto::GetTemplateRequest>,
    ) -> Result<Response<proto::Template>, Status> {
        let caller = Caller::of(&request)?;
        let (id, version) = convert::get(request.get_ref())?;
        let template = db::retry("templates.get", || super::get(&self.app, &caller, id, version));
        Ok(Response::new(convert::whole(template.await?)))
    }

    async fn list_template_versions(
        &self,
        request: Request<proto::ListTemplateVersionsRequest>,
    ) -> Result<Response<proto::ListTemplateVersionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = Violations::only_id("template_id", &request.template_id)?;
        let page = Page::parse(
            &self.app.keys,
            LIST_VERSIONS,
            &id,
            request.page_size,
            &request.page_token,
        )?;
        let rows = db::retry("templates.list_versions", || {
            super::list_versions(&self.app, &caller, id, &page)
        });
        let (versions, next_page_token) = page.finish(&self.app.keys, LIST_VERSIONS, &id, rows.await?, |it| it.version);
        let versions = versions.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListTemplateVersionsResponse {
            versions,
            next_page_token,
        }))
    }

    async fn run_template(
        &self,
        request: Request<proto::RunTemplateRequest>,
    ) -> Result<Response<proto::Execution>, Status> {
        let caller = Caller::of(&request)?;
        let run = convert::run(RUN, request.get_ref())?;
        let execution = db::retry("templates.run", || running::run(&self.app, &caller, &run)).await?;
        Ok(Response::new(executions::shown(&self.app, execution).await?))
    }

    async fn create_template(
        &self,
        request: Request<proto::CreateTemplateRequest>,
    ) -> Result<Response<proto::Template>, Status> {
        let caller = Caller::of(&request)?;
        let (about, wish, key) = convert::create(CREATE, request.get_ref())?;
        let template = db::retry("templates.create", || {
            publishing::create(&self.app, &caller, &about, &wish, key.as_ref())
        });
        Ok(Response::new(convert::whole(template.await?)))
    }

    async fn publish_template_version(
        &self,
        request: Request<proto::PublishTemplateVersionRequest>,
    ) -> Result<Response<proto::TemplateVersion>, Status> {
        let caller = Caller::of(&request)?;
        let (id, wish, key) = convert::publish(PUBLISH, request.get_ref())?;
        let version = db::retry("templates.publish", || {
            publishing::publish(&self.app, &caller, id, &wish, key.as_ref())
        });
        Ok(Response::new(version.await?.into()))
    }

    async fn update_template(
        &self,
        request: Request<proto::UpdateTemplateRequest>,
    ) -> Result<Response<proto::Template>, Status> {
        let caller = Caller::of(&request)?;
        let (id, etag, changes) = convert::changes(request.get_ref())?;
        let template = db::retry("templates.change", || {
            super::change(&self.app, &caller, id, &etag, &changes)
        });
        Ok(Response::new(convert::whole(template.await?)))
    }

    async fn delete_template(
        &self,
        request: Request<proto::DeleteTemplateRequest>,
    ) -> Result<Response<proto::DeleteTemplateResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = Violations::only_id("id", &request.id)?;
        db::retry("templates.delete", || {
            super::delete(&self.app, &caller, id, &request.etag)
        })
        .await?;
        Ok(Response::new(proto::DeleteTemplateResponse {}))
    }

    async fn copy_template(
        &self,
        request: Request<proto::CopyTemplateRequest>,
    ) -> Result<Response<proto::Workflow>, Status> {
        let caller = Caller::of(&request)?;
        let (copy, key) = convert::copy(COPY, request.get_ref())?;
        let workflow = db::retry("templates.copy", || {
            running::copy(&self.app, &caller, &copy, key.as_ref())
        });
        Ok(Response::new(workflow.await?.into()))
    }
}
