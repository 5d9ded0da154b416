//! A user's own sessions, from a terminal.

use anyhow::Result;
use clap::{ArgGroup, Subcommand};
use serde_json::json;
use studios_proto::core::{AccountSession, ListSessionsRequest, RevokeOtherSessionsRequest, RevokeSessionRequest};

use crate::{
    output::{Output, message_json},
    runs::Access,
};

/// What can be done with one's own account.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the sessions that are signed in, the one used last first.
    Sessions {
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// End a session, or all but the one that the token belongs to; felt everywhere within a second.
    #[command(group(ArgGroup::new("which").required(true)))]
    Revoke {
        /// The session's id.
        #[arg(group = "which")]
        session: Option<String>,
        /// All others.
        #[arg(long, group = "which")]
        others: bool,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
}

/// Runs a command.
pub async fn run(command: &Command, output: Output) -> Result<()> {
    match command {
        Command::Sessions { access } => {
            let remote = access.remote()?;
            let request = remote.request(ListSessionsRequest {});
            let listed = remote.account().list_sessions(request).await?.into_inner();
            for session in &listed.sessions {
                output.result(line(session), || message_json(session));
            }
        }
        Command::Revoke {
            session: Some(id),
            access,
            ..
        } => {
            let remote = access.remote()?;
            let request = remote.request(RevokeSessionRequest { id: id.clone() });
            remote.account().revoke_session(request).await?;
            output.result(format_args!("ended {id}"), || json!({ "ended": id }));
        }
        Command::Revoke { access, .. } => {
            let remote = access.remote()?;
            let request = remote.request(RevokeOtherSessionsRequest {});
            let ended = remote.account().revoke_other_sessions(request).await?.into_inner();
            let text = match ended.ended_sessions {
                1 => "1 other session ended".to_owned(),
                many => format!("{many} other sessions ended"),
            };
            output.result(text, || message_json(&ended));
        }
    }
    Ok(())
}

fn line(session: &AccountSession) -> String {
    let current = if session.current { "  (this one)" } else { "" };
    let used = session
        .last_use_time
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let or = |text: &str, other: &'static str| {
        if text.is_empty() {
            other.to_owned()
        } else {
            text.to_owned()
        }
    };
    format!(
        "{}  {used}  {}  {}{current}",
        session.id,
        or(&session.address, "address unknown"),
        or(&session.user_agent, "client unknown")
    )
}
