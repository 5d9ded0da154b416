//! The RPCs of `SnapshotService`.

use std::sync::Arc;

use service_kit::{auth::Caller, db, error::Violations, page::Page};
use studios_proto::execution::{self as proto, snapshot_service_server::SnapshotService};
use tonic::{Request, Response, Status};

use super::{convert, file, restoring};
use crate::App;

const CREATE: &str = "/studios.execution.v1.SnapshotService/CreateSnapshot";
const LIST: &str = "/studios.execution.v1.SnapshotService/ListSnapshots";
const RESTORE: &str = "/studios.execution.v1.SnapshotService/RestoreSnapshot";
const IMPORT: &str = "/studios.execution.v1.SnapshotService/ImportSnapshot";

/// Serves `SnapshotService`.
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
impl SnapshotService for Api {
    async fn create_snapshot(
        &self,
        request: Request<proto::CreateSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        let caller = Caller::of(&request)?;
        let (wish, key) = convert::wish(CREATE, request.get_ref())?;
        let snapshot = db::retry("snapshots.create", || {
            super::create(&self.app, &caller, &wish, key.as_ref())
        });
        Ok(Response::new(snapshot.await?.into()))
    }

    async fn get_snapshot(
        &self,
        request: Request<proto::GetSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let snapshot = db::retry("snapshots.get", || super::get(&self.app, &caller, id));
        Ok(Response::new(snapshot.await?.into()))
    }

    async fn list_snapshots(
        &self,
        request: Request<proto::ListSnapshotsRequest>,
    ) -> Result<Response<proto::ListSnapshotsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = convert::filter(&request)?;
        let page = Page::parse(&self.app.keys, LIST, &filter, request.page_size, &request.page_token)?;
        let mut listed = db::retry("snapshots.list", || super::list(&self.app, &caller, &filter, &page)).await?;
        let (snapshots, next_page_token) = page.finish(&self.app.keys, LIST, &filter, listed.snapshots, |it| it.id);
        listed.snapshots = snapshots;
        Ok(Response::new(proto::ListSnapshotsResponse {
            next_page_token,
            ..convert::listed(listed)
        }))
    }

    async fn update_snapshot(
        &self,
        request: Request<proto::UpdateSnapshotRequest>,
    ) -> Result<Response<proto::Snapshot>, Status> {
        let caller = Caller::of(&request)?;
        let (id, etag, changes) = convert::changes(request.get_ref())?;
        let snapshot = db::retry("snapshots.change", || {
            super::change(&self.app, &caller, id, &etag, &changes)
        });
        Ok(Response::new(snapshot.await?.into()))
    }

    async fn delete_snapshot(
        &self,
        request: Request<proto::DeleteSnapshotRequest>,
    ) -> Result<Response<proto::DeleteSnapshotResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = Violations::only_id("id", &request.id)?;
        db::retry("snapshots.delete", || {
            super::delete(&self.app, &caller, id, &request.etag)
        })
        .await?;
        Ok(Response::new(proto::DeleteSnapshotResponse {}))
    }

    async fn restore_snapshot(
        &self,
        request: Request<proto::RestoreSnapshotRequest>,
    ) -> Result<Response<proto::RestoreSnapshotResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (id, target, key) = convert::restore(RESTORE, request.get_ref())?;
        let restored = db::retry("snapshots.restore", || {
            restoring::restore(&self.app, &caller, id, &target, key.as_ref())
        });
        Ok(Response::new(restored.await?.into()))
    }

    async fn compare_snapshots(
        &self,
        request: Request<proto::CompareSnapshotsRequest>,
    ) -> Result<Response<proto::CompareSnapshotsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (from, to) = convert::comparison(request.get_ref())?;
        let sides = db::retry("snapshots.compare", || super::sides(&self.app, &caller, from, to)).await?;
        let compared = self.app.aside.run(|| convert::compared(sides)).await;
        Ok(Response::new(compared))
    }

    async fn export_snapshot(
        &self,
        request: Request<proto::ExportSnapshotRequest>,
    ) -> Result<Response<proto::ExportSnapshotResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let snapshot = db::retry("snapshots.export", || super::get(&self.app, &caller, id)).await?;
        let exported = self.app.aside.run(move || convert::exported(&snapshot)).await;
        Ok(Response::new(exported))
    }

    async fn import_snapshot(
        &self,
        request: Request<proto::ImportSnapshotRequest>,
    ) -> Result<Response<proto::ImportSnapshotResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (studio, key) = convert::import(IMPORT, request.get_ref())?;
        // Whoever does not reach the studio has nothing read for him.
        self.app.core.check_studio(caller.user, studio).await?;
        let request = request.into_inner();
        let file = self
            .app
            .aside
            .run(move || file::read(&request.content, &request.name))
            .await?;
        let imported = db::retry("snapshots.import", || {
            super::import(&self.app, &caller, studio, &file, key.as_ref())
        });
        Ok(Response::new(convert::imported(imported.await?)))
    }
}
