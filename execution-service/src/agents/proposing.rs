//! Deciding a proposal: a new document is made, or a new version of one, in the name of who accepts.
//!
//! A change is a new version of the file that the document was made from; a document that was not made from a text file gets one
//! first, whose first version is the text before. The document is made anew from it and takes the old one's place, so every
//! version is kept and searches find the newest. Whatever a crash leaves behind is found when it is accepted once more: what is made
//! for a proposal is known to core-service by the proposal and by what it is, and a version that is noted by its document.

use service_kit::{
    audit::About,
    auth::Caller,
    db::TenantTx,
    error::{Error, Result},
    ids::{AgentRequestId, DocumentId, FileId},
};
use uuid::Uuid;

use super::{Decision, Proposal, Request, edit, enter_request, read_request, request_store, settled};
use crate::{
    App,
    access::{Access, Described, Made, MadeOf, NewUpload, Role, named},
};

/// Accepts what a request proposes; a title is another one for a new document.
pub(super) async fn accept(app: &App, caller: &Caller, id: AgentRequestId, title: &str) -> Result<Request> {
    let access = enter_request(app, caller, id).await?;
    settled(app, &access, id).await?;
    let request = claim(app, &access, id, title).await?;
    let proposal = request.proposal.as_ref().ok_or_else(no_proposal)?;
    if proposal.decision == Some(Decision::Accepted) {
        tidy(app, caller, proposal.document).await?;
        return settled(app, &access, id).await;
    }
    let made = match proposal.document {
        None => create(app, caller, &access, &request, proposal, title).await,
        Some(document) => replace(app, caller, &access, &request, proposal, document).await,
    };
    let made = match made {
        Ok(made) => made,
        Err(error) => {
            let mut tx = TenantTx::begin(&app.pool, "agents.release", &access.claims).await?;
            request_store::lock_proposal(&mut tx, id).await?;
            // Another one may have accepted it since.
            let now = read_request(&mut tx, id).await?.proposal.and_then(|it| it.decision);
            if now == Some(Decision::Accepting) {
                request_store::decide(&mut tx, id, None, None).await?;
                tx.commit().await?;
            }
            return Err(error);
        }
    };
    let mut tx = TenantTx::begin(&app.pool, "agents.accept", &access.claims).await?;
    request_store::lock_proposal(&mut tx, id).await?;
    request_store::decide(&mut tx, id, Some(Decision::Accepted), Some(made)).await?;
    let about = About::company(access.company, "agent_request", id);
    app.audit.record(&mut tx, about).await?;
    tx.commit().await?;
    tidy(app, caller, proposal.document).await?;
    settled(app, &access, id).await
}

/// Turns down what a request proposes.
pub(super) async fn reject(app: &App, caller: &Caller, id: AgentRequestId) -> Result<Request> {
    let access = enter_request(app, caller, id).await?;
    settled(app, &access, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "agents.reject", &access.claims).await?;
    if !request_store::lock_proposal(&mut tx, id).await? {
        return Err(no_proposal());
    }
    let request = read_request(&mut tx, id).await?;
    match request.proposal.and_then(|it| it.decision) {
        Some(Decision::Rejected) => {}
        Some(Decision::Accepting | Decision::Accepted) => return Err(decided()),
        None => {
            request_store::decide(&mut tx, id, Some(Decision::Rejected), None).await?;
            let about = About::company(access.company, "agent_request", id);
            app.audit.record(&mut tx, about).await?;
            tx.commit().await?;
        }
    }
    settled(app, &access, id).await
}

/// Takes a proposal to accept it, unless it is accepted already; as it was before.
async fn claim(app: &App, access: &Access, id: AgentRequestId, title: &str) -> Result<Request> {
    let mut tx = TenantTx::begin(&app.pool, "agents.claim", &access.claims).await?;
    if !request_store::lock_proposal(&mut tx, id).await? {
        return Err(no_proposal());
    }
    let request = read_request(&mut tx, id).await?;
    let proposal = request.proposal.as_ref().ok_or_else(no_proposal)?;
    if proposal.document.is_some() && !title.is_empty() {
        return Err(Error::invalid("title", "must be empty but of a new document"));
    }
    match proposal.decision {
        Some(Decision::Rejected) => return Err(decided()),
        Some(Decision::Accepting | Decision::Accepted) => {}
        None => {
            request_store::decide(&mut tx, id, Some(Decision::Accepting), None).await?;
            tx.commit().await?;
        }
    }
    Ok(request)
}

/// Makes a new document. It is made as it is proposed and called otherwise then: whoever accepts it once more after a crash, under
/// whatever title, finds the one that is there.
async fn create(
    app: &App,
    caller: &Caller,
    access: &Access,
    request: &Request,
    proposal: &Proposal,
    title: &str,
) -> Result<DocumentId> {
    let studio = access.claims.studio_id.ok_or_else(no_proposal)?;
    let made = Made {
        described: Described::markdown(studio, proposal.title.clone(), caller.user),
        origin: MadeOf::Text(proposal.text.clone()),
        cause: cause(request),
    };
    let document = app.core.create_document(caller.user, &made).await?;
    if !title.is_empty() && title != proposal.title {
        app.core.rename_document(caller.user, document, title).await?;
    }
    Ok(document)
}

/// Makes a document with the proposed text in the place of another.
async fn replace(
    app: &App,
    caller: &Caller,
    access: &Access,
    request: &Request,
    proposal: &Proposal,
    document: DocumentId,
) -> Result<DocumentId> {
    let user = caller.user;
    let described = app.core.document(user, document).await.map_err(stale_where_gone)?;
    if described.created_by != user && access.role != Role::Admin {
        return Err(Error::PermissionDenied {
            reason: "DOCUMENT_OWNER_REQUIRED",
            message: "who made the document, or an admin, may put another version in its place".into(),
        });
    }
    let current = app.core.document_text(user, document).await.map_err(stale_where_gone)?;
    let base = proposal.base.as_deref().and_then(|it| it.try_into().ok());
    let change = edit::Proposal {
        base: base.ok_or_else(|| Error::internal("a change has no base"))?,
        diff: String::new(),
        text: proposal.text.clone(),
    };
    change.accept(&current).map_err(|_| stale())?;
    let version = if let Some(noted) = proposal.file {
        noted
    } else {
        let cause = cause(request);
        let version = upload(app, caller, &cause, &described, (&current, &proposal.text)).await?;
        let mut tx = TenantTx::begin(&app.pool, "agents.note_file", &access.claims).await?;
        request_store::note_file(&mut tx, request.id, version).await?;
        tx.commit().await?;
        version
    };
    let known = app.core.known_text(user, described.studio, version).await?;
    if let Some(made) = known.filter(|it| *it != document) {
        return Ok(made);
    }
    let made = Made {
        described,
        origin: MadeOf::File(version.0, version.1),
        cause: cause(request),
    };
    app.core.create_document(user, &made).await
}

/// Uploads the new text as a version of the document's file, or of a new one.
async fn upload(
    app: &App,
    caller: &Caller,
    cause: &str,
    described: &Described,
    (before, after): (&str, &str),
) -> Result<(FileId, i32)> {
    let is_text = ["text/plain", "text/markdown"].contains(&described.mime_type.as_str());
    let new = NewUpload {
        studio: described.studio,
        file: described.file.filter(|_| is_text),
        name: &name(&described.title, &described.mime_type),
        mime_type: if is_text { &described.mime_type } else { "text/plain" },
        level: described.level(),
        content: after,
        request_id: Uuid::nil(),
    };
    if let Some(file) = new.file {
        // The document's text is what the file's version had that it was made from; another one may be there by now.
        let (text, number) = app.core.file_text(caller.user, file).await?;
        if text.as_deref() == Some(after) {
            return Ok((file, number));
        }
        if text.as_deref() != Some(before) {
            return Err(stale());
        }
        return keep(app, caller, cause, new).await;
    }
    let first = NewUpload { content: before, ..new };
    let (file, _) = keep(app, caller, cause, first).await?;
    keep(
        app,
        caller,
        cause,
        NewUpload {
            file: Some(file),
            ..new
        },
    )
    .await
}

/// Uploads a text, once for its cause. Whatever differs makes another upload of it: core-service refuses another one under the
/// same id.
async fn keep(app: &App, caller: &Caller, cause: &str, new: NewUpload<'_>) -> Result<(FileId, i32)> {
    let NewUpload {
        file,
        name,
        mime_type,
        level,
        content,
        ..
    } = new;
    let request_id = named(format!("{cause}/{file:?}/{name}/{mime_type}/{level:?}/{content}"));
    let (file, _, version) = app.core.keep_file(caller.user, NewUpload { request_id, ..new }).await?;
    Ok((file, version.number))
}

/// What core-service knows by what is made for a proposal.
fn cause(request: &Request) -> String {
    format!("agent-proposal/{}", request.id)
}

/// What a file is called that a document gets: its title, without what names of files cannot have.
fn name(title: &str, mime_type: &str) -> String {
    let ending = if mime_type == "text/markdown" { ".md" } else { ".txt" };
    let kept = |it: &char| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_' | '.');
    let name: String = title.chars().filter(kept).take(200).collect();
    let name = name.trim().trim_start_matches('.');
    match name.strip_suffix(ending).unwrap_or(name) {
        "" => format!("document{ending}"),
        name => format!("{name}{ending}"),
    }
}

/// Removes the document that another one has taken the place of.
async fn tidy(app: &App, caller: &Caller, replaced: Option<DocumentId>) -> Result<()> {
    let Some(replaced) = replaced else { return Ok(()) };
    match app.core.delete_document(caller.user, replaced).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn stale_where_gone(error: Error) -> Error {
    match error {
        Error::NotFound { .. } => stale(),
        other => other,
    }
}

fn stale() -> Error {
    Error::FailedPrecondition {
        reason: "STALE_PROPOSAL",
        message: edit::Stale.to_string(),
    }
}

fn no_proposal() -> Error {
    Error::FailedPrecondition {
        reason: "NO_PROPOSAL",
        message: "the request proposes nothing".into(),
    }
}

fn decided() -> Error {
    Error::FailedPrecondition {
        reason: "PROPOSAL_DECIDED",
        message: "the proposal is decided already".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_gets_a_file_that_is_called_like_it() {
        assert_eq!(name("Returns", "text/markdown"), "Returns.md");
        assert_eq!(name("a/b: c.txt", "text/plain"), "ab c.txt");
        assert_eq!(name("../\u{202e}", "text/plain"), "document.txt");
    }
}
