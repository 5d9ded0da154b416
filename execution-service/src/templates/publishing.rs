//! Making templates of a company's workflows.
//!
//! A version holds a copy of the workflow's: whatever becomes of that, the template stays whole. Any member may make one of a
//! workflow that he reaches, since he could carry it out as a file too; his template is then his and the admins' to change.

use serde_json::{Map, Value};
use service_kit::{
    audit,
    auth::Caller,
    db::TenantTx,
    error::{Error, Result, Violation, Violations},
    ids::{TemplateId, TemplateVersionId, WorkflowId},
};
use sqlx::PgConnection;

use super::{
    About, Semver, Template, Version, enter_own, find_version, form, lock_own, read, store, version_store,
    version_store::New,
};
use crate::{
    App,
    engine::definition::{Definition, Kind},
    executions, requests, workflows,
};

/// A version that is to be made.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) workflow: WorkflowId,
    /// The number of its version; 0 is the newest.
    pub(super) number: i32,
    pub(super) version: Option<Semver>,
    pub(super) notes: String,
    pub(super) sample: Map<String, Value>,
    pub(super) output_schema: Option<Value>,
}

/// Makes a template with its first version.
pub(super) async fn create(
    app: &App,
    caller: &Caller,
    about: &About,
    wish: &Wish,
    key: Option<&requests::Key>,
) -> Result<(Template, Version)> {
    let access = workflows::enter(app, caller, wish.workflow).await?;
    let definition = definition(app, caller, wish).await?;
    let id = TemplateId::generate();
    let mut tx = TenantTx::begin(&app.pool, "templates.create", &access.claims).await?;
    if let Some(first) = requests::claim(&mut tx, key, id).await? {
        let template = read(&mut tx, first).await?;
        let version = find_version(&mut tx, &template, None).await?;
        return Ok((template, version));
    }
    let first = wish.version.unwrap_or(Semver::FIRST);
    let template = store::insert(&mut tx, id, access.company, about, first, caller.user).await?;
    let new = New {
        id: TemplateVersionId::generate(),
        company: access.company,
        template: id,
        version: first,
        notes: &wish.notes,
        definition: &definition,
        sample: &wish.sample,
        published_by: caller.user,
    };
    let version = version_store::insert(&mut tx, &new).await?;
    let record = audit::About::company(access.company, "template", id);
    app.audit.record(&mut tx, record).await?;
    tx.commit().await?;
    Ok((template, version))
}

/// Makes another version of a company's template, for admins and who made it.
pub(super) async fn publish(
    app: &App,
    caller: &Caller,
    id: TemplateId,
    wish: &Wish,
    key: Option<&requests::Key>,
) -> Result<Version> {
    let access = enter_own(app, caller, id).await?;
    if workflows::enter(app, caller, wish.workflow).await?.company != access.company {
        return Err(Error::not_found("workflow", wish.workflow));
    }
    let definition = definition(app, caller, wish).await?;
    let made = TemplateVersionId::generate();
    let mut tx = TenantTx::begin(&app.pool, "templates.publish", &access.claims).await?;
    if let Some(first) = requests::claim(&mut tx, key, made).await? {
        let first = version_store::get(&mut tx, first).await?;
        return first.ok_or_else(|| Error::not_found("template", id));
    }
    let template = lock_own(&mut tx, caller, &access, id, "").await?;
    let version = wish.version.unwrap_or_else(|| template.newest.next_minor());
    if version <= template.newest {
        let description = format!("must be higher than {}, the newest", template.newest);
        return Err(Error::invalid("version.version", description));
    }
    let new = New {
        id: made,
        company: access.company,
        template: id,
        version,
        notes: &wish.notes,
        definition: &definition,
        sample: &wish.sample,
        published_by: caller.user,
    };
    let version = insert(&mut tx, &new).await?;
    let about = audit::About::company(access.company, "template", id);
    app.audit.record(&mut tx, about).await?;
    tx.commit().await?;
    Ok(version)
}

async fn insert(tx: &mut PgConnection, new: &New<'_>) -> Result<Version> {
    store::set_newest(tx, new.template, new.version).await?;
    version_store::insert(tx, new).await
}

/// What the workflow's version does, as a template may hold it; whatever keeps it from that is named.
async fn definition(app: &App, caller: &Caller, wish: &Wish) -> Result<Definition> {
    let access = workflows::enter(app, caller, wish.workflow).await?;
    let mut tx = TenantTx::begin(&app.pool, "templates.read_workflow", &access.claims).await?;
    let mut definition = workflows::find_version(&mut tx, wish.workflow, wish.number)
        .await?
        .definition;
    drop(tx);
    let wish = wish.clone();
    app.aside
        .run(move || {
            let mut found = Violations::new();
            match (&wish.output_schema, &definition.output_schema) {
                (Some(_), Some(_)) => found.add("version.output_schema", "the workflow has one of its own"),
                (Some(given), None) => match crate::engine::check::Schema::compile(given) {
                    Ok(_) => definition.output_schema = Some(given.clone()),
                    Err(error) => found.add("version.output_schema", error),
                },
                (None, _) => {}
            }
            problems(&mut found, &definition, &wish.sample)?;
            found.finish()?;
            Ok(definition)
        })
        .await
}

/// What keeps a definition from being a template's.
pub(super) fn problems(found: &mut Violations, definition: &Definition, sample: &Map<String, Value>) -> Result<()> {
    for stage in &definition.stages {
        if matches!(stage.kind, Kind::Workflow(_)) {
            let problem = format!(
                "its stage {} runs another workflow, which other studios do not have",
                stage.name
            );
            found.add("version.workflow_id", problem);
        }
    }
    let schema = definition.input_schema.as_ref();
    if schema.and_then(|it| form::fields(it, sample)).is_none() {
        found.add(
            "version.workflow_id",
            "its input_schema must describe an object by its properties",
        );
    }
    let filled = schema.map_or_else(|| sample.clone(), |it| form::with_defaults(it, sample));
    match executions::check_against(schema, &filled) {
        Err(Error::Invalid(problems)) => {
            for Violation { field, description } in problems {
                let rest = field.strip_prefix("inputs").unwrap_or(&field);
                found.add(format!("version.sample_input{rest}"), description);
            }
            Ok(())
        }
        other => other,
    }
}
