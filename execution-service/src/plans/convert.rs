//! Plans as the contract writes them.

use std::time::Duration;

use service_kit::{
    error::{Error, Result},
    ids::PlanId,
    update,
};
use studios_proto::execution as proto;
use time::OffsetDateTime;

use super::{
    Attempt, Level, Means, Module, Origin, Placed, Plan, Progress, Status, Style, Summary, Task, Visibility, Wish,
    rules::Minutes, watch::Event,
};

mod asked;

pub(super) use asked::{DEFAULT_MODEL, again, changes, filter, mark, new, version};

/// What a learner is told, whatever happened.
const FAILED: &str =
    "The plan could not be made. Please try again; if it happens again, tell support the correlation id.";

/// A module, with no more than its plan's being written says of it.
pub(crate) fn module(number: usize, module: &Module) -> proto::PlanModule {
    placed(number, module, &[])
}

/// A module that another replica tells of.
pub(crate) fn told_module(given: proto::PlanModule) -> Result<Module> {
    let minutes = |given: i32| {
        let value = u16::try_from(given).map_err(Error::internal)?;
        Ok::<_, Error>(Minutes { value, clamped: false })
    };
    let tasks = given.tasks.into_iter().map(|task| {
        Ok(Task {
            title: task.title,
            description: task.description,
            minutes: minutes(task.estimated_minutes)?,
        })
    });
    Ok(Module {
        tasks: tasks.collect::<Result<_>>()?,
        title: given.title,
        description: given.description,
        minutes: minutes(given.estimated_minutes)?,
    })
}

fn placed(number: usize, module: &Module, done_at: &[Option<OffsetDateTime>]) -> proto::PlanModule {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let tasks = module.tasks.iter().enumerate().map(|(at, task)| proto::PlanTask {
        number: count(at + 1),
        title: task.title.clone(),
        description: task.description.clone(),
        estimated_minutes: task.minutes.value.into(),
        done_time: done_at.get(at).copied().flatten().map(update::timestamp),
    });
    proto::PlanModule {
        number: count(number),
        title: module.title.clone(),
        description: module.description.clone(),
        estimated_minutes: module.minutes.value.into(),
        tasks: tasks.collect(),
    }
}

impl From<Event> for proto::PlanEvent {
    fn from(event: Event) -> Self {
        use proto::plan_event::Event as Told;
        let told = match event {
            Event::Plan(plan) => Told::Plan((*plan).into()),
            Event::Module(number, it) => Told::Module(module(number, &it)),
            Event::Restarted => Told::Restarted(proto::PlanRestarted {}),
        };
        Self { event: Some(told) }
    }
}

impl From<Plan> for proto::Plan {
    fn from(plan: Plan) -> Self {
        let modules = plan.modules.iter().enumerate().map(|(at, it)| {
            let Placed { module, done_at } = it;
            placed(at + 1, module, done_at)
        });
        Self {
            modules: modules.collect(),
            ..plan.summary.into()
        }
    }
}

impl From<Summary> for proto::Plan {
    fn from(summary: Summary) -> Self {
        let number = |given: u32| i32::try_from(given).unwrap_or(i32::MAX);
        let standing = summary.standing;
        Self {
            id: summary.id.to_string(),
            company_id: summary.company.to_string(),
            studio_id: summary.studio.to_string(),
            owner_id: summary.owner.to_string(),
            origin: match summary.origin {
                Origin::Ai => proto::PlanOrigin::Ai,
                Origin::Template => proto::PlanOrigin::Template,
                Origin::Manual => proto::PlanOrigin::Manual,
            }
            .into(),
            visibility: match summary.visibility {
                Visibility::Private => proto::PlanVisibility::Private,
                Visibility::Public => proto::PlanVisibility::Public,
            }
            .into(),
            version: summary.version,
            newest_version: summary.newest_version,
            truncation: Some(truncation(&summary.wish)),
            wish: Some(wished(summary.wish, summary.means)),
            status: match standing.status() {
                Status::Pending => proto::PlanStatus::Pending,
                Status::Ready => proto::PlanStatus::Ready,
                Status::Failed => proto::PlanStatus::Failed,
            }
            .into(),
            generating: standing.running,
            attempts: number(standing.attempts()),
            attempts_left: number(standing.attempts_left()),
            failure: summary.failed.map(|correlation_id| proto::PlanFailure {
                message: FAILED.into(),
                correlation_id,
            }),
            modules: Vec::new(),
            progress: Some(summary.progress.into()),
            create_time: Some(update::timestamp(summary.created_at)),
            update_time: Some(update::timestamp(summary.updated_at)),
            etag: update::etag(summary.revision),
        }
    }
}

impl From<Progress> for proto::PlanProgress {
    fn from(progress: Progress) -> Self {
        Self {
            tasks: progress.tasks,
            done: progress.done,
            percent: progress.percent(),
        }
    }
}

fn wished(wish: Wish, means: Means) -> proto::PlanWish {
    proto::PlanWish {
        topic: wish.topic.text,
        notes: wish.notes.text,
        skill_level: match wish.level {
            Level::Beginner => proto::SkillLevel::Beginner,
            Level::Intermediate => proto::SkillLevel::Intermediate,
            Level::Advanced => proto::SkillLevel::Advanced,
        }
        .into(),
        weekly_hours: i32::try_from(wish.weekly_hours.get()).unwrap_or(i32::MAX),
        learning_style: match wish.style {
            Style::Reading => proto::LearningStyle::Reading,
            Style::Video => proto::LearningStyle::Video,
            Style::Practice => proto::LearningStyle::Practice,
            Style::Mixed => proto::LearningStyle::Mixed,
        }
        .into(),
        use_documents: means.use_documents,
        model: means.model,
        fallback_model: means.fallback_model,
    }
}

fn truncation(wish: &Wish) -> proto::PlanTruncation {
    let length = |chars: usize| i32::try_from(chars).unwrap_or(i32::MAX);
    proto::PlanTruncation {
        topic_truncated: wish.topic.truncated,
        topic_original_length: length(wish.topic.original_length),
        notes_truncated: wish.notes.truncated,
        notes_original_length: length(wish.notes.original_length),
    }
}

pub(super) fn attempt(plan: PlanId, attempt: Attempt) -> proto::PlanAttempt {
    let number = |given: u64| i64::try_from(given).unwrap_or(i64::MAX);
    let count = |given: usize| i32::try_from(given).unwrap_or(i32::MAX);
    let metadata = attempt.metadata;
    proto::PlanAttempt {
        plan_id: plan.to_string(),
        version: attempt.version,
        number: attempt.number.into(),
        succeeded: attempt.classification.is_none(),
        classification: attempt.classification.unwrap_or_default(),
        reason: attempt.reason,
        model: attempt.model,
        duration: Some(update::duration(Duration::from_millis(
            u64::try_from(attempt.duration_ms).unwrap_or_default(),
        ))),
        modules_count: attempt.modules_count.into(),
        tasks_count: attempt.tasks_count.into(),
        truncation: Some(proto::PlanTruncation {
            topic_truncated: metadata.input.topic.truncated,
            topic_original_length: count(metadata.input.topic.original_length),
            notes_truncated: metadata.input.notes.truncated,
            notes_original_length: count(metadata.input.notes.original_length),
        }),
        normalized_effort: attempt.normalized_effort,
        modules_clamped: count(metadata.normalization.modules_clamped),
        tasks_clamped: count(metadata.normalization.tasks_clamped),
        prompt_sha256: attempt.prompt_sha256,
        input_tokens: number(metadata.provider.tokens.input),
        output_tokens: number(metadata.provider.tokens.output),
        cost_micros: number(metadata.provider.cost_micros),
        billing_uncertain: metadata.provider.billing_uncertain,
        correlation_id: attempt.correlation_id,
        start_time: Some(update::timestamp(metadata.timing.started_at)),
        end_time: Some(update::timestamp(metadata.timing.finished_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_told_is_heard_as_it_is() {
        let said = Module {
            title: "One".into(),
            description: "It".into(),
            minutes: Minutes {
                value: 30,
                clamped: false,
            },
            tasks: vec![Task {
                title: "Read".into(),
                description: String::new(),
                minutes: Minutes {
                    value: 20,
                    clamped: false,
                },
            }],
        };
        assert_eq!(told_module(module(1, &said)).unwrap(), said);
        let wrong = proto::PlanModule {
            estimated_minutes: -1,
            ..module(1, &said)
        };
        assert!(told_module(wrong).is_err());
    }
}
