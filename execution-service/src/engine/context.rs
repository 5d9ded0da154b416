//! What a stage can see: the run's inputs and the outputs of the stages that passed, derived from the journal.
//!
//! A source path names one value in it: `inputs.x`, `stages.<name or order>.output.x` or `stage_<order>.output.x`, where the
//! order counts from 1 and a number steps into a list (`….output.items.0`, or `….output.items[0]`). Of a stage that was visited often the
//! last output counts. In a map, `item` and `index` name the item and its place. A path that leads nowhere is no error: the variable is absent, and a template that needs it says so.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};

use super::{
    definition::Definition,
    journal::Entry,
    state::{Given, State},
};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePath {
    root: Root,
    steps: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Root {
    Inputs,
    Output(StageRef),
    Item,
    Index,
}

/// A stage, as a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageRef {
    /// By its name.
    Name(String),
    /// By its place in the default order, from 1.
    Order(usize),
}

impl StageRef {
    /// The stage's place in the definition, from 0, if it is there.
    pub fn position(&self, definition: &Definition) -> Option<usize> {
        match self {
            Self::Name(name) => definition.position(name),
            Self::Order(order) => order.checked_sub(1).filter(|place| *place < definition.stages.len()),
        }
    }
}

/// The text is no source path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be inputs.<name>, stages.<name or order>.output or stage_<order>.output, in a map also item or index, and may go on with .<name or index>"
)]
pub struct PathError;

impl SourcePath {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let plain = without_brackets(text)?;
        let mut parts = plain.split('.');
        if plain.split('.').any(str::is_empty) {
            return Err(PathError);
        }
        let first = parts.next().ok_or(PathError)?;
        let root = if first == "inputs" {
            Root::Inputs
        } else if first == "item" {
            Root::Item
        } else if first == "index" {
            Root::Index
        } else {
            let stage = match first {
                "stages" => parts.next().map(stage_ref),
                short => short.strip_prefix("stage_").and_then(order).map(StageRef::Order),
            };
            if parts.next() != Some("output") {
                return Err(PathError);
            }
            Root::Output(stage.ok_or(PathError)?)
        };
        Ok(Self {
            root,
            steps: parts.map(str::to_owned).collect(),
        })
    }

    /// Whether it starts at the item of a map or at the item's place.
    pub const fn is_of_item(&self) -> bool {
        matches!(self.root, Root::Item | Root::Index)
    }

    /// The stage whose output it starts at; none if it starts elsewhere.
    pub const fn stage(&self) -> Option<&StageRef> {
        match &self.root {
            Root::Inputs | Root::Item | Root::Index => None,
            Root::Output(stage) => Some(stage),
        }
    }
}

/// `items[0]` as `items.0`; a bracket holds nothing but a number and follows a name or another one.
fn without_brackets(text: &str) -> Result<String, PathError> {
    let mut pieces = text.split('[');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (index, rest) = piece.split_once(']').ok_or(PathError)?;
        let goes_on = rest.is_empty() || rest.starts_with('.');
        if plain.ends_with('.') || index.is_empty() || !index.bytes().all(|it| it.is_ascii_digit()) || !goes_on {
            return Err(PathError);
        }
        plain.extend([".", index, rest]);
    }
    if plain.contains(']') { Err(PathError) } else { Ok(plain) }
}

fn stage_ref(text: &str) -> StageRef {
    order(text).map_or_else(|| StageRef::Name(text.to_owned()), StageRef::Order)
}

fn order(text: &str) -> Option<usize> {
    text.parse().ok().filter(|order| *order > 0)
}

/// A stage's last output that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Passed {
    /// The visit it is of.
    pub visit: u32,
    /// The try that made it.
    pub attempt: u32,
    /// The output.
    pub output: Arc<Value>,
}

/// The inputs and outputs that a stage can see.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    definition: &'a Definition,
    inputs: &'a Map<String, Value>,
    /// By the stage's place in the definition.
    passed: Cow<'a, [Option<Passed>]>,
    item: Option<(u32, &'a Value)>,
}

impl<'a> Context<'a> {
    /// What can be seen after these entries, the first of which is the journal's first.
    pub fn new(definition: &'a Definition, inputs: &'a Map<String, Value>, journal: &[Entry]) -> Self {
        let state = State::after(Given { definition, inputs }, journal);
        Self {
            passed: Cow::Owned(state.into_passed()),
            ..Self::over(definition, inputs, &[])
        }
    }

    pub(super) const fn over(
        definition: &'a Definition,
        inputs: &'a Map<String, Value>,
        passed: &'a [Option<Passed>],
    ) -> Self {
        Self {
            definition,
            inputs,
            passed: Cow::Borrowed(passed),
            item: None,
        }
    }

    /// The same for one item of a map.
    #[must_use]
    pub fn with_item(self, index: u32, item: &'a Value) -> Self {
        Self {
            item: Some((index, item)),
            ..self
        }
    }

    /// The run's inputs.
    pub const fn inputs(&self) -> &'a Map<String, Value> {
        self.inputs
    }

    /// The item of a map with its place, if it is for one.
    pub const fn item(&self) -> Option<(u32, &'a Value)> {
        self.item
    }

    /// The output of the stage at a place, if it has one.
    pub fn output_at(&self, place: usize) -> Option<&Value> {
        self.passed.get(place)?.as_ref().map(|it| &*it.output)
    }

    /// The output of the stage with a name, if it has one.
    pub fn output_of(&self, stage: &str) -> Option<&Value> {
        self.output_at(self.definition.position(stage)?)
    }

    /// The value at a path, if it leads to one.
    pub fn resolve(&self, path: &SourcePath) -> Option<Value> {
        let root = match &path.root {
            Root::Inputs => match path.steps.split_first() {
                None => return Some(Value::Object(self.inputs.clone())),
                Some((first, rest)) => return walk(self.inputs.get(first)?, rest).cloned(),
            },
            Root::Item => self.item?.1,
            Root::Index => return path.steps.is_empty().then_some(Value::from(self.item?.0)),
            Root::Output(stage) => self.output_at(stage.position(self.definition)?)?,
        };
        walk(root, &path.steps).cloned()
    }

    /// The variables of a stage's mapping; those whose path leads nowhere are absent.
    pub fn mapped(&self, mapping: &BTreeMap<String, String>) -> Map<String, Value> {
        mapping
            .iter()
            .filter_map(|(variable, path)| {
                let value = self.resolve(&SourcePath::parse(path).ok()?)?;
                Some((variable.clone(), value))
            })
            .collect()
    }

    /// What a template sees under one of the names that [`is_root`] knows, without any mapping.
    pub fn root(&self, name: &str) -> Option<Value> {
        match name {
            "inputs" => Some(Value::Object(self.inputs.clone())),
            "stages" => Some(
                self.definition
                    .stages
                    .iter()
                    .zip(&*self.passed)
                    .filter_map(|(stage, passed)| {
                        Some((stage.name.clone(), json!({ "output": *passed.as_ref()?.output })))
                    })
                    .collect(),
            ),
            short => {
                let place = order(short.strip_prefix("stage_")?)? - 1;
                Some(json!({ "output": self.output_at(place)? }))
            }
        }
    }
}

/// Whether templates see something under this name without a mapping: `inputs`, `stages`, `stage_<order>`.
pub fn is_root(name: &str) -> bool {
    matches!(name, "inputs" | "stages") || name.strip_prefix("stage_").and_then(order).is_some()
}

fn walk<'v>(value: &'v Value, steps: &[String]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |at, step| match at {
        Value::Object(members) => members.get(step),
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        journal::{Payload, Ruling},
        testing::{attempt_of, decided, entries, failing, open, stage},
    };

    fn definition() -> Definition {
        let mut two = stage("two");
        two.retry_limit = 1;
        two.next_on_pass = Some("one".into());
        Definition {
            stages: vec![stage("one"), two, stage("three")],
            ..Definition::default()
        }
    }

    fn inputs() -> Map<String, Value> {
        json!({"topic": "tea", "list": [{"id": 7}], "n": null})
            .as_object()
            .unwrap()
            .clone()
    }

    fn at(path: &str) -> Option<Value> {
        let definition = definition();
        let inputs = inputs();
        let journal = entries([
            attempt_of("one", 1, 1, json!("first")),
            failing(attempt_of("two", 1, 1, json!({"never": "seen"}))),
            attempt_of("two", 1, 2, json!({"title": "t", "items": ["a", "b"]})),
            attempt_of("one", 2, 1, json!("second")),
        ]);
        Context::new(&definition, &inputs, &journal).resolve(&SourcePath::parse(path).unwrap())
    }

    #[test]
    fn a_path_leads_to_the_value_it_names() {
        assert_eq!(at("inputs.topic"), Some(json!("tea")));
        assert_eq!(at("inputs.list.0.id"), Some(json!(7)));
        assert_eq!(at("inputs.n"), Some(Value::Null));
        assert_eq!(at("inputs"), Some(Value::Object(inputs())));
        assert_eq!(at("stages.one.output"), Some(json!("second")), "the last visit counts");
        assert_eq!(at("stages.2.output.title"), Some(json!("t")));
        assert_eq!(at("stage_2.output.items.1"), Some(json!("b")));
        assert_eq!(at("stage_2.output.items[1]"), Some(json!("b")));
        assert_eq!(at("inputs.list[0].id"), Some(json!(7)));
    }

    #[test]
    fn an_output_that_waits_for_a_person_is_seen_once_it_may_pass() {
        let (definition, inputs) = (definition(), inputs());
        let mut rest: Vec<Payload> = vec![
            attempt_of("one", 1, 1, json!("first")).into(),
            attempt_of("two", 1, 1, json!("back")).into(),
            open(attempt_of("one", 2, 1, json!("second"))).into(),
        ];
        let seen = |rest: &[Payload]| {
            let journal = entries(rest.to_vec());
            Context::new(&definition, &inputs, &journal).resolve(&SourcePath::parse("stage_1.output").unwrap())
        };
        assert_eq!(seen(&rest), Some(json!("first")));
        rest.push(decided("one", 2, 1, Ruling::Fail, ""));
        assert_eq!(seen(&rest), Some(json!("first")));
        rest.pop();
        rest.push(decided("one", 2, 1, Ruling::Pass, ""));
        assert_eq!(seen(&rest), Some(json!("second")));
    }

    #[test]
    fn a_path_that_leads_nowhere_has_no_value() {
        for path in [
            "inputs.other",
            "inputs.topic.x",
            "inputs.list.9",
            "inputs.list.x",
            "stages.three.output",
            "stages.zero.output",
            "stage_9.output",
            "stages.2.output.never",
        ] {
            assert_eq!(at(path), None, "{path}");
        }
    }

    #[test]
    fn only_the_three_forms_are_paths() {
        for text in [
            "",
            "x",
            "inputs.",
            ".inputs",
            "inputs..x",
            "stages",
            "stages.one",
            "stages.one.outputs",
            "stage_0.output",
            "stage_x.output",
            "stage_1",
            "inputs.list[",
            "inputs.list[x]",
            "inputs.list[0]id",
            "inputs.list0]",
            "inputs.[0]",
            "output",
            "item.",
            "index..x",
        ] {
            assert_eq!(SourcePath::parse(text), Err(PathError), "{text}");
        }
        let named = SourcePath::parse("stages.one.output").unwrap();
        assert_eq!(named.stage(), Some(&StageRef::Name("one".into())));
        assert_eq!(SourcePath::parse("inputs.x").unwrap().stage(), None);
    }

    #[test]
    fn a_stage_reference_is_found_only_where_the_stage_is() {
        let definition = definition();
        assert_eq!(StageRef::Order(3).position(&definition), Some(2));
        assert_eq!(StageRef::Order(4).position(&definition), None);
        assert_eq!(StageRef::Name("two".into()).position(&definition), Some(1));
        assert_eq!(StageRef::Name("no".into()).position(&definition), None);
    }

    #[test]
    fn a_mapping_leaves_out_what_is_not_there() {
        let (definition, inputs) = (definition(), inputs());
        let context = Context::new(&definition, &inputs, &[]);
        let mapping = BTreeMap::from([
            ("t".into(), "inputs.topic".into()),
            ("o".into(), "stage_1.output".into()),
        ]);
        assert_eq!(Value::Object(context.mapped(&mapping)), json!({"t": "tea"}));
    }

    #[test]
    fn templates_see_the_whole_context_under_three_kinds_of_names() {
        let (definition, inputs) = (definition(), inputs());
        let journal = entries([attempt_of("one", 1, 1, json!("x"))]);
        let context = Context::new(&definition, &inputs, &journal);
        assert_eq!(context.root("stages"), Some(json!({"one": {"output": "x"}})));
        assert_eq!(context.root("stage_1"), Some(json!({"output": "x"})));
        assert_eq!(context.root("stage_2"), None);
        for name in ["inputs", "stages", "stage_1", "stage_2"] {
            assert!(is_root(name));
        }
        for name in ["stage_", "stage_0", "stage_x", "input", "chunks"] {
            assert!(!is_root(name));
        }
    }
}
