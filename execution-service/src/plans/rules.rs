//! What a plan must be (requirements F3 to F5), judged on JSON that was read.
//!
//! A title stands everywhere, numbers follow the positions, minutes are above zero and are brought into their range. Errors
//! name positions and never repeat a text.

use std::{collections::BTreeSet, fmt};

use serde_json::{Map, Value};
use thiserror::Error;

use crate::engine::failure::FailureClass;

/// The most modules of a plan.
pub const MODULES: usize = 12;
/// The most tasks of a module.
pub const TASKS: usize = 20;
/// The most characters of an answer: Unicode scalar values.
pub const ANSWER_CHARS: usize = 200_000;
/// The minutes that a module may take.
pub const MODULE_MINUTES: (u16, u16) = (15, 480);
/// The minutes that a task may take.
pub const TASK_MINUTES: (u16, u16) = (5, 120);

/// A module as it is stored; its number is its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// What it is called.
    pub title: String,
    /// What it is about; may be empty.
    pub description: String,
    /// How long it takes.
    pub minutes: Minutes,
    /// What there is to do, in order.
    pub tasks: Vec<Task>,
}

/// A task as it is stored; its number is its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// What it is called.
    pub title: String,
    /// What is to be done; may be empty.
    pub description: String,
    /// How long it takes.
    pub minutes: Minutes,
}

/// An effort in its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minutes {
    /// Whole minutes.
    pub value: u16,
    /// Whether it was outside.
    pub clamped: bool,
}

/// A whole plan: from 1 to [`MODULES`] modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The modules, in order.
    pub modules: Vec<Module>,
}

impl Outline {
    /// How many modules' minutes were brought into their range.
    pub fn modules_clamped(&self) -> usize {
        self.modules.iter().filter(|it| it.minutes.clamped).count()
    }

    /// How many tasks' minutes were brought into their range.
    pub fn tasks_clamped(&self) -> usize {
        self.tasks().filter(|it| it.minutes.clamped).count()
    }

    /// Whether any minutes were.
    pub fn normalized_effort(&self) -> bool {
        self.modules_clamped() + self.tasks_clamped() > 0
    }

    /// Every module's tasks.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.modules.iter().flat_map(|it| &it.tasks)
    }
}

/// Why an answer is no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Invalid {
    /// It is no JSON at all.
    #[error("the answer is not JSON")]
    NotJson,
    /// It is longer than [`ANSWER_CHARS`].
    #[error("the answer is too long")]
    TooLong,
    /// It is JSON of another shape.
    #[error("the answer has another shape than a plan")]
    Shape,
    /// It has no module.
    #[error("the plan has no module")]
    NoModules,
    /// It has more than [`MODULES`].
    #[error("the plan has too many modules")]
    TooManyModules,
    /// A module has more than [`TASKS`].
    #[error("{0} has too many tasks")]
    TooManyTasks(At),
    /// A title is missing or empty.
    #[error("{0} has no title")]
    NoTitle(At),
    /// Minutes are missing, no number, or not above zero.
    #[error("{0} has no minutes above zero")]
    NoMinutes(At),
    /// Two have the same order number.
    #[error("{0} has the order number of another")]
    DuplicateOrder(At),
    /// An order number is not the position.
    #[error("{0} has an order number that is not its position")]
    WrongOrder(At),
}

impl Invalid {
    /// What it was, as a stable word.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::TooLong => "too_long",
            Self::Shape => "shape",
            Self::NoModules => "no_modules",
            Self::TooManyModules => "too_many_modules",
            Self::TooManyTasks(_) => "too_many_tasks",
            Self::NoTitle(_) => "no_title",
            Self::NoMinutes(_) => "no_minutes",
            Self::DuplicateOrder(_) => "duplicate_order",
            Self::WrongOrder(_) => "wrong_order",
        }
    }

    /// The class of the attempt's failure.
    pub const fn class(self) -> FailureClass {
        match self {
            Self::NotJson => FailureClass::ProviderError,
            Self::TooLong
            | Self::Shape
            | Self::NoModules
            | Self::TooManyModules
            | Self::TooManyTasks(_)
            | Self::NoTitle(_)
            | Self::NoMinutes(_)
            | Self::DuplicateOrder(_)
            | Self::WrongOrder(_) => FailureClass::Validation,
        }
    }
}

/// A module, or a task in it; from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// The module.
    pub module: usize,
    /// The task, if it is about one.
    pub task: Option<usize>,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module {}", self.module)?;
        self.task.map_or(Ok(()), |task| write!(f, ", task {task}"))
    }
}

/// Judges a whole answer.
pub fn judge(answer: &Value) -> Result<Outline, Invalid> {
    let modules = list(object(answer)?, "modules")?;
    if modules.is_empty() {
        return Err(Invalid::NoModules);
    }
    if modules.len() > MODULES {
        return Err(Invalid::TooManyModules);
    }
    let mut numbers = Numbers::default();
    let modules = (1..).zip(modules).map(|(at, it)| module(it, at, &mut numbers));
    Ok(Outline {
        modules: modules.collect::<Result<_, _>>()?,
    })
}

/// Judges the module at this position, from 1; the numbers are those of the modules before it.
pub(super) fn module(answer: &Value, position: usize, numbers: &mut Numbers) -> Result<Module, Invalid> {
    let at = At {
        module: position,
        task: None,
    };
    let fields = object(answer)?;
    numbers.take(fields, position, at)?;
    let title = title(fields, at)?;
    let description = description(fields)?;
    let minutes = minutes(fields, MODULE_MINUTES, at)?;
    let tasks = list(fields, "tasks")?;
    if tasks.len() > TASKS {
        return Err(Invalid::TooManyTasks(at));
    }
    let mut numbers = Numbers::default();
    let tasks = (1..)
        .zip(tasks)
        .map(|(number, it)| task(it, number, position, &mut numbers));
    Ok(Module {
        title,
        description,
        minutes,
        tasks: tasks.collect::<Result<_, _>>()?,
    })
}

fn task(answer: &Value, position: usize, module: usize, numbers: &mut Numbers) -> Result<Task, Invalid> {
    let at = At {
        module,
        task: Some(position),
    };
    let fields = object(answer)?;
    numbers.take(fields, position, at)?;
    Ok(Task {
        title: title(fields, at)?,
        description: description(fields)?,
        minutes: minutes(fields, TASK_MINUTES, at)?,
    })
}

/// The order numbers that an answer gave.
#[derive(Debug, Default)]
pub(super) struct Numbers(BTreeSet<u64>);

impl Numbers {
    /// Takes the number of the one at this position, if it has one.
    fn take(&mut self, fields: &Map<String, Value>, position: usize, at: At) -> Result<(), Invalid> {
        let Some(order) = one_of(
            fields,
            &["order", "order_number", "orderNumber", "order_index", "orderIndex"],
        )?
        else {
            return Ok(());
        };
        let number = order.as_u64().ok_or(Invalid::WrongOrder(at))?;
        if !self.0.insert(number) {
            return Err(Invalid::DuplicateOrder(at));
        }
        if u64::try_from(position) == Ok(number) {
            Ok(())
        } else {
            Err(Invalid::WrongOrder(at))
        }
    }
}

fn object(answer: &Value) -> Result<&Map<String, Value>, Invalid> {
    answer.as_object().ok_or(Invalid::Shape)
}

fn list<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a [Value], Invalid> {
    fields
        .get(name)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .ok_or(Invalid::Shape)
}

/// The field that has one of these names; of two, nobody knows which is meant. A null is no field.
fn one_of<'a>(fields: &'a Map<String, Value>, names: &[&str]) -> Result<Option<&'a Value>, Invalid> {
    let mut found = names.iter().filter_map(|it| fields.get(*it)).filter(|it| !it.is_null());
    match (found.next(), found.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(Invalid::Shape),
    }
}

fn title(fields: &Map<String, Value>, at: At) -> Result<String, Invalid> {
    let title = fields.get("title").and_then(Value::as_str).map_or("", str::trim);
    if title.is_empty() {
        return Err(Invalid::NoTitle(at));
    }
    Ok(title.to_owned())
}

fn description(fields: &Map<String, Value>) -> Result<String, Invalid> {
    match fields.get("description") {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.trim().to_owned()),
        Some(_) => Err(Invalid::Shape),
    }
}

fn minutes(fields: &Map<String, Value>, (least, most): (u16, u16), at: At) -> Result<Minutes, Invalid> {
    let minutes = one_of(fields, &["estimated_minutes", "estimatedMinutes"])?
        .and_then(Value::as_f64)
        .filter(|it| *it > 0.0)
        .ok_or(Invalid::NoMinutes(at))?;
    let (low, high) = (f64::from(least), f64::from(most));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number is in the range of two u16"
    )]
    let value = minutes.clamp(low, high).round() as u16;
    Ok(Minutes {
        value,
        clamped: minutes < low || minutes > high,
    })
}

#[cfg(test)]
mod tests;
