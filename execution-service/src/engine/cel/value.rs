//! What expressions compute with: JSON as it lies there, and what is made of it.

use std::{borrow::Cow, collections::BTreeMap, rc::Rc};

use serde_json::Value as Json;

use crate::engine::context::Context;

/// The names of variables that a scope may have, beside `stage_<order>`.
pub(super) const ROOTS: [&str; 9] = [
    "inputs", "stages", "output", "text", "failure", "visit", "sources", "item", "index",
];

/// The variables of an expression.
#[derive(Debug, Default)]
pub struct Scope<'a> {
    context: Option<&'a Context<'a>>,
    variables: Vec<(&'static str, Variable<'a>)>,
}

/// The value of a variable.
#[derive(Debug, Clone)]
pub enum Variable<'a> {
    /// JSON that lies elsewhere.
    Json(&'a Json),
    /// A text that lies elsewhere.
    Text(&'a str),
    /// A count.
    Count(u32),
}

impl<'a> Scope<'a> {
    /// One that sees the inputs and the outputs of stages.
    pub const fn of(context: &'a Context<'a>) -> Self {
        Self {
            context: Some(context),
            variables: Vec::new(),
        }
    }

    /// The same with a variable more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Variable<'a>) -> Self {
        self.variables.push((name, value));
        self
    }

    pub(super) fn root(&self, name: &str) -> Option<Value<'a>> {
        if let Some((_, value)) = self.variables.iter().rev().find(|(it, _)| *it == name) {
            return Some(match value {
                Variable::Json(json) => Value::of(json),
                Variable::Text(text) => Value::Text(Cow::Borrowed(text)),
                Variable::Count(count) => Value::Int(i64::from(*count)),
            });
        }
        let context = self.context?;
        match name {
            "inputs" => Some(Value::Members(context.inputs())),
            "stages" => Some(Value::Stages(context)),
            "item" => context.item().map(|(_, item)| Value::of(item)),
            "index" => context.item().map(|(index, _)| Value::Int(i64::from(index))),
            short => {
                let order: usize = short.strip_prefix("stage_")?.parse().ok()?;
                context.output_at(order.checked_sub(1)?).map(Value::Stage)
            }
        }
    }
}

/// A value of an evaluation.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'a, str>),
    /// A list that lies elsewhere.
    Items(&'a [Json]),
    /// An object that lies elsewhere.
    Members(&'a serde_json::Map<String, Json>),
    /// A list that was made.
    List(Rc<Vec<Value<'a>>>),
    /// An object that was made.
    Map(Rc<BTreeMap<String, Value<'a>>>),
    /// All stages by their names.
    Stages(&'a Context<'a>),
    /// A stage with its output.
    Stage(&'a Json),
}

impl<'a> Value<'a> {
    pub(super) fn of(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(it) => Self::Bool(*it),
            Json::Number(it) => match it.as_i64() {
                Some(whole) => Self::Int(whole),
                None => Self::Double(it.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(it) => Self::Text(Cow::Borrowed(it)),
            Json::Array(items) => Self::Items(items),
            Json::Object(members) => Self::Members(members),
        }
    }

    /// What errors call a value like this.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Double(_) => "a double",
            Self::Text(_) => "a string",
            Self::Items(_) | Self::List(_) => "a list",
            Self::Members(_) | Self::Map(_) | Self::Stages(_) | Self::Stage(_) => "a map",
        }
    }

    /// A member by its name: none if it is not there; an error if the value has no members.
    pub(super) fn member(&self, name: &str) -> Result<Option<Self>, ()> {
        match self {
            Self::Members(members) => Ok(members.get(name).map(Self::of)),
            Self::Map(members) => Ok(members.get(name).cloned()),
            Self::Stages(context) => Ok(context.output_of(name).map(Self::Stage)),
            Self::Stage(output) => Ok((name == "output").then(|| Self::of(output))),
            _ => Err(()),
        }
    }

    /// What a list holds, or the names of an object's members; none if it is neither.
    pub(super) fn elements(&self) -> Option<Elements<'a>> {
        match self {
            Self::Items(items) => Some(Elements::Items(items)),
            Self::List(items) => Some(Elements::List(items.clone())),
            Self::Members(members) => Some(Elements::List(Rc::new(
                members.keys().map(|it| Value::Text(Cow::Borrowed(it))).collect(),
            ))),
            Self::Map(members) => Some(Elements::List(Rc::new(
                members.keys().map(|it| Value::Text(Cow::Owned(it.clone()))).collect(),
            ))),
            _ => None,
        }
    }
}

/// What a loop goes through.
pub(super) enum Elements<'a> {
    Items(&'a [Json]),
    List(Rc<Vec<Value<'a>>>),
}

impl<'a> Elements<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Items(items) => items.len(),
            Self::List(items) => items.len(),
        }
    }

    pub(super) fn get(&self, place: usize) -> Option<Value<'a>> {
        match self {
            Self::Items(items) => items.get(place).map(Value::of),
            Self::List(items) => items.get(place).cloned(),
        }
    }
}
