//! Why somebody may or may not see a row, from a terminal.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args as Arguments;
use studios_proto::core::{ExplainAccessRequest, ExplainAccessResponse, explain_access_request::Thing};

use crate::{
    output::{Output, message_json},
    runs::Access,
};

/// Whose access, and to what.
#[derive(Debug, Arguments)]
pub struct Args {
    /// The company's id.
    company: String,
    /// The user's id, or an API key's.
    user: String,
    #[command(flatten)]
    thing: What,
    /// Which gateway, and as which admin of the company.
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Arguments)]
#[group(required = true, multiple = false)]
struct What {
    /// A studio's id.
    #[arg(long)]
    studio: Option<String>,
    /// A document's id.
    #[arg(long)]
    document: Option<String>,
}

impl What {
    fn thing(&self) -> Option<Thing> {
        let studio = self.studio.clone().map(Thing::StudioId);
        studio.or_else(|| self.document.clone().map(Thing::DocumentId))
    }
}

/// Tells it; returns whether he may see the thing.
pub async fn run(args: &Args, output: Output) -> Result<bool> {
    let remote = args.access.remote()?;
    let request = remote.request(ExplainAccessRequest {
        company_id: args.company.clone(),
        user_id: args.user.clone(),
        thing: args.thing.thing(),
    });
    let explained = remote.companies().explain_access(request).await?.into_inner();
    output.result(text(&explained), || message_json(&explained));
    Ok(explained.allowed)
}

fn text(explained: &ExplainAccessResponse) -> String {
    let mut text = if explained.allowed { "allowed" } else { "not allowed" }.to_owned();
    for step in &explained.steps {
        let name = step
            .check()
            .as_str_name()
            .trim_start_matches("ACCESS_CHECK_")
            .to_lowercase();
        let passed = if step.passed { "passes" } else { "fails" };
        write!(text, "\n  {name:<10}  {passed}  {}", step.text).expect("a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use studios_proto::core::{AccessCheck, AccessStep};

    use super::*;

    #[test]
    fn each_check_is_a_line_with_its_outcome() {
        let step = |check: AccessCheck, passed| AccessStep {
            check: check.into(),
            passed,
            text: "because".into(),
        };
        let explained = ExplainAccessResponse {
            allowed: false,
            steps: vec![step(AccessCheck::Token, true), step(AccessCheck::Branch, false)],
        };
        assert_eq!(
            text(&explained),
            "not allowed\n  token       passes  because\n  branch      fails  because"
        );
    }
}
