//! The RPCs of `TransferService`: what the gateway does for whoever holds a signed URL.

use std::sync::Arc;

use service_kit::{db, error::Error, ids::UploadId, ids::UserId, lifecycle::Lifecycle, update};
use studios_proto::core::{self as proto, transfer_service_server::TransferService};
use tonic::{Request, Response, Status, Streaming};

use super::{
    api::{DownloadStream, answer, bytes, first, to_the_end},
    convert, download, reserve,
    urls::{Permit, Ticket},
    write,
};
use crate::{App, privacy};

/// Serves `TransferService`.
#[derive(Clone)]
pub struct Transfers {
    app: Arc<App>,
    lifecycle: Lifecycle,
}

impl Transfers {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>, lifecycle: Lifecycle) -> Self {
        Self { app, lifecycle }
    }

    /// Which upload a token is for, and for whom.
    fn upload(&self, token: &str) -> Result<(UploadId, UserId), Error> {
        let ticket = Ticket::open(&self.app.keys, token, self.app.clock.now())?;
        match ticket.permit {
            Permit::Upload(upload) => Ok((upload, ticket.user)),
            Permit::Download { .. } | Permit::Export(_) => Err(Error::not_found("URL", "")),
        }
    }
}

#[tonic::async_trait]
impl TransferService for Transfers {
    type ReadDownloadStream = DownloadStream;

    async fn get_upload(
        &self,
        request: Request<proto::GetUploadRequest>,
    ) -> Result<Response<proto::GetUploadResponse>, Status> {
        let (id, user) = self.upload(&request.get_ref().token)?;
        let upload = db::retry("files.upload", || reserve::find(&self.app, user, id)).await?;
        Ok(Response::new(proto::GetUploadResponse {
            offset: upload.received_bytes,
            size_bytes: upload.size_bytes,
            expire_time: Some(update::timestamp(upload.expires_at)),
        }))
    }

    async fn write_upload(
        &self,
        request: Request<Streaming<proto::WriteUploadRequest>>,
    ) -> Result<Response<proto::WriteUploadResponse>, Status> {
        let mut messages = request.into_inner();
        let mut message = first(&mut messages).await?;
        let (id, user) = self.upload(&message.token)?;
        let checksum = message.checksum.take().map(convert::checksum).transpose()?;
        let offset = message.offset;
        let data = bytes(message.data, messages, |it| it.data);
        let app = self.app.clone();
        let written = to_the_end(&self.lifecycle, async move {
            write::resume(&app, user, id, offset, checksum, data).await
        })
        .await?;
        Ok(Response::new(proto::WriteUploadResponse {
            offset: written.offset,
            expire_time: Some(update::timestamp(written.expires_at)),
            file: written.file.map(Into::into),
        }))
    }

    async fn end_upload(
        &self,
        request: Request<proto::EndUploadRequest>,
    ) -> Result<Response<proto::EndUploadResponse>, Status> {
        let (id, user) = self.upload(&request.get_ref().token)?;
        db::retry("files.end_upload", || reserve::end(&self.app, user, id, None)).await?;
        Ok(Response::new(proto::EndUploadResponse {}))
    }

    async fn read_download(
        &self,
        request: Request<proto::ReadDownloadRequest>,
    ) -> Result<Response<DownloadStream>, Status> {
        let request = request.get_ref();
        let ticket = Ticket::open(&self.app.keys, &request.token, self.app.clock.now())?;
        // Who holds a URL is not told more of what it names than that it is not there for him.
        let not_there = |error| match error {
            Error::NotFound { .. } => Error::not_found("URL", ""),
            other => other,
        };
        match ticket.permit {
            Permit::Upload(_) => Err(Error::not_found("URL", "").into()),
            Permit::Export(id) => {
                let archive = db::retry("privacy.archive", || privacy::archive(&self.app, ticket.user, id)).await;
                let archive = archive.map_err(not_there)?;
                let (offset, length) = asked(request, archive.size_bytes, &archive.sha256);
                let head = convert::archive(&archive, offset, length);
                let read = if request.head { 0 } else { length };
                let content = download::range(&self.app, &archive.key, offset, read).await?;
                Ok(Response::new(answer(head, content)))
            }
            Permit::Download { file, version, shown } => {
                let found = db::retry("files.read", || download::find(&self.app, ticket.user, file, version)).await;
                let stored = found.map_err(not_there)?;
                let (offset, length) = asked(request, stored.size_bytes, &stored.sha256);
                let head = convert::download(&stored, offset, length, shown);
                let read = if request.head { 0 } else { length };
                let content = download::read(&self.app, &stored, offset, read).await?;
                Ok(Response::new(answer(head, content)))
            }
        }
    }
}

/// The range that is asked for of something of this size and hash.
fn asked(request: &proto::ReadDownloadRequest, size: i64, sha256: &[u8]) -> (i64, i64) {
    if request.if_sha256.is_empty() || request.if_sha256 == hex::encode(sha256) {
        range(request, size)
    } else {
        (0, size)
    }
}

/// Where a range begins and how long it is; of one that holds nothing the length is 0.
fn range(asked: &proto::ReadDownloadRequest, size: i64) -> (i64, i64) {
    match (asked.first, asked.end, asked.last) {
        (Some(first), end, _) => {
            let end = end.map_or(size, |it| it.saturating_add(1).min(size));
            if first >= 0 && first < end {
                (first, end - first)
            } else {
                (0, 0)
            }
        }
        (None, _, Some(last)) => {
            let last = last.clamp(0, size);
            (size - last, last)
        }
        (None, _, None) => (0, size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_lies_within_the_size_or_holds_nothing() {
        let asked = |first, end, last| {
            let request = proto::ReadDownloadRequest {
                first,
                end,
                last,
                ..Default::default()
            };
            range(&request, 10)
        };
        assert_eq!(asked(None, None, None), (0, 10));
        assert_eq!(asked(Some(2), None, None), (2, 8));
        assert_eq!(asked(Some(2), Some(4), None), (2, 3));
        assert_eq!(asked(Some(2), Some(i64::MAX), None), (2, 8));
        assert_eq!(asked(None, None, Some(3)), (7, 3));
        assert_eq!(asked(None, None, Some(30)), (0, 10));
        for (first, end) in [(10, None), (5, Some(4)), (-1, None)] {
            assert_eq!(asked(Some(first), end, None), (0, 0));
        }
        assert_eq!(asked(None, None, Some(0)).1, 0);
    }
}
