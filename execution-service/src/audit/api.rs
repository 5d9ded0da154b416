//! The RPCs of `ExecutionAuditService`.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use service_kit::{
    audit::{Filter, Wanted},
    auth::Caller,
    db,
    error::Violations,
    page::Page,
};
use studios_proto::{core as proto, execution::execution_audit_service_server::ExecutionAuditService};
use tonic::{Request, Response, Status};

use crate::App;

const LIST_ENTRIES: &str = "/studios.execution.v1.ExecutionAuditService/ListAuditEntries";

/// Serves `ExecutionAuditService`.
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
impl ExecutionAuditService for Api {
    type ExportAuditLogStream = BoxStream<'static, Result<proto::ExportAuditLogResponse, Status>>;

    async fn list_audit_entries(
        &self,
        request: Request<proto::ListAuditEntriesRequest>,
    ) -> Result<Response<proto::ListAuditEntriesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (request, keys) = (request.get_ref(), &self.app.keys);
        let filter = Filter::try_from(request)?;
        let page = Page::parse(keys, LIST_ENTRIES, &filter, request.page_size, &request.page_token)?;
        let rows = db::retry("audit.list", || super::list(&self.app, &caller, &filter, &page)).await?;
        let (entries, next_page_token) = page.finish(keys, LIST_ENTRIES, &filter, rows, |it| it.entry.id);
        let entries = entries.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListAuditEntriesResponse {
            entries,
            next_page_token,
        }))
    }

    async fn export_audit_log(
        &self,
        request: Request<proto::ExportAuditLogRequest>,
    ) -> Result<Response<Self::ExportAuditLogStream>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = Wanted::try_from(request.get_ref())?;
        let claims = super::enter_export(&self.app, &caller, &wanted).await?;
        let lines = self.app.audit.clone().export(self.app.pool.clone(), claims, wanted);
        let parts = lines.map_ok(|lines| proto::ExportAuditLogResponse { lines });
        Ok(Response::new(parts.map_err(Status::from).boxed()))
    }

    async fn verify_audit_log(
        &self,
        request: Request<proto::VerifyAuditLogRequest>,
    ) -> Result<Response<proto::VerifyAuditLogResponse>, Status> {
        let caller = Caller::of(&request)?;
        let company = Violations::only_id("company_id", &request.get_ref().company_id)?;
        let report = db::retry("audit.verify", || super::verify(&self.app, &caller, company)).await?;
        Ok(Response::new(report.into_answer(&self.app.audit.public_keys())))
    }
}
