//! A session as markdown, for people.

use std::fmt::Write;

use service_kit::{auth::Caller, db::TenantTx, error::Result, ids::AgentSessionId, page::Page};

use super::{Decision, Kind, Rating, Request, Session, Status, enter, read, request_store, settling};
use crate::App;

/// Writes a session with all its requests, the oldest first.
pub(super) async fn export(app: &App, caller: &Caller, id: AgentSessionId) -> Result<String> {
    let access = enter(app, caller, id).await?;
    settling::settle_open(app, &access, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "agents.export", &access.claims).await?;
    let session = read(&mut tx, id).await?;
    let mut all: Vec<Request> = Vec::new();
    loop {
        let page = Page {
            after: all.last().map(|it| it.number),
            size: 500,
        };
        let found = request_store::list(&mut tx, id, &page).await?;
        if found.is_empty() {
            break;
        }
        all.extend(found);
    }
    all.reverse();
    Ok(markdown(&session, &all))
}

fn markdown(session: &Session, requests: &[Request]) -> String {
    let title = if session.title.is_empty() {
        "Session"
    } else {
        &session.title
    };
    let mut text = format!("# {}\n\nModel: {}\n", line(title), session.model);
    for request in requests {
        // A String takes everything.
        let _ = writeln!(text, "\n## {}. {}\n", request.number, heading(request.kind));
        let _ = writeln!(text, "{}", quoted(&request.content));
        match request.status {
            Status::Pending | Status::Processing => text.push_str("\nUnder way.\n"),
            Status::Cancelled => text.push_str("\nCancelled.\n"),
            Status::Failed => {
                let why = request.failure.as_ref().map_or("", |it| it.1.as_str());
                let _ = writeln!(text, "\nFailed: {}", line(why));
            }
            Status::Completed => completed(&mut text, request),
        }
        if let Some((rating, note)) = &request.feedback {
            let rating = match rating {
                Rating::Up => "of use",
                Rating::Down => "of no use",
            };
            let _ = writeln!(text, "\nFeedback: {rating}. {}", line(note));
        }
    }
    text
}

fn completed(text: &mut String, request: &Request) {
    let results = request.results.clone().unwrap_or_default();
    match &request.proposal {
        Some(proposal) => {
            let decision = match proposal.decision {
                Some(Decision::Accepted) => "accepted",
                Some(Decision::Rejected) => "rejected",
                Some(Decision::Accepting) | None => "not decided",
            };
            let (what, language, body) = match proposal.document {
                Some(_) => ("change of", "diff", &proposal.diff),
                None => ("new document", "markdown", &proposal.text),
            };
            let fence = fence(body);
            let _ = writeln!(
                text,
                "\nProposed {what} “{}”, {decision}:\n\n{fence}{language}\n{}\n{fence}",
                line(&proposal.title),
                body.trim_end()
            );
        }
        None => {
            let _ = writeln!(text, "\n{}", results.text.trim_end());
        }
    }
    let citations = results.citations.unwrap_or_default();
    if !citations.is_empty() {
        text.push_str("\nSources:\n\n");
    }
    for it in citations {
        let section = if it.section.is_empty() {
            String::new()
        } else {
            format!(" — {}", line(&it.section))
        };
        let page = it.page.map_or_else(String::new, |page| format!(", page {page}"));
        let _ = writeln!(
            text,
            "- [{}] {}{section}{page} (document {})",
            it.number,
            line(&it.document_title),
            it.document_id
        );
    }
    let dropped = results.dropped_citations.unwrap_or_default();
    if !dropped.is_empty() {
        let numbers: Vec<_> = dropped.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "\nCitations of passages that are not there were taken out: {}.",
            numbers.join(", ")
        );
    }
}

fn heading(kind: Kind) -> &'static str {
    match kind {
        Kind::Create => "Create",
        Kind::Edit => "Edit",
        Kind::Research => "Research",
    }
}

fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn quoted(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|it| format!("> {it}")).collect();
    lines.join("\n")
}

/// A fence that is longer than any in the text.
fn fence(text: &str) -> String {
    let longest = text
        .lines()
        .map(|it| it.trim_start_matches(['+', '-', ' ']))
        .map(|it| it.chars().take_while(|it| *it == '`').count());
    "`".repeat(longest.max().unwrap_or_default().max(2) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_longer_than_those_inside() {
        assert_eq!(fence("a"), "```");
        assert_eq!(fence("+````rust\n x"), "`````");
    }

    #[test]
    fn what_was_asked_is_quoted_line_by_line() {
        assert_eq!(quoted("one\n# two"), "> one\n> # two");
    }
}
