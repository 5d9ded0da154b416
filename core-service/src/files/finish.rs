//! The end of an upload: its bytes are checked, made one object under their hash's name, and become a file in the commit that
//! ends the reservation.
//!
//! Every step may be done again after a crash: the object's id is the upload's, so a second try finds what the first one made.
//! Before parts become an object the upload is said to be at its beginning: what is kept of it never outlives its parts.
//! No network call is made inside a transaction; that identical content is there was looked up before, and is looked at again
//! in the commit.

use std::time::Duration;

use service_kit::{
    db::{self, Claims, TenantTx},
    error::{Error, Result},
    ids::{FileId, ObjectId},
};

use super::{
    File, Mime, State, about,
    inspect::{self, Found},
    reached, record,
    reserve::{self, gone},
    upload_store,
    write::Writer,
};
use crate::{
    App,
    jobs::{self, Task},
    objects::Key,
    requests,
};

/// How long a store may take to make one object of the parts.
const COMPLETION: Duration = Duration::from_mins(5);

/// How often identical content may come and go while it is looked for.
const TRIES: u32 = 3;

pub(super) async fn finish(writer: &mut Writer<'_>) -> Result<File> {
    writer.put_rest().await?;
    writer.renew(COMPLETION).await?;
    let found = writer.inspector.clone().finish();
    if let Some(error) = objection(writer, &found) {
        // Nothing that comes could mend it.
        reserve::end(writer.app, writer.user, writer.upload.id, Some(writer.lease)).await?;
        return Err(error);
    }
    let own = ObjectId::from(writer.upload.id.as_uuid());
    for _ in 0..TRIES {
        let known = known(writer, &found).await?;
        let is_there = known.is_some();
        // What is there already is looked at too, and put where it should be if the store has lost it.
        place(writer, known.unwrap_or(own), &found).await?;
        let done = db::retry("files.finish", || commit(writer, own, is_there, &found)).await?;
        let Some((file, kept)) = done else { continue };
        let app = writer.app;
        if kept != own && !is_there {
            // The same content came first by another upload.
            let key = Key::object(writer.upload.company, &found.sha256, own);
            if let Err(error) = app.objects.remove(&key, None).await {
                tracing::warn!(%error, "an object is left for the sweeper");
            }
        }
        app.files.untidy.notify_one();
        app.job_signal.wake();
        tracing::info!(file = %file.id, size_bytes = file.size_bytes, "file uploaded");
        return Ok(file);
    }
    Err(Error::Aborted {
        reason: "CONCURRENT_UPDATE",
        message: "identical content came and went at the same time; try again".into(),
    })
}

fn objection(writer: &Writer<'_>, found: &Found) -> Option<Error> {
    let upload = &writer.upload;
    if upload.expected_sha256.as_ref().is_some_and(|it| *it != found.sha256) {
        return Some(Error::invalid("file.sha256", "is not that of the bytes that came"));
    }
    let Some(mime) = Mime::parse(&upload.mime_type) else {
        return Some(Error::invalid("file.mime_type", "is no longer taken"));
    };
    inspect::objection(mime, found).map(|why| Error::invalid("file.mime_type", why))
}

async fn known(writer: &Writer<'_>, found: &Found) -> Result<Option<ObjectId>> {
    let mut tx = TenantTx::begin(&writer.app.pool, "files.known", &Claims::user(writer.user)).await?;
    upload_store::find_object(&mut tx, writer.upload.company, &found.sha256).await
}

/// Makes the parts an object under its name, unless it is there.
async fn place(writer: &mut Writer<'_>, object: ObjectId, found: &Found) -> Result<()> {
    let (app, upload) = (writer.app, &writer.upload);
    let size = u64::try_from(upload.size_bytes).map_err(Error::internal)?;
    let to = Key::object(upload.company, &found.sha256, object);
    if app.objects.size(&to).await? == Some(size) {
        return Ok(());
    }
    writer.start_over().await?;
    let (app, upload) = (writer.app, &writer.upload);
    let staged = Key::staging(upload.company, upload.id);
    let multipart = upload.multipart.as_deref().unwrap_or_default();
    app.objects.complete(&staged, multipart, &upload.parts, size).await?;
    app.objects.rename(&staged, &to).await
}

/// Commits the file; nothing where content that was there has gone meanwhile.
async fn commit(writer: &Writer<'_>, own: ObjectId, is_there: bool, found: &Found) -> Result<Option<(File, ObjectId)>> {
    let (app, user, upload) = (writer.app, writer.user, &writer.upload);
    let mut tx = TenantTx::begin(&app.pool, "files.finish", &Claims::user(user)).await?;
    let kept = upload_store::keep_object(&mut tx, own, upload.company, &found.sha256, upload.size_bytes).await?;
    let kept = kept.ok_or_else(|| gone(upload.id))?;
    if is_there && kept == own {
        return Ok(None);
    }
    let state = initial(app);
    let (id, number) = match upload.file {
        Some(file) => {
            reached(&mut tx, file).await?;
            (file, upload_store::next_version(&mut tx, file).await?)
        }
        None => (FileId::generate(), 1),
    };
    if requests::claim(&mut tx, writer.key.as_ref(), id).await?.is_some() {
        return Err(Error::Aborted {
            reason: "CONCURRENT_UPDATE",
            message: "the same upload was made at the same time".into(),
        });
    }
    if upload.file.is_none() {
        upload_store::insert_file(&mut tx, id, upload, state, &found.sha256, user).await?;
    }
    upload_store::insert_version(&mut tx, id, number, kept, upload, state, &found.sha256, user).await?;
    if upload.file.is_some() && state == State::Ready {
        upload_store::set_current(&mut tx, id, number, upload, &found.sha256).await?;
    }
    if state == State::Scanning {
        let task = Task::ScanFile {
            file: id,
            version: number,
        };
        jobs::enqueue(&mut tx, upload.company, task).await?;
    }
    if !upload_store::delete(&mut tx, upload.id, Some(writer.lease)).await? {
        return Err(gone(upload.id));
    }
    let file = reached(&mut tx, id).await?;
    record(app, &mut tx, user, about(&file).with("version", number)).await?;
    tx.commit().await?;
    Ok(Some((file, kept)))
}

fn initial(app: &App) -> State {
    if app.files.scanner.is_some() {
        State::Scanning
    } else {
        State::Ready
    }
}
