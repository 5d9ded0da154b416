//! Everything that keeps a draft from being published, each problem under its field's path.
//!
//! Pure: what there is to know of models comes in as a value. A definition that passes can still fail in a run (an input
//! may be missing, a model may be removed), but not for what could be seen here.

use std::collections::{BTreeMap, BTreeSet};

use service_kit::error::Violations;

use self::flow::Flow;
use crate::engine::{
    check,
    context::SourcePath,
    definition::{Definition, END, Kind, MAX_STAGES, MAX_TRANSITION_LIMIT, Validation},
    request::NOTES,
};

pub use self::{
    connections::{KnownConnection, connected, unconnected},
    fan::{called, uncallable},
};

mod cel;
mod connections;
mod fan;
mod file;
mod flow;
mod http;
mod llm;
mod people;
mod pieces;
mod stage;
mod validation;

/// What a name of a model stands for in the company.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownModel {
    /// The provider that serves it.
    pub provider: String,
    /// Whether stages may call it.
    pub enabled: bool,
}

/// The names of models that a definition has.
pub fn model_names(definition: &Definition) -> Vec<String> {
    let mut names = BTreeSet::new();
    for stage in &definition.stages {
        if let Kind::Llm(llm) = &stage.kind {
            names.insert(llm.model.clone());
            names.extend(llm.fallback_models.iter().cloned());
        }
        if let Validation::Llm(judge) = &stage.validation {
            names.insert(judge.model.clone());
        }
    }
    names.into_iter().collect()
}

/// Every problem of a draft; `models` are those of its [`model_names`] that the company may use.
pub fn problems(draft: &Definition, models: &BTreeMap<String, KnownModel>) -> Violations {
    let mut found = Violations::new();
    if draft.stages.is_empty() || draft.stages.len() > MAX_STAGES {
        found.add("draft.stages", format!("must be 1 to {MAX_STAGES} stages"));
    }
    if draft.transition_limit > MAX_TRANSITION_LIMIT {
        found.add(
            "draft.transition_limit",
            format!("must be at most {MAX_TRANSITION_LIMIT}"),
        );
    }
    let schemas = [
        ("draft.input_schema", &draft.input_schema),
        ("draft.output_schema", &draft.output_schema),
    ];
    for (field, schema) in schemas {
        if let Some(schema) = schema
            && let Err(error) = check::Schema::compile(schema)
        {
            found.add(field, error);
        }
    }
    names(draft, &mut found);
    let surroundings = Surroundings::of(draft, models);
    for (place, stage) in draft.stages.iter().enumerate() {
        let field = format!("draft.stages[{place}]");
        if !surroundings.is_reached(place) {
            found.add(&*field, "is never reached");
        } else if !surroundings.can_end(place) {
            found.add(&*field, "leads nowhere: the end cannot be reached from here");
        }
        for (target, problem) in flow::bad_targets(draft, stage) {
            found.add(format!("{field}.{target}"), problem);
        }
        stage::check(&mut found, &field, &surroundings, place, stage);
    }
    found
}

/// What the rules of a stage look at beside the stage itself.
struct Surroundings<'a> {
    draft: &'a Definition,
    models: &'a BTreeMap<String, KnownModel>,
    flow: Flow,
    /// By a stage's place, the stages that can come after it.
    after: Vec<Vec<bool>>,
}

impl<'a> Surroundings<'a> {
    fn of(draft: &'a Definition, models: &'a BTreeMap<String, KnownModel>) -> Self {
        let flow = Flow::of(draft);
        let after = (0..draft.stages.len()).map(|it| flow.after(it)).collect();
        Self {
            draft,
            models,
            flow,
            after,
        }
    }

    fn is_reached(&self, place: usize) -> bool {
        let first = self.flow.first();
        Some(place) == first || first.is_some_and(|first| self.after[first][place])
    }

    /// Whether a run can come to its end from the stage, be it by going round until the transition limit ends it.
    fn can_end(&self, place: usize) -> bool {
        self.flow.can_end(place) || self.after[place][place]
    }

    /// The names that templates of the stage at this place have by themselves, beside those of the context.
    fn given(&self, place: usize) -> Vec<&'static str> {
        let mut given = vec![NOTES];
        if self.flow.is_body(place) {
            given.extend(["item", "index"]);
        }
        given
    }

    /// What is wrong with a source path of the stage at this place.
    fn path_problem(&self, place: usize, path: &str) -> Option<String> {
        let path = match SourcePath::parse(path) {
            Ok(path) => path,
            Err(error) => return Some(error.to_string()),
        };
        if path.is_of_item() && !self.flow.is_body(place) {
            return Some("only a stage that a map runs has an item".into());
        }
        let Some(source) = path.stage()?.position(self.draft) else {
            return Some("names a stage that does not exist".into());
        };
        if self.flow.is_body(source) {
            return Some(format!(
                "names the stage {}, whose outputs are those of the map that runs it",
                self.draft.stages[source].name
            ));
        }
        let never = self.is_reached(place) && !self.after[source][place];
        never.then(|| {
            format!(
                "names the stage {}, which never comes before this one",
                self.draft.stages[source].name
            )
        })
    }
}

fn names(draft: &Definition, found: &mut Violations) {
    let mut seen = BTreeSet::new();
    for (place, stage) in draft.stages.iter().enumerate() {
        let field = format!("draft.stages[{place}].name");
        if !is_stage_name(&stage.name) {
            found.add(
                field,
                "must be 1 to 64 letters, digits and underscores, starting with a letter",
            );
        } else if stage.name == END {
            found.add(field, format!("{END} means the end of the run and is no stage's name"));
        } else if !seen.insert(&stage.name) {
            found.add(field, format!("{} is the name of an earlier stage", stage.name));
        }
    }
}

fn is_stage_name(name: &str) -> bool {
    name.len() <= 64 && name.starts_with(|it: char| it.is_ascii_alphabetic()) && is_identifier(name)
}

/// Whether templates can use the name.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
        && name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
}

#[cfg(test)]
mod tests;
