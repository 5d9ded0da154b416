//! Agent sessions from a terminal: asked, watched while they answer, and what they propose accepted or turned down.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use studios_proto::execution::{
    AcceptProposalRequest, AgentDecision, AgentFeedback, AgentRating, AgentRequest, AgentRequestStatus,
    AgentRequestType, AgentSession, CancelRequestRequest, CreateRequestRequest, CreateSessionRequest,
    DeleteSessionRequest, ExportSessionRequest, GetRequestRequest, ListRequestsRequest, ListSessionsRequest,
    RejectProposalRequest, RetryRequestRequest, SetFeedbackRequest, UpdateSessionRequest, WatchRequestRequest,
    agent_request_event::Event,
};
use uuid::Uuid;

use crate::{
    output::{Output, message_json},
    runs::Access,
};

/// What can be done with agent sessions.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Begin a session in a studio.
    Begin {
        /// The studio's id.
        studio: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// What to call it.
        #[arg(long, default_value = "")]
        title: String,
        /// The name of the model; offline where none is given.
        #[arg(long, default_value = "")]
        model: String,
    },
    /// List your sessions in a studio, newest first.
    List {
        /// The studio's id.
        studio: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Call a session otherwise.
    Rename {
        /// The session's id.
        session: String,
        /// What to call it.
        title: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Ask something, and follow the answer; what is asked by --kind edit changes the document that --document names.
    Ask {
        /// The session's id.
        session: String,
        /// What is asked.
        content: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// What is to be done.
        #[arg(long, value_enum, default_value_t = Kind::Research)]
        kind: Kind,
        /// A document that it is about; may be given often.
        #[arg(long = "document", value_name = "ID")]
        documents: Vec<String>,
        /// Do not wait for the answer.
        #[arg(long)]
        no_watch: bool,
    },
    /// List a session's requests, newest first.
    Requests {
        /// The session's id.
        session: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Print a request with what came of it.
    Show(One),
    /// Follow a request until it ends.
    Watch(One),
    /// Stop a request.
    Cancel(One),
    /// Run a session's newest request again, after it failed or was stopped.
    Retry(One),
    /// Say whether an answer was of use.
    Rate {
        /// The request's id.
        request: String,
        /// Whether it was.
        #[arg(value_enum)]
        rating: Rating,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Why.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Make the document, or the new version of it, that a request proposes.
    Accept {
        /// The request's id.
        request: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Of a new document, another title.
        #[arg(long, default_value = "")]
        title: String,
    },
    /// Turn down what a request proposes.
    Reject(One),
    /// Write a session as markdown.
    Export {
        /// The session's id.
        session: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Where to; to the terminal where nothing is given.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Delete a session for good.
    Delete {
        /// The session's id.
        session: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
}

/// A request.
#[derive(Debug, Args)]
pub struct One {
    /// The request's id.
    request: String,
    /// Which gateway, and as whom.
    #[command(flatten)]
    access: Access,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kind {
    /// Write a new document.
    Create,
    /// Change a document.
    Edit,
    /// Answer from the documents.
    Research,
}

/// Whether an answer was of use.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Rating {
    /// It was.
    Up,
    /// It was not.
    Down,
    /// Take back what was said.
    None,
}

/// Runs a command; whether what was followed came to something.
pub async fn run(command: &Command, output: Output) -> Result<bool> {
    match command {
        Command::Begin {
            studio,
            access,
            title,
            model,
        } => {
            let remote = access.remote()?;
            let request = CreateSessionRequest {
                studio_id: studio.clone(),
                title: title.clone(),
                model: model.clone(),
                request_id: Uuid::now_v7().to_string(),
            };
            let made = remote.agents().create_session(remote.request(request)).await?;
            print_session(&made.into_inner(), output);
        }
        Command::List { studio, access, limit } => {
            let remote = access.remote()?;
            let request = ListSessionsRequest {
                studio_id: studio.clone(),
                page_size: *limit,
                ..ListSessionsRequest::default()
            };
            let page = remote.agents().list_sessions(remote.request(request)).await?;
            for session in &page.into_inner().sessions {
                print_session(session, output);
            }
        }
        Command::Rename { session, title, access } => {
            let remote = access.remote()?;
            let changed = AgentSession {
                id: session.clone(),
                title: title.clone(),
                ..AgentSession::default()
            };
            let request = UpdateSessionRequest {
                session: Some(changed),
                update_mask: None,
            };
            let changed = remote.agents().update_session(remote.request(request)).await?;
            print_session(&changed.into_inner(), output);
        }
        Command::Ask {
            session,
            content,
            access,
            kind,
            documents,
            no_watch,
        } => {
            let kind = match kind {
                Kind::Create => AgentRequestType::Create,
                Kind::Edit => AgentRequestType::Edit,
                Kind::Research => AgentRequestType::Research,
            };
            let remote = access.remote()?;
            let request = CreateRequestRequest {
                session_id: session.clone(),
                r#type: kind.into(),
                content: content.clone(),
                document_ids: documents.clone(),
                request_id: Uuid::now_v7().to_string(),
            };
            let asked = remote.agents().create_request(remote.request(request)).await?;
            let asked = asked.into_inner();
            if !no_watch {
                return follow(&asked.id, access, output).await;
            }
            print(&asked, output);
        }
        Command::Requests { session, access, limit } => {
            let remote = access.remote()?;
            let request = ListRequestsRequest {
                session_id: session.clone(),
                page_size: *limit,
                ..ListRequestsRequest::default()
            };
            let page = remote.agents().list_requests(remote.request(request)).await?;
            for request in &page.into_inner().requests {
                output.result(line(request), || message_json(request));
            }
        }
        Command::Show(One { request, access }) => {
            let remote = access.remote()?;
            let get = GetRequestRequest { id: request.clone() };
            let found = remote.agents().get_request(remote.request(get)).await?;
            print(&found.into_inner(), output);
        }
        Command::Watch(One { request, access }) => return follow(request, access, output).await,
        Command::Rate {
            request,
            rating,
            access,
            note,
        } => {
            let rating = match rating {
                Rating::Up => AgentRating::Up,
                Rating::Down => AgentRating::Down,
                Rating::None => AgentRating::Unspecified,
            };
            let remote = access.remote()?;
            let said = SetFeedbackRequest {
                id: request.clone(),
                feedback: Some(AgentFeedback {
                    rating: rating.into(),
                    note: note.clone(),
                }),
            };
            let rated = remote.agents().set_feedback(remote.request(said)).await?.into_inner();
            output.result(line(&rated), || message_json(&rated));
        }
        Command::Cancel(_) | Command::Retry(_) | Command::Accept { .. } | Command::Reject(_) => {
            let changed = change(command).await?;
            print(&changed, output);
        }
        Command::Export { session, access, out } => {
            let remote = access.remote()?;
            let request = ExportSessionRequest { id: session.clone() };
            let written = remote.agents().export_session(remote.request(request)).await?;
            let written = written.into_inner();
            let Some(out) = out else {
                output.result(written.markdown.trim_end(), || message_json(&written));
                return Ok(true);
            };
            std::fs::write(out, &written.markdown).with_context(|| format!("{} cannot be written", out.display()))?;
            output.result(out.display(), || json!({ "written": out }));
        }
        Command::Delete { session, access } => {
            let remote = access.remote()?;
            let request = DeleteSessionRequest { id: session.clone() };
            remote.agents().delete_session(remote.request(request)).await?;
            output.result(format_args!("deleted {session}"), || json!({ "deleted": session }));
        }
    }
    Ok(true)
}

async fn change(command: &Command) -> Result<AgentRequest> {
    let changed = match command {
        Command::Cancel(One { request, access }) => {
            let remote = access.remote()?;
            let asked = CancelRequestRequest { id: request.clone() };
            remote.agents().cancel_request(remote.request(asked)).await?
        }
        Command::Retry(One { request, access }) => {
            let remote = access.remote()?;
            let asked = RetryRequestRequest { id: request.clone() };
            remote.agents().retry_request(remote.request(asked)).await?
        }
        Command::Accept { request, access, title } => {
            let remote = access.remote()?;
            let asked = AcceptProposalRequest {
                id: request.clone(),
                title: title.clone(),
            };
            remote.agents().accept_proposal(remote.request(asked)).await?
        }
        Command::Reject(One { request, access }) => {
            let remote = access.remote()?;
            let asked = RejectProposalRequest { id: request.clone() };
            remote.agents().reject_proposal(remote.request(asked)).await?
        }
        _ => anyhow::bail!("this changes no request"),
    };
    Ok(changed.into_inner())
}

/// Prints what is written of a request until it ends; whether it is completed then.
async fn follow(request: &str, access: &Access, output: Output) -> Result<bool> {
    let remote = access.remote()?;
    let asked = WatchRequestRequest { id: request.to_owned() };
    let events = remote.agents().watch_request(remote.request(asked)).await?;
    let mut events = events.into_inner();
    let mut last = None;
    let mut has_output = false;
    while let Some(event) = events.message().await? {
        if output.json {
            output.result("", || message_json(&event));
        }
        match event.event {
            Some(Event::Request(request)) => last = Some(request),
            Some(Event::Output(text)) if !output.json => {
                // A terminal that is gone is noticed where the rest is printed.
                let _ = write!(io::stdout(), "{text}").and_then(|()| io::stdout().flush());
                has_output = true;
            }
            Some(Event::Restarted(_)) => output.progress("\n(it is written anew)"),
            _ => {}
        }
    }
    let Some(last) = last else { return Ok(false) };
    if has_output {
        output.progress("\n");
    }
    output.progress(text(&last, !has_output));
    Ok(last.status() == AgentRequestStatus::Completed)
}

fn print_session(session: &AgentSession, output: Output) {
    let title = if session.title.is_empty() {
        "(not named yet)"
    } else {
        &session.title
    };
    let requests = match session.request_count {
        1 => "1 request".to_owned(),
        many => format!("{many} requests"),
    };
    let said = format!("{}  {title}  {}, {requests}", session.id, session.model);
    output.result(said, || message_json(session));
}

fn print(request: &AgentRequest, output: Output) {
    output.result(text(request, true), || message_json(request));
}

fn line(request: &AgentRequest) -> String {
    let kind = match request.r#type() {
        AgentRequestType::Create => "create",
        AgentRequestType::Edit => "edit",
        AgentRequestType::Research | AgentRequestType::Unspecified => "research",
    };
    let status = match request.status() {
        AgentRequestStatus::Completed => "completed".to_owned(),
        AgentRequestStatus::Failed => "failed".to_owned(),
        AgentRequestStatus::Cancelled => "cancelled".to_owned(),
        AgentRequestStatus::Processing => format!("{:.0}%", request.progress * 100.0),
        AgentRequestStatus::Pending | AgentRequestStatus::Unspecified => "pending".to_owned(),
    };
    let asked = request.content.lines().next().unwrap_or_default();
    let mut line = format!("{}  {}. {kind}  {status}  {asked}", request.id, request.number);
    if let Some(failure) = &request.failure {
        // A String takes everything.
        let _ = write!(line, "\n  {}: {}", failure.classification, failure.message);
    }
    line
}

fn text(request: &AgentRequest, with_answer: bool) -> String {
    let mut text = line(request);
    let answer = request.results.as_ref().and_then(|it| it.fields.get("text"));
    if let Some(prost_types::value::Kind::StringValue(answer)) = answer.and_then(|it| it.kind.as_ref())
        && with_answer
        && request.proposal.is_none()
    {
        let _ = write!(text, "\n\n{answer}");
    }
    for it in &request.citations {
        let section = if it.section.is_empty() {
            String::new()
        } else {
            format!(" — {}", it.section)
        };
        let _ = write!(
            text,
            "\n  [{}] {}{section}  {}",
            it.number, it.document_title, it.document_id
        );
    }
    if !request.dropped_citations.is_empty() {
        let _ = write!(text, "\n  cited what is not there: {:?}", request.dropped_citations);
    }
    if let Some(proposal) = &request.proposal {
        let decision = match proposal.decision() {
            AgentDecision::Accepted => format!("accepted as document {}", proposal.made_document_id),
            AgentDecision::Rejected => "rejected".to_owned(),
            AgentDecision::Unspecified => format!("`studios agents accept {}` makes it", request.id),
        };
        let shown = if proposal.diff.is_empty() {
            &proposal.text
        } else {
            &proposal.diff
        };
        let _ = write!(text, "\n\n{}\n\n“{}”: {decision}", shown.trim_end(), proposal.title);
    }
    text
}
