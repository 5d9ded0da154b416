//! What is asked, from the contract's messages; everything wrong is named by its field.

use prost_types::FieldMask;
use service_kit::{
    error::{Result, Violations},
    ids::PlanId,
    update,
};
use studios_proto::execution as proto;

use crate::{
    plans::{
        Bounded, Content, Filter, Level, Means, Module, New, Origin, Outline, Status, Style, Task, TaskPlace,
        Visibility, WeeklyHours, Wish,
        beginning::Again,
        rules::{MODULE_MINUTES, MODULES, Minutes, TASK_MINUTES, TASKS},
    },
    requests,
};

/// The model that writes plans which name none.
pub(in crate::plans) const DEFAULT_MODEL: &str = "offline";
/// The fields that an update may change.
const CHANGEABLE: &[&str] = &["visibility"];
/// Of what people write by hand.
const TITLE_CHARS: usize = 300;
const DESCRIPTION_CHARS: usize = 5_000;

pub(in crate::plans) fn new(
    method: &'static str,
    request: &proto::CreatePlanRequest,
) -> Result<(New, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let studio = violations.id("studio_id", &request.studio_id);
    let origin = origin(&mut violations, request.origin).unwrap_or(Origin::Ai);
    let visibility = visibility(&mut violations, "visibility", request.visibility).unwrap_or(Visibility::Private);
    if origin != Origin::Manual && !request.modules.is_empty() {
        violations.add("modules", "must be empty but of a plan by hand");
    }
    if origin != Origin::Template && !request.template_plan_id.is_empty() {
        violations.add("template_plan_id", "must be empty but of a plan from a template");
    }
    let given = request.wish.as_ref();
    let content = match origin {
        Origin::Ai => wish(&mut violations, given).map(|(wish, means)| Content::Ai(wish, means)),
        Origin::Manual => {
            let outline = outline(&mut violations, &request.modules);
            let wish = wish(&mut violations, given);
            wish.zip(outline)
                .map(|((wish, _), outline)| Content::Manual(wish, outline))
        }
        Origin::Template => {
            let template = violations.id("template_plan_id", &request.template_plan_id);
            let wish = given.is_some().then(|| wish(&mut violations, given)).flatten();
            template.map(|template| Content::Template(template, wish.map(|(wish, _)| wish)))
        }
    };
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    let new = New {
        studio: studio.expect("a missing one is a violation"),
        visibility,
        content: content.expect("a missing one is a violation"),
    };
    Ok((new, key))
}

pub(in crate::plans) fn again(
    method: &'static str,
    request: &proto::RegeneratePlanRequest,
) -> Result<(Again, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let plan = violations.id("id", &request.id);
    let given = request.wish.as_ref();
    let wish = given.and_then(|_| wish(&mut violations, given));
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    let plan = plan.expect("a missing one is a violation");
    Ok((Again { plan, wish }, key))
}

pub(in crate::plans) fn version(request: &proto::GetPlanRequest) -> Result<(PlanId, i32)> {
    let mut violations = Violations::new();
    let id = violations.id("id", &request.id);
    if request.version < 0 {
        violations.add("version", "must not be negative");
    }
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), request.version))
}

pub(in crate::plans) fn filter(request: &proto::ListPlansRequest) -> Result<Filter> {
    let mut violations = Violations::new();
    let studio = violations.id("studio_id", &request.studio_id);
    let origin = origin(&mut violations, request.origin);
    let status = match proto::PlanStatus::try_from(request.status) {
        Ok(proto::PlanStatus::Unspecified) => None,
        Ok(proto::PlanStatus::Pending) => Some(Status::Pending),
        Ok(proto::PlanStatus::Ready) => Some(Status::Ready),
        Ok(proto::PlanStatus::Failed) => Some(Status::Failed),
        Err(_) => {
            violations.add("status", "must be a PlanStatus");
            None
        }
    };
    violations.finish()?;
    Ok(Filter {
        studio: studio.expect("a missing one is a violation"),
        own: request.own,
        origin,
        status,
    })
}

pub(in crate::plans) fn changes(request: &proto::UpdatePlanRequest) -> Result<(PlanId, String, Option<Visibility>)> {
    let mut violations = Violations::new();
    let given = request.plan.clone().unwrap_or_default();
    let id = violations.id("plan.id", &given.id);
    let set: &[&str] = if given.visibility == 0 { &[] } else { CHANGEABLE };
    let mask: Option<&FieldMask> = request.update_mask.as_ref();
    let paths = violations.include(update::paths(mask, CHANGEABLE, set))?;
    let is_changed = paths.is_some_and(|it| it.contains("visibility"));
    let changed = is_changed.then(|| visibility(&mut violations, "plan.visibility", given.visibility));
    if changed == Some(None) {
        violations.add("plan.visibility", "must be private or public");
    }
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), given.etag, changed.flatten()))
}

pub(in crate::plans) fn mark(request: &proto::MarkPlanTaskRequest) -> Result<(PlanId, TaskPlace, bool)> {
    let mut violations = Violations::new();
    let id = violations.id("plan_id", &request.plan_id);
    let mut place = |field, number: i32| match i16::try_from(number) {
        Ok(number) if number > 0 => Some(number),
        _ => {
            violations.add(field, "must be a number from 1");
            None
        }
    };
    let (module, task) = (place("module", request.module), place("task", request.task));
    violations.finish()?;
    let place = TaskPlace {
        module: module.expect("a missing one is a violation"),
        task: task.expect("a missing one is a violation"),
    };
    Ok((id.expect("a missing one is a violation"), place, request.done))
}

fn origin(violations: &mut Violations, given: i32) -> Option<Origin> {
    match proto::PlanOrigin::try_from(given) {
        Ok(proto::PlanOrigin::Unspecified) => None,
        Ok(proto::PlanOrigin::Ai) => Some(Origin::Ai),
        Ok(proto::PlanOrigin::Template) => Some(Origin::Template),
        Ok(proto::PlanOrigin::Manual) => Some(Origin::Manual),
        Err(_) => {
            violations.add("origin", "must be a PlanOrigin");
            None
        }
    }
}

fn visibility(violations: &mut Violations, field: &str, given: i32) -> Option<Visibility> {
    match proto::PlanVisibility::try_from(given) {
        Ok(proto::PlanVisibility::Unspecified) => None,
        Ok(proto::PlanVisibility::Private) => Some(Visibility::Private),
        Ok(proto::PlanVisibility::Public) => Some(Visibility::Public),
        Err(_) => {
            violations.add(field, "must be a PlanVisibility");
            None
        }
    }
}

/// Reads what a plan is made from. Texts that are too long are cut, and nothing else is.
fn wish(violations: &mut Violations, given: Option<&proto::PlanWish>) -> Option<(Wish, Means)> {
    let Some(given) = given else {
        violations.add("wish", "must be given");
        return None;
    };
    let topic = text(violations, "wish.topic", &given.topic).filter(|it| !it.is_empty());
    if topic.is_none() && given.topic.trim().is_empty() {
        violations.add("wish.topic", "must not be empty");
    }
    let notes = text(violations, "wish.notes", &given.notes);
    let level = match proto::SkillLevel::try_from(given.skill_level) {
        Ok(proto::SkillLevel::Unspecified | proto::SkillLevel::Beginner) => Some(Level::Beginner),
        Ok(proto::SkillLevel::Intermediate) => Some(Level::Intermediate),
        Ok(proto::SkillLevel::Advanced) => Some(Level::Advanced),
        Err(_) => None,
    };
    let style = match proto::LearningStyle::try_from(given.learning_style) {
        Ok(proto::LearningStyle::Unspecified | proto::LearningStyle::Mixed) => Some(Style::Mixed),
        Ok(proto::LearningStyle::Reading) => Some(Style::Reading),
        Ok(proto::LearningStyle::Video) => Some(Style::Video),
        Ok(proto::LearningStyle::Practice) => Some(Style::Practice),
        Err(_) => None,
    };
    let weekly_hours = u32::try_from(given.weekly_hours).ok().and_then(WeeklyHours::new);
    for (field, is_known, must) in [
        ("wish.skill_level", level.is_some(), "must be a SkillLevel"),
        ("wish.learning_style", style.is_some(), "must be a LearningStyle"),
        ("wish.weekly_hours", weekly_hours.is_some(), "must be from 1 to 168"),
    ] {
        if !is_known {
            violations.add(field, must);
        }
    }
    let model = violations.text("wish.model", &given.model, 0..=100);
    let fallback_model = violations.text("wish.fallback_model", &given.fallback_model, 0..=100);
    let wish = Wish {
        topic: Bounded::topic(topic?),
        notes: Bounded::notes(notes?),
        level: level?,
        weekly_hours: weekly_hours?,
        style: style?,
    };
    let means = Means {
        use_documents: given.use_documents,
        model: model.map(|it| if it.is_empty() { DEFAULT_MODEL.into() } else { it })?,
        fallback_model: fallback_model?,
    };
    Some((wish, means))
}

/// A text without the blanks around it, which can be stored.
fn text<'a>(violations: &mut Violations, field: &str, text: &'a str) -> Option<&'a str> {
    if text.contains('\0') {
        violations.add(field, "must not contain a NUL character");
        return None;
    }
    Some(text.trim())
}

/// Reads modules that are written by hand.
fn outline(violations: &mut Violations, given: &[proto::PlanModule]) -> Option<Outline> {
    if given.is_empty() || given.len() > MODULES {
        violations.add("modules", format!("must be 1 to {MODULES}"));
        return None;
    }
    let mut modules = Vec::new();
    for (at, module) in given.iter().enumerate() {
        let field = format!("modules[{at}]");
        let title = violations.text(format!("{field}.title"), &module.title, 1..=TITLE_CHARS);
        let description = violations.text(
            format!("{field}.description"),
            &module.description,
            0..=DESCRIPTION_CHARS,
        );
        numbered(violations, &field, module.number, at);
        let effort = minutes(violations, &field, module.estimated_minutes, MODULE_MINUTES);
        if module.tasks.len() > TASKS {
            violations.add(format!("{field}.tasks"), format!("must be at most {TASKS}"));
            continue;
        }
        let mut tasks = Vec::new();
        for (at, task) in module.tasks.iter().enumerate() {
            let field = format!("{field}.tasks[{at}]");
            let title = violations.text(format!("{field}.title"), &task.title, 1..=TITLE_CHARS);
            let description = violations.text(format!("{field}.description"), &task.description, 0..=DESCRIPTION_CHARS);
            numbered(violations, &field, task.number, at);
            let minutes = minutes(violations, &field, task.estimated_minutes, TASK_MINUTES);
            if let (Some(title), Some(description), Some(minutes)) = (title, description, minutes) {
                tasks.push(Task {
                    title,
                    description,
                    minutes,
                });
            }
        }
        if let (Some(title), Some(description), Some(minutes)) = (title, description, effort) {
            modules.push(Module {
                title,
                description,
                minutes,
                tasks,
            });
        }
    }
    Some(Outline { modules })
}

fn numbered(violations: &mut Violations, field: &str, number: i32, at: usize) {
    let place = i32::try_from(at + 1).unwrap_or(i32::MAX);
    if number != 0 && number != place {
        violations.add(
            format!("{field}.number"),
            format!("must be {place}, its place, or left out"),
        );
    }
}

fn minutes(violations: &mut Violations, field: &str, given: i32, (least, most): (u16, u16)) -> Option<Minutes> {
    if given <= 0 {
        violations.add(format!("{field}.estimated_minutes"), "must be above 0");
        return None;
    }
    let value = u16::try_from(given).unwrap_or(u16::MAX).clamp(least, most);
    Some(Minutes {
        value,
        clamped: i32::from(value) != given,
    })
}

#[cfg(test)]
mod tests {
    use service_kit::error::Error;

    use super::*;

    const STUDIO: &str = "01900000-0000-7000-8000-00000000000a";

    fn fields(error: Error) -> Vec<String> {
        let Error::Invalid(violations) = error else {
            panic!("{error:?}")
        };
        violations.into_iter().map(|it| it.field).collect()
    }

    fn asked(change: impl FnOnce(&mut proto::CreatePlanRequest)) -> Result<New> {
        let mut request = proto::CreatePlanRequest {
            studio_id: STUDIO.into(),
            wish: Some(proto::PlanWish {
                topic: "Rust".into(),
                weekly_hours: 5,
                ..Default::default()
            }),
            ..Default::default()
        };
        change(&mut request);
        new("/x", &request).map(|(new, _)| new)
    }

    #[test]
    fn what_a_wish_leaves_out_has_its_usual_value() {
        let New {
            content: Content::Ai(wish, means),
            visibility: Visibility::Private,
            ..
        } = asked(|_| ()).unwrap()
        else {
            panic!("a private plan by a model")
        };
        assert_eq!((wish.level, wish.style), (Level::Beginner, Style::Mixed));
        assert_eq!((means.model.as_str(), means.fallback_model.as_str()), ("offline", ""));
    }

    #[test]
    fn everything_wrong_with_a_wish_is_named_at_once() {
        let error = asked(|it| {
            it.wish = Some(proto::PlanWish {
                topic: " ".into(),
                notes: "a\0b".into(),
                weekly_hours: 169,
                skill_level: 9,
                learning_style: 9,
                ..Default::default()
            });
            it.visibility = 9;
            it.template_plan_id = STUDIO.into();
        });
        assert_eq!(
            fields(error.unwrap_err()),
            [
                "visibility",
                "template_plan_id",
                "wish.topic",
                "wish.notes",
                "wish.skill_level",
                "wish.learning_style",
                "wish.weekly_hours"
            ]
        );
    }

    #[test]
    fn a_plan_by_hand_keeps_the_rules_of_any_plan() {
        let module = |number, minutes| proto::PlanModule {
            number,
            title: "One".into(),
            estimated_minutes: minutes,
            tasks: vec![proto::PlanTask {
                title: "Read".into(),
                estimated_minutes: 1,
                ..Default::default()
            }],
            ..Default::default()
        };
        let by_hand = |modules: Vec<proto::PlanModule>| {
            asked(|it| {
                it.origin = proto::PlanOrigin::Manual.into();
                it.modules = modules;
            })
        };
        let Content::Manual(_, outline) = by_hand(vec![module(1, 10), module(0, 900)]).unwrap().content else {
            panic!("a plan by hand")
        };
        assert_eq!((outline.modules_clamped(), outline.tasks_clamped()), (2, 2));
        assert_eq!(fields(by_hand(Vec::new()).unwrap_err()), ["modules"]);
        assert_eq!(fields(by_hand(vec![module(0, 30); 13]).unwrap_err()), ["modules"]);
        assert_eq!(
            fields(by_hand(vec![module(2, 0)]).unwrap_err()),
            ["modules[0].number", "modules[0].estimated_minutes"]
        );
        let modules = |it: &mut proto::CreatePlanRequest| it.modules = vec![module(0, 30)];
        assert_eq!(fields(asked(modules).unwrap_err()), ["modules"]);
    }
}
