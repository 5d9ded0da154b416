//! Running a template in a studio, and making a workflow of one to be edited.
//!
//! Nothing is made before the inputs are found right. The workflow that runs a version is made by whoever is first; then a run is
//! started like any other, so what holds for runs holds for these: keys, limits, watching, retries, erasure.

use std::sync::Arc;

use serde_json::{Map, Value};
use service_kit::{
    audit,
    auth::Caller,
    db::TenantTx,
    error::{Error, Result, Violation},
    ids::{StudioId, TemplateId, WorkflowId},
};

use super::{Mark, Semver, Template, Version, find_version, form, read};
use crate::{
    App,
    access::Access,
    engine::definition::{Definition, Kind, Validation},
    executions::{self, Execution},
    files, requests,
    worker::StartKey,
    workflows::{self, Instance, Workflow},
};

/// What to run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) template: TemplateId,
    /// The newest where there is none.
    pub(super) version: Option<Semver>,
    pub(super) studio: StudioId,
    pub(super) inputs: Map<String, Value>,
    /// The model that takes the place of those it names; empty where they stay.
    pub(super) model: String,
    pub(super) key: Option<StartKey>,
}

/// What to make a workflow of.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) template: TemplateId,
    pub(super) version: Option<Semver>,
    pub(super) studio: StudioId,
    /// The workflow's name; the template's where there is none.
    pub(super) name: Option<String>,
}

/// Starts a version of a template in a studio.
pub(super) async fn run(app: &App, caller: &Caller, run: &Run) -> Result<Execution> {
    let access = app.core.check_studio(caller.user, run.studio).await?;
    let mut tx = TenantTx::begin(&app.pool, "templates.run", &access.claims).await?;
    let template = read(&mut tx, run.template).await?;
    let version = find_version(&mut tx, &template, run.version).await?;
    let known = workflows::find_instance(&mut tx, run.studio, version.summary.id, &run.model).await?;
    drop(tx);
    require_active(&template)?;
    let definition = Arc::new(version.definition.clone());
    let inputs = match &definition.input_schema {
        Some(schema) => form::with_defaults(schema, &run.inputs),
        None => run.inputs.clone(),
    };
    executions::check_inputs(app, &definition, &files::asked(&definition, &inputs)).await?;
    let workflow = match known {
        Some(known) => known,
        None => instance(app, caller, &access, &template, &version, run).await?,
    };
    app.places.workflows.put(workflow, run.studio);
    let new = executions::New {
        workflow,
        version: 1,
        inputs,
        key: run.key.clone(),
    };
    executions::start(app, caller, &new).await
}

/// Makes a workflow of a version of a template, to be edited.
pub(super) async fn copy(app: &App, caller: &Caller, copy: &Copy, key: Option<&requests::Key>) -> Result<Workflow> {
    let access = app.core.check_studio(caller.user, copy.studio).await?;
    let id = WorkflowId::generate();
    let mut tx = TenantTx::begin(&app.pool, "templates.copy", &access.claims).await?;
    if let Some(first) = requests::claim(&mut tx, key, id).await? {
        return workflows::read(&mut tx, first).await;
    }
    let template = read(&mut tx, copy.template).await?;
    let version = find_version(&mut tx, &template, copy.version).await?;
    let new = workflows::New {
        studio: copy.studio,
        name: copy.name.clone().unwrap_or(template.about.name),
        description: template.about.description,
        metadata: Map::from_iter([("tags".to_owned(), template.about.tags.into())]),
        draft: version.definition,
    };
    let workflow = workflows::insert(&mut tx, id, access.company, caller.user, &new).await?;
    let about = audit::About::company(access.company, "workflow", id);
    app.audit.record(&mut tx, about).await?;
    tx.commit().await?;
    Ok(workflow)
}

/// The workflow that runs the version in the studio, made if nobody else makes it.
async fn instance(
    app: &App,
    caller: &Caller,
    access: &Access,
    template: &Template,
    version: &Version,
    run: &Run,
) -> Result<WorkflowId> {
    let definition = with_model(version.definition.clone(), &run.model);
    let mut tx = TenantTx::begin(&app.pool, "templates.instantiate", &access.claims).await?;
    let problems = workflows::problems_of(&mut tx, &definition, "template.version.definition").await?;
    if !problems.is_empty() {
        return Err(Error::Invalid(blamed(problems, &run.model)));
    }
    let new = Instance {
        company: access.company,
        studio: run.studio,
        owner: caller.user,
        mark: &Mark {
            template: template.id,
            version: version.summary.version.to_string(),
        },
        version: version.summary.id,
        model: &run.model,
        name: &template.about.name,
        description: &template.about.description,
        definition: &definition,
    };
    let workflow = workflows::instance(&mut tx, &new).await?;
    tx.commit().await?;
    Ok(workflow)
}

fn require_active(template: &Template) -> Result<()> {
    if template.active {
        return Ok(());
    }
    Err(Error::FailedPrecondition {
        reason: "TEMPLATE_INACTIVE",
        message: "the template is not active; it cannot be run".into(),
    })
}

/// The definition with another model in the place of all that it names.
fn with_model(mut definition: Definition, model: &str) -> Definition {
    if model.is_empty() {
        return definition;
    }
    for stage in &mut definition.stages {
        if let Kind::Llm(llm) = &mut stage.kind {
            model.clone_into(&mut llm.model);
            llm.fallback_models.clear();
        }
        if let Validation::Llm(judge) = &mut stage.validation {
            model.clone_into(&mut judge.model);
        }
    }
    definition
}

/// Problems of the model that was asked for are that field's, and told once.
fn blamed(problems: Vec<Violation>, model: &str) -> Vec<Violation> {
    let mut told: Vec<Violation> = Vec::new();
    for mut problem in problems {
        if !model.is_empty() && (problem.field.rsplit('.').next() == Some("model") || problem.field.contains(".llm.")) {
            "model".clone_into(&mut problem.field);
        }
        if !told.contains(&problem) {
            told.push(problem);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn another_model_takes_the_place_of_every_one() {
        let definition: Definition = serde_json::from_value(json!({ "stages": [
            { "name": "a", "kind": "llm", "model": "offline", "prompt": "p", "fallback_models": ["x"] },
            { "name": "b", "kind": "llm", "model": "other", "prompt": "p",
              "validation": { "type": "llm", "model": "judge", "criteria": "c" } },
        ] }))
        .unwrap();
        let changed = serde_json::to_value(with_model(definition.clone(), "house")).unwrap();
        let text = changed.to_string();
        for gone in ["offline", "\"other\"", "\"judge\"", "\"x\""] {
            assert!(!text.contains(gone), "{text}");
        }
        assert_eq!(with_model(definition.clone(), ""), definition);
    }
}
