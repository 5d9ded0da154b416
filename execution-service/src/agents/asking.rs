//! Asking something of a session: what the model is shown is decided, the request is written down, and its execution started.
//!
//! The request names its execution before that is there. Where the start is refused, nothing is left of either; where this process dies
//! between the two, the request is found to have failed (see [`settling`]).

use serde_json::{Map, Value};
use service_kit::{
    audit::About,
    auth::Caller,
    db::TenantTx,
    error::{Error, Result},
    ids::{AgentRequestId, AgentSessionId, DocumentId, ExecutionId, WorkflowId},
};
use sqlx::PgConnection;

use super::{
    Kind, Request, Session, Status, enter, enter_request, lock,
    prompt::{self, Fold, PASSAGE_TOKENS, Task},
    read_request, request_store, settled, settling, store,
    window::{Room, Step, Summary, Turn},
};
use crate::{App, engine::definition::Definition, executions, requests, workflows};

/// The most summaries that one request pays for.
const FOLDS: usize = 6;
/// The most that an answer may take, in tokens.
const ANSWER_TOKENS: u32 = 4_096;
/// What a changed document may take more than the one before, and the steps in which room is kept for it, in tokens.
const EDIT_STEP: u32 = 1_024;
/// What a provider adds around a prompt's parts, in tokens.
const FRAME_TOKENS: u32 = 64;
/// Questions with fewer words say little by themselves.
const FEW_WORDS: usize = 6;

/// A request to be made.
#[derive(Clone, Debug)]
pub(super) struct New {
    pub session: AgentSessionId,
    pub kind: Kind,
    pub content: String,
    pub documents: Vec<DocumentId>,
}

/// A document to be changed.
struct Base {
    title: String,
    text: String,
}

/// Asks something.
pub(super) async fn create(app: &App, caller: &Caller, new: &New, key: Option<&requests::Key>) -> Result<Request> {
    let access = enter(app, caller, new.session).await?;
    app.start_rate.take(&access, None).await?;
    app.engine.admit(access.company, &access.allowance).await?;
    settling::settle_open(app, &access, new.session).await?;
    let base = base(app, caller, new.kind, &new.documents).await?;
    let mut tx = TenantTx::begin(&app.pool, "agents.ask", &access.claims).await?;
    let session = lock(&mut tx, new.session).await?;
    let id = AgentRequestId::generate();
    if let Some(first) = requests::claim(&mut tx, key, id).await? {
        return read_request(&mut tx, first).await;
    }
    if request_store::open(&mut tx, new.session).await?.is_some() {
        return Err(under_way());
    }
    let planned = plan(&mut tx, &session, new, base.as_ref()).await?;
    let execution = ExecutionId::generate();
    let version = workflows::private_version(&mut tx, session.workflow(), &planned.definition, caller.user).await?;
    let number = session.requests + 1;
    request_store::insert(&mut tx, access.company, id, number, new, execution, &planned.folded).await?;
    store::count_request(&mut tx, new.session, number).await?;
    if session.title.is_empty() {
        store::set_title(&mut tx, new.session, &beginning(&new.content)).await?;
    }
    let about = About::company(access.company, "agent_request", id);
    app.audit.record(&mut tx, about).await?;
    tx.commit().await?;
    let of = (session.workflow(), version);
    if let Err(error) = executions::start_owned(app, &access, execution, of, planned.inputs).await {
        let mut tx = TenantTx::begin(&app.pool, "agents.unask", &access.claims).await?;
        lock(&mut tx, new.session).await?;
        requests::release(&mut tx, id).await?;
        request_store::delete(&mut tx, id).await?;
        store::count_request(&mut tx, new.session, number - 1).await?;
        tx.commit().await?;
        return Err(error);
    }
    settled(app, &access, id).await
}

/// Runs the newest request of a session again.
pub(super) async fn retry(app: &App, caller: &Caller, id: AgentRequestId) -> Result<Request> {
    let access = enter_request(app, caller, id).await?;
    app.start_rate.take(&access, None).await?;
    app.engine.admit(access.company, &access.allowance).await?;
    let found = settled(app, &access, id).await?;
    let base = base(app, caller, found.kind, &found.documents).await?;
    let mut tx = TenantTx::begin(&app.pool, "agents.retry", &access.claims).await?;
    let session = lock(&mut tx, found.session).await?;
    let found = read_request(&mut tx, id).await?;
    match found.status {
        Status::Pending | Status::Processing => return Err(under_way()),
        Status::Completed => {
            return Err(Error::FailedPrecondition {
                reason: "REQUEST_COMPLETED",
                message: "the request is completed; ask again in another one".into(),
            });
        }
        Status::Failed | Status::Cancelled => {}
    }
    if found.number != session.requests {
        return Err(Error::FailedPrecondition {
            reason: "NOT_NEWEST",
            message: "the session has gone on since; only its newest request can be run again".into(),
        });
    }
    let new = New {
        session: found.session,
        kind: found.kind,
        content: found.content.clone(),
        documents: found.documents.clone(),
    };
    let planned = plan(&mut tx, &session, &new, base.as_ref()).await?;
    let execution = ExecutionId::generate();
    let version = workflows::private_version(&mut tx, session.workflow(), &planned.definition, caller.user).await?;
    request_store::begin_again(&mut tx, id, execution, &planned.folded).await?;
    let about = About::company(access.company, "agent_request", id);
    app.audit.record(&mut tx, about).await?;
    tx.commit().await?;
    let of: (WorkflowId, i32) = (session.workflow(), version);
    if let Err(error) = executions::start_owned(app, &access, execution, of, planned.inputs).await {
        let mut tx = TenantTx::begin(&app.pool, "agents.unask", &access.claims).await?;
        request_store::give_up_again(&mut tx, &found, execution).await?;
        tx.commit().await?;
        return Err(error);
    }
    settled(app, &access, id).await
}

/// The document that is to be changed, as the caller reads it.
async fn base(app: &App, caller: &Caller, kind: Kind, documents: &[DocumentId]) -> Result<Option<Base>> {
    let (Kind::Edit, Some(document)) = (kind, documents.first()) else {
        return Ok(None);
    };
    let described = app.core.document(caller.user, *document).await?;
    let text = app.core.document_text(caller.user, *document).await?;
    if text.is_empty() {
        return Err(Error::FailedPrecondition {
            reason: "DOCUMENT_NOT_READY",
            message: "the document has no text yet".into(),
        });
    }
    Ok(Some(Base {
        title: described.title,
        text,
    }))
}

/// What an execution is to be started with.
struct Planned {
    definition: Definition,
    inputs: Map<String, Value>,
    folded: Vec<i32>,
}

async fn plan(tx: &mut PgConnection, session: &Session, new: &New, base: Option<&Base>) -> Result<Planned> {
    let context_length = store::context_length(tx, &session.model).await?;
    let context_length = context_length.ok_or_else(|| Error::FailedPrecondition {
        reason: "MODEL_UNAVAILABLE",
        message: "the session's model is not there any more, or switched off; begin another session".into(),
    })?;
    let covered = session.summary.as_ref().map_or(0, |it| it.0);
    let told = request_store::turns(tx, session.id, covered).await?;
    let scale = session.scale;
    let passages = prompt::passages(new.kind, context_length);
    let document = base.map_or(0, |it| scale.tokens(&it.text));
    let answer = match new.kind {
        Kind::Create | Kind::Research => below(context_length / 4).min(ANSWER_TOKENS),
        Kind::Edit => (document.saturating_add(document / 4) / EDIT_STEP + 1).saturating_mul(EDIT_STEP),
    };
    let fixed = [
        scale.tokens(prompt::instructions(new.kind)),
        scale.tokens(&new.content),
        document,
        scale
            .tokens(&"p".repeat(4 * PASSAGE_TOKENS as usize))
            .saturating_mul(passages),
        4 * FRAME_TOKENS,
    ];
    let fixed = fixed.into_iter().fold(0, u32::saturating_add);
    let room = Room::beside(context_length, fixed, answer).map_err(|error| Error::FailedPrecondition {
        reason: "REQUEST_TOO_LONG",
        message: error.to_string(),
    })?;
    let texts: Vec<(u32, String)> = told.iter().map(|it| (number(it.number), it.text())).collect();
    let turns: Vec<Turn> = texts
        .iter()
        .map(|(number, text)| Turn {
            number: *number,
            tokens: scale.tokens(text).saturating_add(scale.tokens("\n\n")),
        })
        .collect();
    let joined = |after: u32, through: u32| {
        let within = texts.iter().filter(|it| it.0 > after && it.0 <= through);
        within.map(|it| it.1.as_str()).collect::<Vec<_>>().join("\n\n")
    };
    let stored = session.summary.as_ref();
    let mut summary = stored.map(|(through, text)| Summary {
        through: number(*through),
        tokens: scale.tokens(text),
    });
    let mut folds: Vec<Fold> = Vec::new();
    // What is shown of the stored summary, which the first step says.
    let mut kept = None;
    let after = loop {
        match room.next(summary, &turns) {
            Step::Show { summary, after } => {
                kept.get_or_insert(summary);
                break after;
            }
            Step::Fold { .. } if folds.len() == FOLDS => {
                return Err(Error::FailedPrecondition {
                    reason: "CONVERSATION_TOO_LONG",
                    message: "the conversation is too long for the model; begin another session".into(),
                });
            }
            Step::Fold {
                summary: shown,
                through,
                turns,
                answer,
            } => {
                kept.get_or_insert(shown);
                let answer = below(answer);
                let text = joined(summary.map_or(0, |it| it.through), through);
                folds.push(Fold {
                    through,
                    text: scale.cut(&text, turns),
                    answer,
                });
                summary = Some(Summary {
                    through,
                    tokens: answer,
                });
            }
        }
    };
    let shown = stored.map_or_else(String::new, |(_, text)| scale.cut(text, kept.unwrap_or_default()));
    let history = joined(after, u32::MAX);
    let is_short = new.content.split_whitespace().count() < FEW_WORDS;
    let before = told.last().filter(|_| is_short).map_or("", |it| it.content.as_str());
    let task = Task {
        kind: new.kind,
        model: &session.model,
        content: &new.content,
        documents: &new.documents,
        document: base.map(|it| (it.title.as_str(), it.text.as_str())),
        before,
        summary: &shown,
        folds: &folds,
        history: &history,
        passages,
        answer,
    };
    Ok(Planned {
        definition: task.definition()?,
        inputs: task.inputs(),
        folded: folds
            .iter()
            .map(|it| i32::try_from(it.through).unwrap_or(i32::MAX))
            .collect(),
    })
}

/// The largest power of two that is no more: so few definitions are all there are.
fn below(tokens: u32) -> u32 {
    tokens.checked_ilog2().map_or(1, |it| 1 << it)
}

fn number(stored: i32) -> u32 {
    u32::try_from(stored).unwrap_or_default()
}

/// What a session is called that was not named.
fn beginning(content: &str) -> String {
    const CHARS: usize = 60;
    let line = content.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= CHARS {
        return line;
    }
    let cut: String = line.chars().take(CHARS - 1).collect();
    format!("{}…", cut.trim_end())
}

fn under_way() -> Error {
    Error::FailedPrecondition {
        reason: "REQUEST_UNDER_WAY",
        message: "another request of the session is under way; it is one at a time".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_called_what_its_first_request_begins_with() {
        assert_eq!(beginning("How long?\n\nAnd  who?"), "How long? And who?");
        let long = beginning(&"ß".repeat(100));
        assert_eq!((long.chars().count(), long.ends_with('…')), (60, true));
    }

    #[test]
    fn few_sizes_of_answers_are_all_there_are() {
        assert_eq!([0, 1, 511, 512, 4_097].map(below), [1, 1, 256, 512, 4_096]);
    }
}
