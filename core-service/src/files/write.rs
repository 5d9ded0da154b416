//! Taking an upload's bytes: into the store in whole parts, what follows the last one into the upload's row.
//!
//! One writer has an upload at a time, by a lease that it renews as bytes come; what a writer without its lease still does
//! changes no row. A stream that breaks leaves what came of it, so that the next one goes on there; one with a sum leaves nothing
//! unless all of it came and the sum is right. Memory holds a part, whatever the size.

use std::{mem, pin::pin, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use service_kit::{
    auth::Caller,
    db::{self, Claims, TenantTx},
    error::{Error, Result},
    ids::{LeaseId, UploadId, UserId},
};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};

use super::{
    File,
    checksum::{Checksum, Sum},
    finish,
    inspect::Inspector,
    pending::Pending,
    reached,
    reserve::{self, LEASE, NewFile, Upload, gone, in_use},
    upload_store,
};
use crate::{App, objects::Key, requests};

/// How long a stream may be silent.
const IDLE: Duration = Duration::from_secs(30);

/// After how long a lease is renewed: with what may be silent well within it.
const RENEW: Duration = Duration::from_secs(15);

/// How much comes between one keeping of how far an upload is and the next.
const KEEP_BYTES: i64 = 8 << 20;

/// How long a stream waits for its turn.
const TURN: Duration = Duration::from_secs(20);

/// How far an upload is after a stream.
pub(super) struct Written {
    pub(super) offset: i64,
    pub(super) expires_at: OffsetDateTime,
    /// Once it is whole.
    pub(super) file: Option<File>,
}

/// Uploads a file as one stream, which leaves it or nothing.
pub(super) async fn at_once(
    app: &App,
    caller: &Caller,
    new: &NewFile,
    data: impl Stream<Item = Result<Bytes>> + Send,
) -> Result<File> {
    let known = || db::retry("files.repeated", || repeated(app, caller, new));
    if let Some(first) = known().await? {
        return Ok(first);
    }
    let _turn = turn(app).await?;
    let lease = LeaseId::generate();
    let upload = reserve::at_once(app, caller, lease, new).await?;
    let id = upload.id;
    let mut writer = Writer::new(app, caller.user, lease, upload)?;
    writer.is_kept = false;
    writer.key.clone_from(&new.key);
    let taken = async {
        writer.take_all(data).await?;
        if !writer.is_whole() {
            let (size, came) = (writer.upload.size_bytes, writer.upload.received_bytes);
            return Err(Error::invalid(
                "file.size_bytes",
                format!("{size} bytes were announced and {came} came"),
            ));
        }
        writer.finish().await
    }
    .await;
    if taken.is_err()
        && let Err(error) = reserve::end(app, caller.user, id, Some(lease)).await
    {
        tracing::debug!(%error, "the upload is left to expire");
    }
    if taken.is_err()
        && let Some(first) = known().await?
    {
        // The same upload came to its end while this one was under way.
        return Ok(first);
    }
    taken
}

/// The file that the same upload has made before.
async fn repeated(app: &App, caller: &Caller, new: &NewFile) -> Result<Option<File>> {
    if new.key.is_none() {
        return Ok(None);
    }
    let mut tx = TenantTx::begin(&app.pool, "files.repeated", &Claims::user(caller.user)).await?;
    match requests::made(&mut tx, new.key.as_ref()).await? {
        Some(file) => reached(&mut tx, file).await.map(Some),
        None => Ok(None),
    }
}

/// Goes on with a resumable upload at `offset`.
///
/// # Errors
/// `FailedPrecondition` with `OFFSET_MISMATCH` where it is elsewhere, `Aborted` with `UPLOAD_IN_USE` where another stream has it.
pub(super) async fn resume(
    app: &App,
    user: UserId,
    id: UploadId,
    offset: i64,
    checksum: Option<Checksum>,
    data: impl Stream<Item = Result<Bytes>> + Send,
) -> Result<Written> {
    let _turn = turn(app).await?;
    let lease = LeaseId::generate();
    let upload = take(app, user, id, lease).await?;
    let result = async {
        if upload.received_bytes != offset {
            return Err(Error::FailedPrecondition {
                reason: "OFFSET_MISMATCH",
                message: format!("{} bytes are kept", upload.received_bytes),
            });
        }
        let writer = Writer::new(app, user, lease, upload)?;
        match checksum {
            None => writer.take_and_keep(data).await,
            Some(sum) => writer.take_checked(sum, data).await,
        }
    }
    .await;
    if result.is_err() {
        release(app, user, id, lease).await;
    }
    result
}

async fn turn(app: &App) -> Result<tokio::sync::OwnedSemaphorePermit> {
    let turn = timeout(TURN, app.files.writers.clone().acquire_owned()).await;
    turn.map_err(|_| Error::Unavailable {
        reason: "TOO_MANY_UPLOADS",
        message: "as many uploads are being written as may be".into(),
        retry_after: Some(Duration::from_secs(5)),
    })?
    .map_err(Error::internal)
}

async fn take(app: &App, user: UserId, id: UploadId, lease: LeaseId) -> Result<Upload> {
    let mut tx = TenantTx::begin(&app.pool, "files.take_upload", &Claims::user(user)).await?;
    let taken = upload_store::lease(&mut tx, id, lease, LEASE).await?;
    let upload = upload_store::find(&mut tx, id).await?.ok_or_else(|| gone(id))?;
    if !taken {
        return Err(in_use());
    }
    tx.commit().await?;
    Ok(upload)
}

/// Lets the next one go on; where that fails, he waits for the lease to run out.
async fn release(app: &App, user: UserId, id: UploadId, lease: LeaseId) {
    let released = async {
        let mut tx = TenantTx::begin(&app.pool, "files.release_upload", &Claims::user(user)).await?;
        upload_store::release(&mut tx, id, lease).await?;
        tx.commit().await
    };
    if let Err(error) = released.await {
        tracing::debug!(%error, "an upload's lease is left to run out");
    }
}

/// Who writes an upload.
pub(super) struct Writer<'a> {
    pub(super) app: &'a App,
    pub(super) user: UserId,
    pub(super) lease: LeaseId,
    pub(super) upload: Upload,
    pub(super) inspector: Inspector,
    /// What makes a repeated upload answer with its file.
    pub(super) key: Option<requests::Key>,
    pending: Pending,
    kept_bytes: i64,
    /// What a try that came to nothing has written parts by.
    stale: Option<String>,
    renewed: Instant,
    /// Whether what comes is kept as it comes.
    is_kept: bool,
    /// Whether the stream ended otherwise than it should.
    has_broken: bool,
}

impl<'a> Writer<'a> {
    fn new(app: &'a App, user: UserId, lease: LeaseId, mut upload: Upload) -> Result<Self> {
        let inspector = match &upload.inspection {
            Some(saved) => Inspector::load(saved)?,
            None => Inspector::new(),
        };
        let mut pending = Pending::default();
        pending.push(mem::take(&mut upload.tail).into());
        let stale = upload.multipart.take_if(|_| upload.parts.is_empty());
        Ok(Self {
            app,
            user,
            lease,
            inspector,
            key: None,
            pending,
            kept_bytes: upload.received_bytes,
            stale,
            renewed: Instant::now(),
            is_kept: true,
            has_broken: false,
            upload,
        })
    }

    fn is_whole(&self) -> bool {
        self.upload.received_bytes == self.upload.size_bytes
    }

    async fn take_and_keep(mut self, data: impl Stream<Item = Result<Bytes>> + Send) -> Result<Written> {
        let taken = self.take_all(data).await;
        // What came before a stream broke is good. Where it could not be written, or more came than may, it is as if none had.
        let broken = match taken {
            Err(error) if self.has_broken => Some(error),
            taken => taken.map(|()| None)?,
        };
        if self.is_whole() {
            return self.finished().await;
        }
        self.keep(true).await?;
        broken.map_or_else(|| Ok(self.written(None)), Err)
    }

    async fn take_checked(
        mut self,
        checksum: Checksum,
        data: impl Stream<Item = Result<Bytes>> + Send,
    ) -> Result<Written> {
        self.is_kept = false;
        let mut sum = Sum::new(&checksum);
        let data = data.inspect(|it| {
            if let Ok(bytes) = it {
                sum.add(bytes);
            }
        });
        self.take_all(data).await?;
        if !sum.is(&checksum) {
            return Err(Error::FailedPrecondition {
                reason: "CHECKSUM_MISMATCH",
                message: "the bytes do not have this sum; none of them are kept".into(),
            });
        }
        if self.is_whole() {
            return self.finished().await;
        }
        self.keep(true).await?;
        Ok(self.written(None))
    }

    async fn finished(mut self) -> Result<Written> {
        let file = self.finish().await?;
        Ok(self.written(Some(file)))
    }

    fn written(&self, file: Option<File>) -> Written {
        Written {
            offset: self.upload.received_bytes,
            expires_at: self.upload.expires_at,
            file,
        }
    }

    async fn take_all(&mut self, data: impl Stream<Item = Result<Bytes>> + Send) -> Result<()> {
        let mut data = pin!(data);
        loop {
            match timeout(IDLE, data.next()).await {
                Ok(Some(Ok(bytes))) => self.take(bytes).await?,
                Ok(None) => return Ok(()),
                broken => {
                    self.has_broken = true;
                    return Err(match broken {
                        Ok(Some(Err(error))) => error,
                        _ => Error::DeadlineExceeded,
                    });
                }
            }
        }
    }

    async fn take(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let length = i64::try_from(bytes.len()).map_err(Error::internal)?;
        if length > self.upload.size_bytes - self.upload.received_bytes {
            return Err(Error::invalid(
                "file.size_bytes",
                format!(
                    "more came than the {} bytes that were announced",
                    self.upload.size_bytes
                ),
            ));
        }
        self.inspector.look(&bytes);
        self.upload.received_bytes += length;
        self.pending.push(bytes);
        let part_bytes = usize::try_from(self.upload.part_bytes).map_err(Error::internal)?;
        while self.pending.len() >= part_bytes {
            let part = self.pending.cut(part_bytes);
            self.put(part).await?;
        }
        // Only between parts, so that no tail has to be copied.
        if self.is_kept && self.upload.received_bytes - self.kept_bytes >= KEEP_BYTES {
            self.keep(false).await?;
        }
        if self.renewed.elapsed() > RENEW {
            self.renew(LEASE).await?;
        }
        Ok(())
    }

    async fn put(&mut self, part: Vec<Bytes>) -> Result<()> {
        let key = Key::staging(self.upload.company, self.upload.id);
        let multipart = if let Some(id) = &self.upload.multipart {
            id.clone()
        } else {
            if let Some(stale) = self.stale.take() {
                self.app.objects.remove(&key, Some(&stale)).await?;
            }
            let id = self.app.objects.begin(&key).await?;
            let mut tx = TenantTx::begin(&self.app.pool, "files.begin_parts", &Claims::user(self.user)).await?;
            if !upload_store::set_multipart(&mut tx, self.upload.id, self.lease, &id).await? {
                // Nobody else will know of it.
                self.app.objects.remove(&key, Some(&id)).await?;
                return Err(gone(self.upload.id));
            }
            tx.commit().await?;
            self.upload.multipart.insert(id).clone()
        };
        let place = self.upload.parts.len();
        let id = self.app.objects.put_part(&key, &multipart, place, part).await?;
        self.upload.parts.push(id);
        Ok(())
    }

    /// Puts what is pending as the last part.
    pub(super) async fn put_rest(&mut self) -> Result<()> {
        if self.pending.len() > 0 {
            let rest = self.pending.cut(usize::MAX);
            self.put(rest).await?;
        }
        Ok(())
    }

    /// Keeps how far the upload is.
    pub(super) async fn keep(&mut self, is_over: bool) -> Result<()> {
        self.upload.tail = self.pending.copied();
        self.upload.inspection = Some(self.inspector.save());
        let mut tx = TenantTx::begin(&self.app.pool, "files.keep_upload", &Claims::user(self.user)).await?;
        if !upload_store::save(&mut tx, &self.upload, self.lease, is_over).await? {
            return Err(gone(self.upload.id));
        }
        tx.commit().await?;
        self.upload.tail = Vec::new();
        self.kept_bytes = self.upload.received_bytes;
        Ok(())
    }

    /// Keeps that nothing has come, if it is said that something has.
    pub(super) async fn start_over(&mut self) -> Result<()> {
        if self.kept_bytes == 0 {
            return Ok(());
        }
        let nothing = Upload {
            received_bytes: 0,
            parts: Vec::new(),
            tail: Vec::new(),
            inspection: None,
            ..self.upload.clone()
        };
        let mut tx = TenantTx::begin(&self.app.pool, "files.start_over", &Claims::user(self.user)).await?;
        if !upload_store::save(&mut tx, &nothing, self.lease, false).await? {
            return Err(gone(self.upload.id));
        }
        tx.commit().await?;
        self.kept_bytes = 0;
        Ok(())
    }

    pub(super) async fn renew(&mut self, time: Duration) -> Result<()> {
        let mut tx = TenantTx::begin(&self.app.pool, "files.renew_upload", &Claims::user(self.user)).await?;
        if !upload_store::renew(&mut tx, self.upload.id, self.lease, time).await? {
            return Err(gone(self.upload.id));
        }
        tx.commit().await?;
        self.renewed = Instant::now();
        Ok(())
    }

    async fn finish(&mut self) -> Result<File> {
        finish::finish(self).await
    }
}
