//! The RPCs of `FileService`.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, stream, stream::BoxStream};
use service_kit::{
    audit,
    auth::Caller,
    db,
    error::{Error, Result as Done, Violations},
    ids::{PrivacyRequestId, UserId},
    lifecycle::Lifecycle,
    page::Page,
    update,
};
use studios_proto::core::{self as proto, file_service_server::FileService};
use time::OffsetDateTime;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use super::{
    CleanUp, FileUpdate, Filter,
    convert::{self, MISSING},
    download::{self, Content},
    reserve::{self, NewFile},
    urls::{Permit, Ticket},
    write,
};
use crate::App;

const LIST: &str = "/studios.core.v1.FileService/ListFiles";
const LIST_VERSIONS: &str = "/studios.core.v1.FileService/ListFileVersions";

/// How long a stream's first message may take.
const FIRST: Duration = Duration::from_secs(30);

/// Serves `FileService`.
#[derive(Clone)]
pub struct Files {
    app: Arc<App>,
    lifecycle: Lifecycle,
}

impl Files {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>, lifecycle: Lifecycle) -> Self {
        Self { app, lifecycle }
    }
}

/// What a download answers with.
pub(super) type DownloadStream = BoxStream<'static, Result<proto::DownloadFileResponse, Status>>;

#[tonic::async_trait]
impl FileService for Files {
    type DownloadFileStream = DownloadStream;

    async fn upload_file(
        &self,
        request: Request<Streaming<proto::UploadFileRequest>>,
    ) -> Result<Response<proto::File>, Status> {
        let caller = Caller::of(&request)?;
        let mut messages = request.into_inner();
        let mut message = first(&mut messages).await?;
        let new = NewFile::try_from(message.file.take().unwrap_or_default())?;
        let data = bytes(message.data, messages, |it| it.data);
        let app = self.app.clone();
        let file = to_the_end(&self.lifecycle, async move {
            write::at_once(&app, &caller, &new, data).await
        })
        .await?;
        Ok(Response::new(file.into()))
    }

    async fn create_upload(
        &self,
        request: Request<proto::CreateUploadRequest>,
    ) -> Result<Response<proto::Upload>, Status> {
        let caller = Caller::of(&request)?;
        let new = NewFile::try_from(request.into_inner().file.unwrap_or_default())?;
        if new.key.is_some() {
            return Err(Error::invalid("file.request_id", "must not be given for a resumable upload").into());
        }
        let upload = db::retry("files.reserve", || reserve::resumable(&self.app, &caller, &new)).await?;
        let ticket = Ticket::new(Permit::Upload(upload.id), caller.user, upload.expires_at);
        Ok(Response::new(proto::Upload {
            id: upload.id.to_string(),
            url_path: format!("/files/uploads/{}", ticket.seal(&self.app.keys)),
            size_bytes: upload.size_bytes,
            expire_time: Some(update::timestamp(upload.expires_at)),
        }))
    }

    async fn download_file(
        &self,
        request: Request<proto::DownloadFileRequest>,
    ) -> Result<Response<DownloadStream>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.get_ref();
        let mut violations = Violations::new();
        let id = violations.id("id", &request.id);
        let version = violations.include(convert::version(request.version))?;
        for (field, given) in [("offset", request.offset), ("length", request.length)] {
            if given < 0 {
                violations.add(field, "must not be negative");
            }
        }
        violations.finish()?;
        let (id, version) = (id.expect(MISSING), version.expect(MISSING));
        let stored = db::retry("files.read", || download::find(&self.app, caller.user, id, version)).await?;
        if request.offset >= stored.size_bytes {
            return Err(Error::invalid("offset", format!("must be less than the size, {}", stored.size_bytes)).into());
        }
        let rest = stored.size_bytes - request.offset;
        let length = if request.length == 0 {
            rest
        } else {
            request.length.min(rest)
        };
        let content = download::read(&self.app, &stored, request.offset, length).await?;
        let head = convert::download(&stored, request.offset, length, false);
        Ok(Response::new(answer(head, content)))
    }

    async fn create_download_url(
        &self,
        request: Request<proto::CreateDownloadUrlRequest>,
    ) -> Result<Response<proto::DownloadUrl>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.get_ref();
        let mut violations = Violations::new();
        let id = violations.id("id", &request.id);
        let version = violations.include(convert::version(request.version))?;
        let end = violations.include(convert::url_end(request.lifetime.as_ref(), self.app.clock.now()))?;
        violations.finish()?;
        let (file, version, end) = (id.expect(MISSING), version.expect(MISSING), end.expect(MISSING));
        db::retry("files.share", || super::share(&self.app, &caller, file)).await?;
        let permit = Permit::Download {
            file,
            version,
            shown: request.shown,
        };
        Ok(Response::new(download_url(&self.app, permit, caller.user, end)))
    }

    async fn get_file(&self, request: Request<proto::GetFileRequest>) -> Result<Response<proto::File>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let file = db::retry("files.get", || super::get(&self.app, &caller, id)).await?;
        Ok(Response::new(file.into()))
    }

    async fn list_files(
        &self,
        request: Request<proto::ListFilesRequest>,
    ) -> Result<Response<proto::ListFilesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (request, keys) = (request.get_ref(), &self.app.keys);
        let filter = Filter::try_from(request)?;
        let page = Page::parse(keys, LIST, &filter, request.page_size, &request.page_token)?;
        let rows = db::retry("files.list", || super::list(&self.app, &caller, &filter, &page)).await?;
        let (files, next_page_token) = page.finish(keys, LIST, &filter, rows, |it| it.id);
        Ok(Response::new(proto::ListFilesResponse {
            files: files.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn list_file_versions(
        &self,
        request: Request<proto::ListFileVersionsRequest>,
    ) -> Result<Response<proto::ListFileVersionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (request, keys) = (request.get_ref(), &self.app.keys);
        let mut violations = Violations::new();
        let id = violations.id("file_id", &request.file_id);
        let page = Page::parse(keys, LIST_VERSIONS, &id, request.page_size, &request.page_token);
        let page = violations.include(page)?;
        violations.finish()?;
        let (file, page) = (id.expect(MISSING), page.expect(MISSING));
        let rows = db::retry("files.versions", || super::versions(&self.app, &caller, file, &page)).await?;
        let (versions, next_page_token) = page.finish(keys, LIST_VERSIONS, &id, rows, |it| it.number);
        Ok(Response::new(proto::ListFileVersionsResponse {
            versions: versions.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn update_file(&self, request: Request<proto::UpdateFileRequest>) -> Result<Response<proto::File>, Status> {
        let caller = Caller::of(&request)?;
        let update = FileUpdate::try_from(request.into_inner())?;
        let file = db::retry("files.update", || super::update(&self.app, &caller, &update)).await?;
        Ok(Response::new(file.into()))
    }

    async fn delete_file(&self, request: Request<proto::DeleteFileRequest>) -> Result<Response<proto::File>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.get_ref();
        let id = Violations::only_id("id", &request.id)?;
        let file = db::retry("files.delete", || super::delete(&self.app, &caller, id, &request.etag)).await?;
        Ok(Response::new(file.into()))
    }

    async fn undelete_file(
        &self,
        request: Request<proto::UndeleteFileRequest>,
    ) -> Result<Response<proto::File>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let file = db::retry("files.undelete", || super::undelete(&self.app, &caller, id)).await?;
        Ok(Response::new(file.into()))
    }

    async fn clean_up_files(
        &self,
        request: Request<proto::CleanUpFilesRequest>,
    ) -> Result<Response<proto::CleanUpFilesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let clean_up = CleanUp::try_from(request.get_ref())?;
        let files = db::retry("files.clean_up", || super::clean_up(&self.app, &caller, &clean_up)).await?;
        Ok(Response::new(proto::CleanUpFilesResponse {
            size_bytes: files.iter().map(|it| it.size_bytes).sum(),
            files: files.into_iter().map(Into::into).collect(),
        }))
    }
}

/// A stream's first message.
pub(super) async fn first<T>(messages: &mut Streaming<T>) -> Result<T, Status> {
    let first = timeout(FIRST, messages.message()).await;
    let first = first.map_err(|_| Error::DeadlineExceeded)??;
    Ok(first.ok_or_else(|| Error::invalid("", "the stream must have a message"))?)
}

/// The bytes that come in a stream, those of its first message before them.
pub(super) fn bytes<T: Send + 'static>(
    head: Bytes,
    messages: Streaming<T>,
    data: fn(T) -> Bytes,
) -> impl Stream<Item = Done<Bytes>> + Send {
    let rest = messages.map(move |it| match it {
        Ok(message) => Ok(data(message)),
        Err(status) => {
            tracing::debug!(%status, "an upload's stream broke");
            Err(Error::Cancelled)
        }
    });
    stream::once(async { Ok(head) }).chain(rest)
}

/// Does work that is not to be dropped where its caller goes away: what has come is to be kept, or removed. It is the process's
/// hard end that ends it.
pub(super) async fn to_the_end<T: Send + 'static>(
    lifecycle: &Lifecycle,
    work: impl Future<Output = Done<T>> + Send + 'static,
) -> Done<T> {
    let hard = lifecycle.hard();
    let work = audit::within_origin(audit::current_origin(), work);
    let work = AssertUnwindSafe(work).catch_unwind();
    let work = async move {
        tokio::select! {
            done = work => done.unwrap_or_else(|_| Err(Error::internal("an upload panicked"))),
            () = hard.cancelled() => Err(Error::Cancelled),
        }
    };
    lifecycle
        .spawn("upload", work.in_current_span())
        .await
        .map_err(Error::internal)?
}

/// A signed URL at which a user reads the archive of an export.
pub(crate) fn export_url(
    app: &App,
    user: UserId,
    export: PrivacyRequestId,
    lifetime: Option<&prost_types::Duration>,
) -> Done<proto::DownloadUrl> {
    let end = convert::url_end(lifetime, app.clock.now())?;
    Ok(download_url(app, Permit::Export(export), user, end))
}

fn download_url(app: &App, permit: Permit, user: UserId, end: OffsetDateTime) -> proto::DownloadUrl {
    let token = Ticket::new(permit, user, end).seal(&app.keys);
    proto::DownloadUrl {
        url_path: format!("/files/downloads/{token}"),
        expire_time: Some(update::timestamp(end)),
    }
}

/// A download as its stream answers it.
pub(super) fn answer(head: proto::Download, content: Content) -> DownloadStream {
    let head = proto::DownloadFileResponse {
        download: Some(head),
        data: Bytes::new(),
    };
    let data = content.map(|it| {
        it.map(|data| proto::DownloadFileResponse { download: None, data })
            .map_err(Status::from)
    });
    stream::once(async { Ok(head) }).chain(data).boxed()
}
