//! What came of a request, taken from its execution once that has ended, by whoever looks first.
//!
//! It follows from the journal alone, so it does not matter who that is, nor whether a process died meanwhile. A request whose execution
//! was never started, because its process died before, has failed.

use std::time::Duration;

use serde_json::Value;
use service_kit::{
    db::TenantTx,
    error::Result,
    ids::{AgentRequestId, AgentSessionId},
};
use time::OffsetDateTime;

use super::{
    Citation, Kind, Proposal, Request, Results, Status, Usage, citing, edit, prompt, read, request_store, window::Scale,
};
use crate::{
    App,
    access::Access,
    engine::journal::{AttemptPayload, ModelUse},
    executions::{self, Ended},
};

/// How long a start may take; longer than any statement and lock may.
const STARTS_WITHIN: Duration = Duration::from_mins(1);
/// The longest title of a document, in characters.
const TITLE_CHARS: usize = 255;
/// What a document is called where nothing says it.
const UNTITLED: &str = "Document";
/// The line by which the offline model says what made an answer: no part of a document.
const NOTICE: &str = "(Offline model:";

/// What came of a request.
#[derive(Debug)]
pub(super) struct Settled {
    pub status: Status,
    pub results: Option<Results>,
    pub failure: Option<(&'static str, String)>,
    pub usage: Usage,
    /// When it ended; now where nobody knows.
    pub at: Option<OffsetDateTime>,
    pub proposal: Option<Proposal>,
    /// The summaries that were made, and the last request that each covers.
    pub summaries: Vec<(i32, String)>,
    pub scale: Scale,
}

/// Settles the open request of a session, if there is one and it has ended.
pub(super) async fn settle_open(app: &App, access: &Access, session: AgentSessionId) -> Result<()> {
    let mut tx = TenantTx::begin(&app.pool, "agents.open", &access.claims).await?;
    let open = request_store::open(&mut tx, session).await?;
    drop(tx);
    match open {
        Some(open) => settle(app, access, open.id).await,
        None => Ok(()),
    }
}

/// Settles a request, if it is open and its execution has ended.
pub(super) async fn settle(app: &App, access: &Access, id: AgentRequestId) -> Result<()> {
    let mut tx = TenantTx::begin(&app.pool, "agents.unsettled", &access.claims).await?;
    let Some(request) = request_store::get(&mut tx, id).await?.filter(|it| it.status.is_open()) else {
        return Ok(());
    };
    let scale = read(&mut tx, request.session).await?.scale;
    let is_late = request_store::is_older(&mut tx, id, STARTS_WITHIN).await?;
    drop(tx);
    let settled = match executions::ended(app, access, request.execution).await? {
        Some(Some(ended)) => of(&request, &ended, scale),
        None if is_late => never_began(scale),
        Some(None) | None => return Ok(()),
    };
    let mut tx = TenantTx::begin(&app.pool, "agents.settle", &access.claims).await?;
    request_store::settle(&mut tx, access.company, &request, &settled).await?;
    tx.commit().await
}

fn never_began(scale: Scale) -> Settled {
    Settled {
        status: Status::Failed,
        results: None,
        failure: Some(("timeout", "the request was not begun; try it again".into())),
        usage: Usage::default(),
        at: None,
        proposal: None,
        summaries: Vec::new(),
        scale,
    }
}

fn of(request: &Request, ended: &Ended, scale: Scale) -> Settled {
    let succeeded = |stage: &str| {
        let mut tries = ended.tries.iter().rev();
        tries.find(|(it, _)| it.stage == stage && it.succeeded())
    };
    let summaries = request.folded.iter().enumerate().filter_map(|(at, through)| {
        let (made, _) = succeeded(&prompt::fold_stage(at))?;
        let text = text(made);
        (!text.is_empty()).then_some((*through, text))
    });
    let answer = succeeded(prompt::ANSWER);
    let mut settled = Settled {
        status: match ended.status {
            executions::Status::Completed => Status::Completed,
            executions::Status::Cancelled => Status::Cancelled,
            _ => Status::Failed,
        },
        results: None,
        failure: ended.failure.as_ref().map(|it| (it.class.as_str(), it.message.clone())),
        usage: usage(ended),
        at: Some(ended.at),
        proposal: None,
        summaries: summaries.collect(),
        scale: answer.map_or(scale, |(made, prompt)| {
            let used = made.usage.as_ref().map_or(0, |it| it.input_tokens);
            let estimated = scale
                .tokens(&prompt.system)
                .saturating_add(scale.tokens(&prompt.prompt));
            scale.corrected(estimated, u32::try_from(used).unwrap_or(u32::MAX))
        }),
    };
    if let (Status::Completed, Some((made, _))) = (settled.status, answer) {
        let (results, proposal) = match request.kind {
            Kind::Research => (researched(made), None),
            Kind::Create => created(request, made),
            Kind::Edit => edited(request, ended, made),
        };
        (settled.results, settled.proposal) = (Some(results), proposal);
    } else if settled.status == Status::Completed {
        settled.results = Some(Results::default());
    }
    settled
}

fn usage(ended: &Ended) -> Usage {
    let mut sum = Usage::default();
    let uses = ended.tries.iter().flat_map(|(it, _)| it.usage.iter().chain(&it.judge));
    for ModelUse {
        input_tokens,
        output_tokens,
        cost_micros,
        ..
    } in uses
    {
        let number = |given: u64| i64::try_from(given).unwrap_or(i64::MAX);
        sum.input_tokens = sum.input_tokens.saturating_add(number(*input_tokens));
        sum.output_tokens = sum.output_tokens.saturating_add(number(*output_tokens));
        sum.cost_micros = sum.cost_micros.saturating_add(number(*cost_micros));
    }
    sum
}

fn researched(made: &AttemptPayload) -> Results {
    let cited = citing::check(&text(made), made.sources.len());
    let citations = cited.numbers.iter().filter_map(|number| {
        let place = usize::try_from(*number).ok()?.checked_sub(1)?;
        let source = made.sources.get(place)?;
        Some(Citation {
            number: *number,
            document_id: source.document_id,
            chunk_id: source.chunk_id,
            document_title: source.document_title.clone(),
            section: source.section.clone(),
            page: source.page,
            content: source.content.clone(),
        })
    });
    Results {
        citations: Some(citations.collect()),
        dropped_citations: Some(cited.dropped),
        text: cited.text,
        proposed: None,
    }
}

fn created(request: &Request, made: &AttemptPayload) -> (Results, Option<Proposal>) {
    let text = document(&text(made));
    let proposed = !text.trim().is_empty();
    let results = Results {
        text: text.clone(),
        proposed: Some(proposed),
        ..Results::default()
    };
    let proposal = proposed.then(|| Proposal {
        title: title(&text, &request.content),
        text,
        ..nothing()
    });
    (results, proposal)
}

fn edited(request: &Request, ended: &Ended, made: &AttemptPayload) -> (Results, Option<Proposal>) {
    let input = |name: &str| ended.inputs.get(name).and_then(Value::as_str).unwrap_or_default();
    let (title, before) = (input("title"), input("document"));
    let mut after = document(&text(made));
    if before.starts_with("```") {
        after = text(made);
    }
    // Models leave out what cannot be seen at a text's end.
    let end = &before[before.trim_end().len()..];
    after.truncate(after.trim_end().len());
    after.push_str(end);
    let proposed = if after.trim().is_empty() {
        None
    } else {
        edit::Proposal::between(title, before, after)
    };
    let Some(change) = proposed else {
        let results = Results {
            text: "The document stays as it is.".into(),
            proposed: Some(false),
            ..Results::default()
        };
        return (results, None);
    };
    let results = Results {
        text: change.diff.clone(),
        proposed: Some(true),
        ..Results::default()
    };
    let proposal = Proposal {
        document: request.documents.first().copied(),
        title: title.to_owned(),
        base: Some(change.base.to_vec()),
        diff: change.diff,
        text: change.text,
        ..nothing()
    };
    (results, Some(proposal))
}

fn nothing() -> Proposal {
    Proposal {
        document: None,
        title: String::new(),
        base: None,
        diff: String::new(),
        text: String::new(),
        decision: None,
        made: None,
        file: None,
        decided_at: None,
    }
}

fn text(made: &AttemptPayload) -> String {
    match &made.output {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// An answer as a document: without the fence that models put around one, and without what the offline model says of itself.
fn document(answer: &str) -> String {
    let mut text = answer.trim_end();
    if let Some((before, last)) = text.rsplit_once('\n')
        && last.starts_with(NOTICE)
    {
        text = before.trim_end();
    }
    let fenced = text
        .trim_start()
        .strip_prefix("```")
        .and_then(|it| it.strip_suffix("```"))
        .and_then(|it| it.split_once('\n'))
        .filter(|(language, inside)| !language.contains(' ') && !inside.contains("\n```"));
    match fenced {
        Some((_, inside)) => inside.trim_end().to_owned(),
        None => text.to_owned(),
    }
}

/// A document's title: its first heading, or what was asked for.
fn title(text: &str, content: &str) -> String {
    let heading = text.lines().find_map(|it| it.strip_prefix("# "));
    let shown = |line: &str| -> String {
        line.trim()
            .chars()
            .filter(|it| !it.is_control())
            .take(TITLE_CHARS)
            .collect()
    };
    let titles = heading.into_iter().chain(content.lines()).map(shown);
    let mut titles = titles.filter(|it| !it.trim().is_empty());
    titles.next().unwrap_or_else(|| UNTITLED.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_the_answer_without_its_wrapping() {
        for answer in [
            "# A\n\ntext",
            "```markdown\n# A\n\ntext\n```\n",
            "# A\n\ntext\n\n(Offline model: extracted.)",
        ] {
            assert_eq!(document(answer), "# A\n\ntext");
        }
        let two = "```\na\n```\nb\n```\nc\n```";
        assert_eq!(document(two), two, "two fences are no wrapping");
    }

    #[test]
    fn a_new_document_is_called_by_its_heading_or_by_what_was_asked_for() {
        assert_eq!(title("intro\n# The plan \n", "write"), "The plan");
        assert_eq!(title("intro", "Write a plan\nof two lines"), "Write a plan");
        assert_eq!(title(&format!("# {}", "é".repeat(300)), "").chars().count(), 255);
        assert_eq!(title("#  ", "\u{1}\n\nWrite a plan"), "Write a plan");
        assert_eq!(title("", "\u{1}"), "Document");
    }
}
