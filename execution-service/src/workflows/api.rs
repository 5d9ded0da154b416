//! The RPCs of `WorkflowService`.

use std::sync::Arc;

use service_kit::{auth::Caller, db, error::Violations, page::Page};
use studios_proto::execution::{self as proto, workflow_service_server::WorkflowService};
use tonic::{Request, Response, Status};

use super::{comparing, convert, listing, publishing, rolling_back};
use crate::App;

const CREATE: &str = "/studios.execution.v1.WorkflowService/CreateWorkflow";
const LIST: &str = "/studios.execution.v1.WorkflowService/ListWorkflows";
const PUBLISH: &str = "/studios.execution.v1.WorkflowService/PublishWorkflow";
const ROLL_BACK: &str = "/studios.execution.v1.WorkflowService/RollBackWorkflow";
const LIST_VERSIONS: &str = "/studios.execution.v1.WorkflowService/ListWorkflowVersions";

/// Serves `WorkflowService`.
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
impl WorkflowService for Api {
    async fn create_workflow(
        &self,
        request: Request<proto::CreateWorkflowRequest>,
    ) -> Result<Response<proto::Workflow>, Status> {
        let caller = Caller::of(&request)?;
        let (new, key) = convert::new(CREATE, request.get_ref())?;
        let workflow = db::retry("workflows.create", || {
            super::create(&self.app, &caller, &new, key.as_ref())
        });
        Ok(Response::new(workflow.await?.into()))
    }

    async fn get_workflow(
        &self,
        request: Request<proto::GetWorkflowRequest>,
    ) -> Result<Response<proto::Workflow>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let workflow = db::retry("workflows.get", || super::get(&self.app, &caller, id));
        Ok(Response::new(workflow.await?.into()))
    }

    async fn list_workflows(
        &self,
        request: Request<proto::ListWorkflowsRequest>,
    ) -> Result<Response<proto::ListWorkflowsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = convert::filter(&request)?;
        let page = Page::parse(&self.app.keys, LIST, &filter, request.page_size, &request.page_token)?;
        let rows = db::retry("workflows.list", || listing::list(&self.app, &caller, &filter, &page)).await?;
        let (workflows, next_page_token) =
            page.finish(&self.app.keys, LIST, &filter, rows, |it| listing::Cursor::from(it));
        let workflows = workflows.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListWorkflowsResponse {
            workflows,
            next_page_token,
        }))
    }

    async fn update_workflow(
        &self,
        request: Request<proto::UpdateWorkflowRequest>,
    ) -> Result<Response<proto::Workflow>, Status> {
        let caller = Caller::of(&request)?;
        let (id, etag, changes) = convert::changes(request.get_ref())?;
        let workflow = db::retry("workflows.change", || {
            super::change(&self.app, &caller, id, &etag, &changes)
        });
        Ok(Response::new(workflow.await?.into()))
    }

    async fn delete_workflow(
        &self,
        request: Request<proto::DeleteWorkflowRequest>,
    ) -> Result<Response<proto::Workflow>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = Violations::only_id("id", &request.id)?;
        let workflow = db::retry("workflows.delete", || {
            super::delete(&self.app, &caller, id, &request.etag)
        });
        Ok(Response::new(workflow.await?.into()))
    }

    async fn undelete_workflow(
        &self,
        request: Request<proto::UndeleteWorkflowRequest>,
    ) -> Result<Response<proto::Workflow>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let workflow = db::retry("workflows.undelete", || super::undelete(&self.app, &caller, id));
        Ok(Response::new(workflow.await?.into()))
    }

    async fn validate_workflow(
        &self,
        request: Request<proto::ValidateWorkflowRequest>,
    ) -> Result<Response<proto::ValidateWorkflowResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let problems = db::retry("workflows.validate", || publishing::validate(&self.app, &caller, id)).await?;
        let problems = problems.into_iter().map(convert::problem).collect();
        Ok(Response::new(proto::ValidateWorkflowResponse { problems }))
    }

    async fn publish_workflow(
        &self,
        request: Request<proto::PublishWorkflowRequest>,
    ) -> Result<Response<proto::WorkflowVersion>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let (id, key) = convert::publish(PUBLISH, &request)?;
        let version = db::retry("workflows.publish", || {
            publishing::publish(&self.app, &caller, id, &request.etag, key.as_ref())
        });
        Ok(Response::new(version.await?.into()))
    }

    async fn get_workflow_version(
        &self,
        request: Request<proto::GetWorkflowVersionRequest>,
    ) -> Result<Response<proto::WorkflowVersion>, Status> {
        let caller = Caller::of(&request)?;
        let (workflow, number) = convert::version(request.get_ref())?;
        let version = db::retry("workflows.get_version", || {
            publishing::get(&self.app, &caller, workflow, number)
        });
        Ok(Response::new(version.await?.into()))
    }

    async fn list_workflow_versions(
        &self,
        request: Request<proto::ListWorkflowVersionsRequest>,
    ) -> Result<Response<proto::ListWorkflowVersionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let workflow = Violations::only_id("workflow_id", &request.workflow_id)?;
        let page = Page::parse(
            &self.app.keys,
            LIST_VERSIONS,
            &workflow,
            request.page_size,
            &request.page_token,
        )?;
        let rows = db::retry("workflows.list_versions", || {
            publishing::list(&self.app, &caller, workflow, &page)
        });
        let (versions, next_page_token) =
            page.finish(&self.app.keys, LIST_VERSIONS, &workflow, rows.await?, |it| it.number);
        let versions = versions.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListWorkflowVersionsResponse {
            versions,
            next_page_token,
        }))
    }

    async fn diff_workflow_versions(
        &self,
        request: Request<proto::DiffWorkflowVersionsRequest>,
    ) -> Result<Response<proto::DiffWorkflowVersionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let asked = convert::question(request.get_ref())?;
        let sides = db::retry("workflows.diff", || comparing::sides(&self.app, &caller, &asked)).await?;
        let compared = self.app.aside.run(|| convert::compared(sides)).await;
        Ok(Response::new(compared))
    }

    async fn roll_back_workflow(
        &self,
        request: Request<proto::RollBackWorkflowRequest>,
    ) -> Result<Response<proto::RollBackWorkflowResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (wish, key) = convert::roll_back(ROLL_BACK, request.get_ref())?;
        let done = db::retry("workflows.roll_back", || {
            rolling_back::roll_back(&self.app, &caller, &wish, key.as_ref())
        });
        Ok(Response::new(done.await?.into()))
    }
}
