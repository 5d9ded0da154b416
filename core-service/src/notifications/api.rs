//! The RPCs of `NotificationService`.

use std::sync::Arc;

use service_kit::{auth::Caller, db, error::Violations, page::Page};
use studios_proto::core::{self as proto, notification_service_server::NotificationService};
use tonic::{Request, Response, Status};

use super::convert;
use crate::App;

const LIST_CHANNELS: &str = "/studios.core.v1.NotificationService/ListNotificationChannels";
const LIST_DELIVERIES: &str = "/studios.core.v1.NotificationService/ListNotificationDeliveries";

/// Serves `NotificationService`.
#[derive(Clone)]
pub struct Notifications {
    app: Arc<App>,
}

impl Notifications {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl NotificationService for Notifications {
    async fn create_notification_channel(
        &self,
        request: Request<proto::CreateNotificationChannelRequest>,
    ) -> Result<Response<proto::CreateNotificationChannelResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (company, kind, new) = convert::new(request.into_inner())?;
        let made = db::retry("notifications.create", || {
            super::create(&self.app, &caller, company, kind, &new)
        });
        let (channel, secret) = made.await?;
        Ok(Response::new(proto::CreateNotificationChannelResponse {
            channel: Some(channel.into()),
            secret: secret.map(|it| it.text()).unwrap_or_default(),
        }))
    }

    async fn get_notification_channel(
        &self,
        request: Request<proto::GetNotificationChannelRequest>,
    ) -> Result<Response<proto::NotificationChannel>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let channel = db::retry("notifications.get", || super::get(&self.app, &caller, id)).await?;
        Ok(Response::new(channel.into()))
    }

    async fn list_notification_channels(
        &self,
        request: Request<proto::ListNotificationChannelsRequest>,
    ) -> Result<Response<proto::ListNotificationChannelsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (request, keys) = (request.get_ref(), &self.app.keys);
        let company = Violations::only_id("company_id", &request.company_id)?;
        let page = Page::parse(keys, LIST_CHANNELS, &company, request.page_size, &request.page_token)?;
        let rows = db::retry("notifications.list", || super::list(&self.app, &caller, company, &page)).await?;
        let (found, next_page_token) = page.finish(keys, LIST_CHANNELS, &company, rows, |it| it.id);
        Ok(Response::new(proto::ListNotificationChannelsResponse {
            channels: found.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn update_notification_channel(
        &self,
        request: Request<proto::UpdateNotificationChannelRequest>,
    ) -> Result<Response<proto::NotificationChannel>, Status> {
        let caller = Caller::of(&request)?;
        let (id, etag, changes) = convert::changes(request.get_ref())?;
        let changed = db::retry("notifications.change", || {
            super::change(&self.app, &caller, id, &etag, &changes)
        });
        Ok(Response::new(changed.await?.into()))
    }

    async fn delete_notification_channel(
        &self,
        request: Request<proto::DeleteNotificationChannelRequest>,
    ) -> Result<Response<proto::DeleteNotificationChannelResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        db::retry("notifications.delete", || super::delete(&self.app, &caller, id)).await?;
        Ok(Response::new(proto::DeleteNotificationChannelResponse {}))
    }

    async fn rotate_notification_secret(
        &self,
        request: Request<proto::RotateNotificationSecretRequest>,
    ) -> Result<Response<proto::RotateNotificationSecretResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let secret = db::retry("notifications.rotate", || super::rotate(&self.app, &caller, id)).await?;
        Ok(Response::new(proto::RotateNotificationSecretResponse {
            secret: secret.text(),
        }))
    }

    async fn test_notification_channel(
        &self,
        request: Request<proto::TestNotificationChannelRequest>,
    ) -> Result<Response<proto::NotificationDelivery>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let delivery = db::retry("notifications.test", || super::test(&self.app, &caller, id)).await?;
        Ok(Response::new(delivery.into()))
    }

    async fn list_notification_deliveries(
        &self,
        request: Request<proto::ListNotificationDeliveriesRequest>,
    ) -> Result<Response<proto::ListNotificationDeliveriesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (request, keys) = (request.get_ref(), &self.app.keys);
        let filter = convert::filter(request)?;
        let page = Page::parse(keys, LIST_DELIVERIES, &filter, request.page_size, &request.page_token)?;
        let listed = db::retry("notifications.deliveries", || {
            super::deliveries(&self.app, &caller, filter.0, filter.1, &page)
        });
        let (found, next_page_token) = page.finish(keys, LIST_DELIVERIES, &filter, listed.await?, |it| it.id);
        Ok(Response::new(proto::ListNotificationDeliveriesResponse {
            deliveries: found.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn redeliver_notification(
        &self,
        request: Request<proto::RedeliverNotificationRequest>,
    ) -> Result<Response<proto::NotificationDelivery>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let delivery = db::retry("notifications.redeliver", || super::redeliver(&self.app, &caller, id)).await?;
        Ok(Response::new(delivery.into()))
    }
}
