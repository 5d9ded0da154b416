//! Workflows and their versions from a terminal: listed, read, compared, and gone back in.

use std::fmt::Write;

use anyhow::Result;
use clap::Subcommand;
use studios_proto::execution::{
    DefinitionDiff, DeleteWorkflowRequest, DiffWorkflowVersionsRequest, Draft, FieldDiff, GetWorkflowRequest,
    GetWorkflowVersionRequest, ListWorkflowVersionsRequest, ListWorkflowsRequest, RollBackWorkflowRequest, Stage,
    StageChange, UndeleteWorkflowRequest, Workflow, WorkflowVersion, diff_workflow_versions_request::To,
};
use uuid::Uuid;

use crate::{
    output::{Output, message_json},
    runs::Access,
};

/// What can be done with workflows, but for running them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List a studio's workflows.
    List {
        /// The studio's id.
        studio: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Only those whose name contains this.
        #[arg(long, default_value = "")]
        name: String,
        /// Only those with this tag.
        #[arg(long, default_value = "")]
        tag: String,
        /// Only those that have a published version.
        #[arg(long)]
        published: bool,
        /// Also softly deleted ones.
        #[arg(long)]
        deleted: bool,
        /// `create_time`, `update_time` or `name`, alone or followed by ` desc`.
        #[arg(long, default_value = "")]
        order_by: String,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Print a workflow with the stages of its draft, or one of its versions.
    Show {
        /// The workflow's id.
        workflow: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// The version's number; the draft where none is given.
        #[arg(long)]
        version: Option<i32>,
    },
    /// List a workflow's versions, newest first.
    Versions {
        /// The workflow's id.
        workflow: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Print what differs between two versions, or between a version and the draft.
    Diff {
        /// The workflow's id.
        workflow: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// The older version's number; the newest where none is given.
        #[arg(long, default_value_t = 0)]
        from: i32,
        /// The newer version's number; the draft where none is given.
        #[arg(long)]
        to: Option<i32>,
    },
    /// Go back to an older version.
    Rollback {
        /// The workflow's id.
        workflow: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// The number of the version to go back to.
        #[arg(long)]
        to: i32,
        /// Put it in the draft and publish nothing.
        #[arg(long)]
        draft_only: bool,
    },
    /// Delete a workflow; undone by undelete within 30 days.
    Delete {
        /// The workflow's id.
        workflow: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Bring a deleted workflow back.
    Undelete {
        /// The workflow's id.
        workflow: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
}

/// Runs a command.
pub async fn run(command: &Command, output: Output) -> Result<()> {
    match command {
        Command::List { access, limit, .. } => {
            let remote = access.remote()?;
            let request = remote.request(list(command, *limit));
            let page = remote.workflows().list_workflows(request).await?.into_inner();
            for found in &page.workflows {
                output.result(line(found), || message_json(found));
            }
        }
        Command::Show {
            workflow,
            access,
            version,
        } => show(workflow, access, *version, output).await?,
        Command::Versions {
            workflow,
            access,
            limit,
        } => {
            let remote = access.remote()?;
            let request = remote.request(ListWorkflowVersionsRequest {
                workflow_id: workflow.clone(),
                page_size: *limit,
                page_token: String::new(),
            });
            let page = remote.workflows().list_workflow_versions(request).await?.into_inner();
            for found in &page.versions {
                output.result(version_line(found), || message_json(found));
            }
        }
        Command::Diff {
            workflow,
            access,
            from,
            to,
        } => {
            let remote = access.remote()?;
            let request = remote.request(DiffWorkflowVersionsRequest {
                workflow_id: workflow.clone(),
                from_number: *from,
                to: Some(to.map_or(To::ToDraft(Draft {}), To::ToNumber)),
            });
            let told = remote.workflows().diff_workflow_versions(request).await?.into_inner();
            let diff = told.diff.clone().unwrap_or_default();
            output.result(diff_text(&diff), || message_json(&told));
        }
        Command::Rollback {
            workflow,
            access,
            to,
            draft_only,
        } => {
            let remote = access.remote()?;
            let request = remote.request(RollBackWorkflowRequest {
                id: workflow.clone(),
                number: *to,
                draft_only: *draft_only,
                etag: String::new(),
                request_id: Uuid::now_v7().to_string(),
            });
            let done = remote.workflows().roll_back_workflow(request).await?.into_inner();
            let mut text = match &done.version {
                Some(version) => version_line(version),
                None => format!("the draft is that of version {to}"),
            };
            if !done.kept_snapshot_id.is_empty() {
                let _ = write!(text, "  the draft before it is the snapshot {}", done.kept_snapshot_id);
            }
            output.result(text, || message_json(&done));
        }
        Command::Delete { workflow, access } => {
            let remote = access.remote()?;
            let request = remote.request(DeleteWorkflowRequest {
                id: workflow.clone(),
                etag: String::new(),
            });
            let deleted = remote.workflows().delete_workflow(request).await?.into_inner();
            output.result(line(&deleted), || message_json(&deleted));
        }
        Command::Undelete { workflow, access } => {
            let remote = access.remote()?;
            let request = remote.request(UndeleteWorkflowRequest { id: workflow.clone() });
            let back = remote.workflows().undelete_workflow(request).await?.into_inner();
            output.result(line(&back), || message_json(&back));
        }
    }
    Ok(())
}

fn list(command: &Command, limit: i32) -> ListWorkflowsRequest {
    let Command::List {
        studio,
        name,
        tag,
        published,
        deleted,
        order_by,
        ..
    } = command
    else {
        return ListWorkflowsRequest::default();
    };
    ListWorkflowsRequest {
        studio_id: studio.clone(),
        page_size: limit,
        show_deleted: *deleted,
        name_contains: name.clone(),
        tag: tag.clone(),
        only_published: *published,
        order_by: order_by.clone(),
        ..Default::default()
    }
}

async fn show(workflow: &str, access: &Access, version: Option<i32>, output: Output) -> Result<()> {
    let remote = access.remote()?;
    if let Some(number) = version {
        let request = remote.request(GetWorkflowVersionRequest {
            workflow_id: workflow.to_owned(),
            number,
        });
        let found = remote.workflows().get_workflow_version(request).await?.into_inner();
        let stages = found.definition.as_ref().map_or(&[][..], |it| &it.stages);
        output.result(with_stages(version_line(&found), stages), || message_json(&found));
        return Ok(());
    }
    let request = remote.request(GetWorkflowRequest {
        id: workflow.to_owned(),
    });
    let found = remote.workflows().get_workflow(request).await?.into_inner();
    let stages = found.draft.as_ref().map_or(&[][..], |it| &it.stages);
    output.result(with_stages(line(&found), stages), || message_json(&found));
    Ok(())
}

fn line(workflow: &Workflow) -> String {
    let published = match workflow.published_version {
        0 => "unpublished".to_owned(),
        number => format!("version {number}"),
    };
    let edited = if workflow.has_unpublished_changes {
        ", edited"
    } else {
        ""
    };
    let deleted = if workflow.delete_time.is_some() {
        ", deleted"
    } else {
        ""
    };
    format!("{}  {}  {published}{edited}{deleted}", workflow.id, workflow.name)
}

fn version_line(version: &WorkflowVersion) -> String {
    let back = match version.rolled_back_from {
        0 => String::new(),
        number => format!("  rolled back from {number}"),
    };
    format!(
        "version {}  {}  by {}{back}",
        version.number, version.name, version.published_by
    )
}

fn with_stages(mut text: String, stages: &[Stage]) -> String {
    for (place, stage) in stages.iter().enumerate() {
        // A String takes everything.
        let _ = write!(text, "\n  {:>3}  {}", place + 1, stage.name);
    }
    text
}

/// A diff for people: a line for what is the same about it, then each field with what was and what is.
pub(crate) fn diff_text(diff: &DefinitionDiff) -> String {
    let mut lines = Vec::new();
    fields(&mut lines, "", &diff.fields);
    for stage in &diff.stages {
        let (name, from, to) = (&stage.name, stage.from_order, stage.to_order);
        lines.push(match stage.change() {
            StageChange::Added => format!("+ stage {name}, as {to}"),
            StageChange::Removed => format!("- stage {name}, which was {from}"),
            _ if stage.moved => format!("~ stage {name}, moved from {from} to {to}"),
            _ => format!("~ stage {name}"),
        });
        fields(&mut lines, "  ", &stage.fields);
    }
    if diff.truncated {
        lines.push("… and more".to_owned());
    }
    if lines.is_empty() {
        lines.push("no difference".to_owned());
    }
    lines.join("\n")
}

fn fields(lines: &mut Vec<String>, indent: &str, fields: &[FieldDiff]) {
    for field in fields {
        let path = &field.path;
        if let Some(old) = &field.old_value {
            lines.push(format!("{indent}- {path}: {}", service_kit::update::value_to_json(old)));
        }
        if let Some(new) = &field.new_value {
            lines.push(format!("{indent}+ {path}: {}", service_kit::update::value_to_json(new)));
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::update::json_to_value;
    use studios_proto::execution::StageDiff;

    use super::*;

    #[test]
    fn a_diff_is_told_line_by_line() {
        assert_eq!(diff_text(&DefinitionDiff::default()), "no difference");
        let field = |path: &str, old: Option<&str>, new: Option<&str>| FieldDiff {
            path: path.into(),
            old_value: old.map(|it| json_to_value(&it.into())),
            new_value: new.map(|it| json_to_value(&it.into())),
        };
        let diff = DefinitionDiff {
            fields: vec![field("transition_limit", None, Some("5"))],
            stages: vec![
                StageDiff {
                    name: "a".into(),
                    change: StageChange::Changed.into(),
                    from_order: 2,
                    to_order: 1,
                    moved: true,
                    fields: vec![field("llm.prompt", Some("x"), Some("y"))],
                },
                StageDiff {
                    name: "b".into(),
                    change: StageChange::Removed.into(),
                    from_order: 3,
                    ..Default::default()
                },
            ],
            truncated: true,
        };
        assert_eq!(
            diff_text(&diff),
            "+ transition_limit: \"5\"\n~ stage a, moved from 2 to 1\n  - llm.prompt: \"x\"\n  + llm.prompt: \"y\"\n\
             - stage b, which was 3\n… and more"
        );
    }
}
