//! The RPCs of `ConnectionService`.

use std::sync::Arc;

use service_kit::{
    auth::Caller,
    db,
    error::{Error, Violations},
    page::Page,
};
use studios_proto::execution::{
    self as proto, connection_service_server::ConnectionService, test_connection_request::Of,
};
use tonic::{Request, Response, Status};

use super::{Sight, convert, testing};
use crate::App;

const CREATE: &str = "/studios.execution.v1.ConnectionService/CreateConnection";
const LIST: &str = "/studios.execution.v1.ConnectionService/ListConnections";

/// Serves `ConnectionService`.
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
impl ConnectionService for Api {
    async fn create_connection(
        &self,
        request: Request<proto::CreateConnectionRequest>,
    ) -> Result<Response<proto::Connection>, Status> {
        let caller = Caller::of(&request)?;
        let (new, key) = convert::new(CREATE, request.get_ref())?;
        let made = db::retry("connections.create", || {
            super::create(&self.app, &caller, &new, key.as_ref())
        });
        Ok(Response::new(convert::seen(made.await?, Sight::Admin)))
    }

    async fn get_connection(
        &self,
        request: Request<proto::GetConnectionRequest>,
    ) -> Result<Response<proto::Connection>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let (found, sight) = db::retry("connections.get", || super::get(&self.app, &caller, id)).await?;
        Ok(Response::new(convert::seen(found, sight)))
    }

    async fn list_connections(
        &self,
        request: Request<proto::ListConnectionsRequest>,
    ) -> Result<Response<proto::ListConnectionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = convert::filter(&request)?;
        let page = Page::parse(&self.app.keys, LIST, &filter, request.page_size, &request.page_token)?;
        let listed = db::retry("connections.list", || super::list(&self.app, &caller, &filter, &page));
        let (rows, sight) = listed.await?;
        let (rows, next_page_token) = page.finish(&self.app.keys, LIST, &filter, rows, |it| it.settings.name.clone());
        Ok(Response::new(proto::ListConnectionsResponse {
            connections: rows.into_iter().map(|it| convert::seen(it, sight)).collect(),
            next_page_token,
        }))
    }

    async fn update_connection(
        &self,
        request: Request<proto::UpdateConnectionRequest>,
    ) -> Result<Response<proto::Connection>, Status> {
        let caller = Caller::of(&request)?;
        let (id, etag, changes) = convert::changes(request.get_ref())?;
        let changed = db::retry("connections.change", || {
            super::change(&self.app, &caller, id, &etag, &changes)
        });
        Ok(Response::new(convert::seen(changed.await?, Sight::Admin)))
    }

    async fn delete_connection(
        &self,
        request: Request<proto::DeleteConnectionRequest>,
    ) -> Result<Response<proto::DeleteConnectionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = Violations::only_id("id", &request.id)?;
        db::retry("connections.delete", || {
            super::delete(&self.app, &caller, id, &request.etag)
        })
        .await?;
        Ok(Response::new(proto::DeleteConnectionResponse {}))
    }

    async fn test_connection(
        &self,
        request: Request<proto::TestConnectionRequest>,
    ) -> Result<Response<proto::TestConnectionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let tested = match request.into_inner().of {
            Some(Of::Id(id)) => testing::saved(&self.app, &caller, Violations::only_id("id", &id)?).await?,
            Some(Of::Connection(given)) => testing::unsaved(&self.app, &caller, convert::unsaved(&given)?).await?,
            None => return Err(Error::invalid("of", "must be an id or a connection").into()),
        };
        Ok(Response::new(tested.into()))
    }
}
