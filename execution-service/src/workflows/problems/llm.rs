//! The rules of calling a model and of retrieving for it: models, templates, schemas, parameters.

use service_kit::error::Violations;

use super::Surroundings;
use crate::{
    engine::{
        check,
        context::is_root,
        definition::{Llm, MAX_FALLBACKS, MAX_RETRIEVAL_LIMIT, Retrieval, RetrievalMode, Stage},
        request::CHUNKS,
        template,
    },
    models::parameters,
    providers::{OFFLINE, unsupported_keywords},
};

/// The types of documents, as core-service has them.
const TEXT_TYPES: [&str; 7] = [
    "text/plain",
    "text/markdown",
    "text/html",
    "text/csv",
    "application/pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
];
/// The most tags of a document, and so of a search.
const MAX_TAGS: usize = 20;
/// The longest tag.
const MAX_TAG_CHARS: usize = 50;

/// Notes the problems of a stage that calls a model.
pub(super) fn check(
    found: &mut Violations,
    field: &str,
    around: &Surroundings<'_>,
    place: usize,
    stage: &Stage,
    llm: &Llm,
) {
    model(found, field, around, llm);
    let mut given = around.given(place);
    given.extend(llm.retrieval.as_ref().map(|_| CHUNKS));
    if llm.prompt.trim().is_empty() {
        found.add(format!("{field}.prompt"), "must not be empty");
    }
    template(
        found,
        &format!("{field}.prompt"),
        around,
        place,
        stage,
        &given,
        &llm.prompt,
    );
    template(
        found,
        &format!("{field}.system"),
        around,
        place,
        stage,
        &given,
        &llm.system,
    );
    parameters::check(found, &format!("{field}.config"), &llm.config);
    if let Some(it) = &llm.retrieval {
        retrieval(found, &format!("{field}.retrieval"), around, place, stage, it);
    }
}

/// Notes the problems of a retrieval.
pub(super) fn retrieval(
    found: &mut Violations,
    field: &str,
    around: &Surroundings<'_>,
    place: usize,
    stage: &Stage,
    retrieval: &Retrieval,
) {
    template(
        found,
        &format!("{field}.query"),
        around,
        place,
        stage,
        &around.given(place),
        &retrieval.query,
    );
    if retrieval.limit > MAX_RETRIEVAL_LIMIT {
        found.add(
            format!("{field}.limit"),
            format!("must be at most {MAX_RETRIEVAL_LIMIT}"),
        );
    }
    let is_listing = retrieval.query.trim().is_empty();
    if is_listing && retrieval.mode != RetrievalMode::Automatic {
        found.add(format!("{field}.mode"), "must not be given where there is no query");
    }
    if is_listing && (!retrieval.mime_types.is_empty() || !retrieval.tags.is_empty() || retrieval.max_age.is_some()) {
        found.add(
            format!("{field}.query"),
            "must not be empty where documents are chosen by type, tags or age",
        );
    }
    for (i, name) in retrieval.mime_types.iter().enumerate() {
        if !TEXT_TYPES.contains(&name.as_str()) {
            let field = format!("{field}.mime_types[{i}]");
            found.add(field, format!("must be one of {}", TEXT_TYPES.join(", ")));
        }
    }
    if retrieval.tags.len() > MAX_TAGS {
        found.add(format!("{field}.tags"), format!("must be at most {MAX_TAGS}"));
    }
    for (i, tag) in retrieval.tags.iter().enumerate() {
        if tag.trim().is_empty() || tag.trim().chars().count() > MAX_TAG_CHARS {
            found.add(
                format!("{field}.tags[{i}]"),
                format!("must have 1 to {MAX_TAG_CHARS} characters"),
            );
        }
    }
    if retrieval.max_age.is_some_and(|it| it.is_zero()) {
        found.add(format!("{field}.max_age"), "must be positive");
    }
    match &retrieval.document_ids_path {
        Some(path) => {
            if let Some(problem) = around.path_problem(place, path) {
                found.add(format!("{field}.document_ids_path"), problem);
            }
        }
        None if is_listing => {
            found.add(format!("{field}.query"), "must not be empty where document_ids_path is");
        }
        None => {}
    }
}

fn model(found: &mut Violations, field: &str, around: &Surroundings<'_>, llm: &Llm) {
    named(found, &format!("{field}.model"), around, &llm.model);
    if llm.fallback_models.len() > MAX_FALLBACKS {
        found.add(
            format!("{field}.fallback_models"),
            format!("must be at most {MAX_FALLBACKS}"),
        );
    }
    for (i, name) in llm.fallback_models.iter().enumerate() {
        let field = format!("{field}.fallback_models[{i}]");
        if *name == llm.model || llm.fallback_models[..i].contains(name) {
            found.add(field, format!("{name} is asked before already"));
        } else {
            named(found, &field, around, name);
        }
    }
    let known = around.models.get(&llm.model);
    let Some(schema) = &llm.response_schema else { return };
    let field = format!("{field}.response_schema");
    if let Err(error) = check::Schema::compile(schema) {
        found.add(field, error);
    } else if known.is_some_and(|it| it.provider == OFFLINE) {
        let unsupported = unsupported_keywords(schema);
        if !unsupported.is_empty() {
            let unsupported = unsupported.into_iter().collect::<Vec<_>>().join(", ");
            found.add(
                field,
                format!("the offline model cannot fill these keywords: {unsupported}"),
            );
        }
    }
}

/// Notes whether a name stands for no model that stages may call.
pub(super) fn named(found: &mut Violations, field: &str, around: &Surroundings<'_>, name: &str) {
    match around.models.get(name) {
        None if name.is_empty() => found.add(field, "must name a model"),
        None => found.add(field, format!("{name} names no model of the company or the platform")),
        Some(model) if !model.enabled => found.add(field, format!("the model {name} is disabled")),
        Some(_) => {}
    }
}

/// Notes whether a template is none, or needs what nothing gives it. `given` are names that only some templates have.
pub(super) fn template(
    found: &mut Violations,
    field: &str,
    around: &Surroundings<'_>,
    place: usize,
    stage: &Stage,
    given: &[&str],
    template: &str,
) {
    let names = match template::variables(template) {
        Ok(names) => names,
        Err(error) => return found.add(field, error.to_string()),
    };
    for name in names {
        if stage.input_mapping.contains_key(&name) || given.contains(&&*name) {
            continue;
        }
        if !is_root(&name) {
            found.add(
                field,
                format!("nothing supplies {{{{ {name} }}}}: input_mapping does not name it"),
            );
        } else if name.starts_with("stage_")
            && let Some(problem) = around.path_problem(place, &format!("{name}.output"))
        {
            found.add(field, format!("{{{{ {name} }}}} {problem}"));
        }
    }
}
