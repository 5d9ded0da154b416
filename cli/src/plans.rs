//! Learning plans from a terminal: made, watched while they are written, and worked through.

use std::fmt::Write;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use serde_json::json;
use studios_proto::execution::{
    CreatePlanRequest, DeletePlanRequest, GetPlanRequest, LearningStyle, ListPlanAttemptsRequest, ListPlansRequest,
    MarkPlanTaskRequest, Plan, PlanAttempt, PlanModule, PlanStatus, PlanVisibility, PlanWish, RegeneratePlanRequest,
    RetryPlanRequest, SkillLevel, UpdatePlanRequest, WatchPlanRequest, plan_event::Event,
};
use uuid::Uuid;

use crate::{
    output::{Output, message_json},
    runs::Access,
};

/// What can be done with plans.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Have a plan written; with --watch follows it until it is.
    Create {
        /// The studio's id.
        studio: String,
        /// What is to be learned.
        topic: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// What else matters.
        #[arg(long, default_value = "")]
        notes: String,
        /// What is known already.
        #[arg(long, value_enum, default_value_t = Level::Beginner)]
        level: Level,
        /// How many hours a week there are.
        #[arg(long, default_value_t = 3)]
        hours: i32,
        /// How it is learned best.
        #[arg(long, value_enum, default_value_t = Style::Mixed)]
        style: Style,
        /// Use what the studio's documents say of it.
        #[arg(long)]
        documents: bool,
        /// The name of the model that writes it; offline where none is given.
        #[arg(long, default_value = "")]
        model: String,
        /// The model that is asked when that one cannot answer.
        #[arg(long, default_value = "")]
        fallback: String,
        /// Let all who reach the studio see it.
        #[arg(long)]
        public: bool,
        /// Follow it until it is written.
        #[arg(long)]
        watch: bool,
    },
    /// List a studio's plans that you see, newest first.
    List {
        /// The studio's id.
        studio: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Only your own.
        #[arg(long)]
        own: bool,
        /// Only those that stand so.
        #[arg(long, value_enum)]
        status: Option<Standing>,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: i32,
    },
    /// Print a plan with its modules and tasks.
    Show {
        /// The plan's id.
        plan: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// The version's number; the newest where none is given.
        #[arg(long, default_value_t = 0)]
        version: i32,
    },
    /// Follow a plan while it is written.
    Watch {
        /// The plan's id.
        plan: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Begin another attempt at a plan that could not be written.
    Retry {
        /// The plan's id.
        plan: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Have a new version written from the same wish; the old one is kept.
    Regenerate {
        /// The plan's id.
        plan: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// List the attempts at a plan of yours, newest first.
    Attempts {
        /// The plan's id.
        plan: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Mark a task as done.
    Done {
        /// The plan's id.
        plan: String,
        /// The module's number.
        module: i32,
        /// The task's number in it.
        task: i32,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// As not done instead.
        #[arg(long)]
        not: bool,
    },
    /// Let all who reach the studio see a plan, or nobody but you.
    Share {
        /// The plan's id.
        plan: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// Nobody but you.
        #[arg(long)]
        not: bool,
    },
    /// Delete a plan for good.
    Delete {
        /// The plan's id.
        plan: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
}

/// What is known already.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Level {
    /// Nothing to speak of.
    Beginner,
    /// The basics.
    Intermediate,
    /// Enough to work with.
    Advanced,
}

/// How something is learned best.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Style {
    /// By reading.
    Reading,
    /// By watching.
    Video,
    /// By doing.
    Practice,
    /// By all of them.
    Mixed,
}

/// Where a plan stands.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Standing {
    /// It is being written, or may be tried again.
    Pending,
    /// It is written.
    Ready,
    /// It could not be written.
    Failed,
}

/// Runs a command; whether what was followed was written.
pub async fn run(command: &Command, output: Output) -> Result<bool> {
    match command {
        Command::Create { access, watch, .. } => {
            let remote = access.remote()?;
            let made = remote.plans().create_plan(remote.request(new(command))).await?;
            let made = made.into_inner();
            print(&made, output);
            if *watch {
                return follow(&made.id, access, output).await;
            }
        }
        Command::List {
            studio,
            access,
            own,
            status,
            limit,
        } => {
            let status = status.map_or(PlanStatus::Unspecified, |it| match it {
                Standing::Pending => PlanStatus::Pending,
                Standing::Ready => PlanStatus::Ready,
                Standing::Failed => PlanStatus::Failed,
            });
            let request = ListPlansRequest {
                studio_id: studio.clone(),
                own: *own,
                status: status.into(),
                page_size: *limit,
                ..ListPlansRequest::default()
            };
            let remote = access.remote()?;
            let page = remote.plans().list_plans(remote.request(request)).await?;
            for found in &page.into_inner().plans {
                print(found, output);
            }
        }
        Command::Show { plan, access, version } => {
            let request = GetPlanRequest {
                id: plan.clone(),
                version: *version,
            };
            let remote = access.remote()?;
            let found = remote.plans().get_plan(remote.request(request)).await?.into_inner();
            output.result(text(&found), || message_json(&found));
        }
        Command::Watch { plan, access } => return follow(plan, access, output).await,
        Command::Retry { plan, access } => {
            let remote = access.remote()?;
            let request = RetryPlanRequest { id: plan.clone() };
            let begun = remote.plans().retry_plan(remote.request(request)).await?;
            print(&begun.into_inner(), output);
        }
        Command::Regenerate { plan, access } => {
            let request = RegeneratePlanRequest {
                id: plan.clone(),
                wish: None,
                request_id: Uuid::now_v7().to_string(),
            };
            let remote = access.remote()?;
            let begun = remote.plans().regenerate_plan(remote.request(request)).await?;
            print(&begun.into_inner(), output);
        }
        Command::Attempts { plan, access } => {
            let request = ListPlanAttemptsRequest {
                plan_id: plan.clone(),
                ..ListPlanAttemptsRequest::default()
            };
            let remote = access.remote()?;
            let page = remote.plans().list_plan_attempts(remote.request(request)).await?;
            for attempt in &page.into_inner().attempts {
                output.result(attempt_line(attempt), || message_json(attempt));
            }
        }
        Command::Done {
            plan,
            module,
            task,
            access,
            not,
        } => {
            let request = MarkPlanTaskRequest {
                plan_id: plan.clone(),
                module: *module,
                task: *task,
                done: !not,
            };
            let remote = access.remote()?;
            let progress = remote.plans().mark_plan_task(remote.request(request)).await?;
            let progress = progress.into_inner();
            let line = format!("{} of {} done, {}%", progress.done, progress.tasks, progress.percent);
            output.result(line, || message_json(&progress));
        }
        Command::Share { plan, access, not } => {
            let visibility = if *not {
                PlanVisibility::Private
            } else {
                PlanVisibility::Public
            };
            let changed = Plan {
                id: plan.clone(),
                visibility: visibility.into(),
                ..Plan::default()
            };
            let request = UpdatePlanRequest {
                plan: Some(changed),
                update_mask: None,
            };
            let remote = access.remote()?;
            let changed = remote.plans().update_plan(remote.request(request)).await?;
            print(&changed.into_inner(), output);
        }
        Command::Delete { plan, access } => {
            let request = DeletePlanRequest {
                id: plan.clone(),
                etag: String::new(),
            };
            let remote = access.remote()?;
            remote.plans().delete_plan(remote.request(request)).await?;
            output.result(format_args!("deleted {plan}"), || json!({ "deleted": plan }));
        }
    }
    Ok(true)
}

fn new(command: &Command) -> CreatePlanRequest {
    let Command::Create {
        studio,
        topic,
        notes,
        level,
        hours,
        style,
        documents,
        model,
        fallback,
        public,
        ..
    } = command
    else {
        return CreatePlanRequest::default();
    };
    let level = match level {
        Level::Beginner => SkillLevel::Beginner,
        Level::Intermediate => SkillLevel::Intermediate,
        Level::Advanced => SkillLevel::Advanced,
    };
    let style = match style {
        Style::Reading => LearningStyle::Reading,
        Style::Video => LearningStyle::Video,
        Style::Practice => LearningStyle::Practice,
        Style::Mixed => LearningStyle::Mixed,
    };
    let visibility = if *public {
        PlanVisibility::Public
    } else {
        PlanVisibility::Private
    };
    CreatePlanRequest {
        studio_id: studio.clone(),
        wish: Some(PlanWish {
            topic: topic.clone(),
            notes: notes.clone(),
            skill_level: level.into(),
            weekly_hours: *hours,
            learning_style: style.into(),
            use_documents: *documents,
            model: model.clone(),
            fallback_model: fallback.clone(),
        }),
        visibility: visibility.into(),
        request_id: Uuid::now_v7().to_string(),
        ..CreatePlanRequest::default()
    }
}

/// Prints what happens to a plan until nothing is written of it; whether it is ready then.
async fn follow(plan: &str, access: &Access, output: Output) -> Result<bool> {
    let remote = access.remote()?;
    let request = WatchPlanRequest { id: plan.to_owned() };
    let mut events = remote.plans().watch_plan(remote.request(request)).await?.into_inner();
    let mut is_ready = false;
    while let Some(event) = events.message().await? {
        let said = match &event.event {
            Some(Event::Plan(plan)) => {
                is_ready = plan.status() == PlanStatus::Ready;
                line(plan)
            }
            Some(Event::Module(module)) => module_text(module).trim_end().to_owned(),
            Some(Event::Restarted(_)) => "it is written anew".to_owned(),
            None => continue,
        };
        output.result(said, || message_json(&event));
    }
    Ok(is_ready)
}

fn print(plan: &Plan, output: Output) {
    output.result(line(plan), || message_json(plan));
}

fn line(plan: &Plan) -> String {
    let status = match plan.status() {
        PlanStatus::Ready => "ready",
        PlanStatus::Failed => "failed",
        PlanStatus::Pending if plan.generating => "being written",
        PlanStatus::Pending | PlanStatus::Unspecified => "pending",
    };
    let topic = plan.wish.as_ref().map_or("", |it| it.topic.as_str());
    let mut line = format!("{}  {topic}  {status}", plan.id);
    if let Some(progress) = plan.progress.filter(|it| it.tasks > 0) {
        // A String takes everything.
        let _ = write!(line, ", {}% done", progress.percent);
    }
    if let Some(failure) = &plan.failure {
        let _ = write!(line, "\n  {} ({})", failure.message, failure.correlation_id);
    }
    line
}

fn text(plan: &Plan) -> String {
    let modules: String = plan.modules.iter().map(module_text).collect();
    format!("{}\n{modules}", line(plan)).trim_end().to_owned()
}

fn module_text(module: &PlanModule) -> String {
    let mut text = format!(
        "{}. {}  {} min\n",
        module.number, module.title, module.estimated_minutes
    );
    if !module.description.is_empty() {
        let _ = writeln!(text, "   {}", module.description);
    }
    for task in &module.tasks {
        let mark = if task.done_time.is_some() { "x" } else { " " };
        let _ = writeln!(
            text,
            "   [{mark}] {}. {}  {} min",
            task.number, task.title, task.estimated_minutes
        );
    }
    text
}

fn attempt_line(attempt: &PlanAttempt) -> String {
    let outcome = if attempt.succeeded {
        format!("{} modules, {} tasks", attempt.modules_count, attempt.tasks_count)
    } else {
        format!("{} ({})", attempt.classification, attempt.reason)
    };
    let duration = attempt.duration.unwrap_or_default();
    let ms = duration.seconds * 1_000 + i64::from(duration.nanos) / 1_000_000;
    format!(
        "version {} attempt {}  {outcome}  {} {ms} ms, {} tokens  {}",
        attempt.version,
        attempt.number,
        attempt.model,
        attempt.input_tokens + attempt.output_tokens,
        attempt.correlation_id
    )
}
