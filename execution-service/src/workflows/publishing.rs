//! Checking drafts and making versions of them.
//!
//! A version's number is its predecessor's plus one, given under the workflow's row lock; it never changes afterwards.
//! Publishing a draft that is the newest version already makes none.

use service_kit::{
    audit::About,
    auth::Caller,
    db::TenantTx,
    error::{Error, Result, Violation},
    ids::{UserId, VersionId, WorkflowId},
    page::Page,
    update,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{New, Workflow, enter, lock, problems, read, store, version_store};
use crate::{App, access::Access, engine::definition::Definition, requests};

/// A version without what it does.
#[derive(Clone, Debug)]
pub struct VersionSummary {
    /// Its id.
    pub id: VersionId,
    /// The workflow.
    pub workflow: WorkflowId,
    /// Its number, from 1.
    pub number: i32,
    /// The workflow's name when it was published.
    pub name: String,
    /// The user who published it.
    pub published_by: UserId,
    /// The number of the older version that it was made of, if it was.
    pub rolled_back_from: Option<i32>,
    /// When it was published.
    pub created_at: OffsetDateTime,
}

/// An immutable version of a workflow.
#[derive(Clone, Debug)]
pub struct Version {
    /// All but what it does.
    pub summary: VersionSummary,
    /// What it does.
    pub definition: Definition,
}

/// A version to be made.
pub(super) struct NewVersion<'a> {
    /// Its id.
    pub(super) id: VersionId,
    /// Its number.
    pub(super) number: i32,
    /// What it does.
    pub(super) definition: &'a Definition,
    /// The number of the older version that it is made of, if it is.
    pub(super) rolled_back_from: Option<i32>,
}

/// Everything wrong with a draft, by field.
pub(super) async fn validate(app: &App, caller: &Caller, id: WorkflowId) -> Result<Vec<Violation>> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "workflows.validate", &access.claims).await?;
    let workflow = read(&mut tx, id).await?;
    violations(check(&mut tx, &workflow.draft, "draft", Some(id)).await?)
}

/// Everything that would keep a definition from being published in the transaction's company, by its path below a field.
pub(crate) async fn problems_of(tx: &mut PgConnection, definition: &Definition, field: &str) -> Result<Vec<Violation>> {
    violations(check(tx, definition, field, None).await?)
}

fn violations(checked: Result<()>) -> Result<Vec<Violation>> {
    match checked {
        Err(Error::Invalid(problems)) => Ok(problems),
        other => other.map(|()| Vec::new()),
    }
}

/// Makes a version of the draft, or answers with the newest one where the draft does not differ from it.
pub(super) async fn publish(
    app: &App,
    caller: &Caller,
    id: WorkflowId,
    etag: &str,
    key: Option<&requests::Key>,
) -> Result<Version> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "workflows.publish", &access.claims).await?;
    let workflow = lock(&mut tx, id).await?;
    let newest = if workflow.summary.has_unpublished_changes {
        None
    } else {
        version_store::find(&mut tx, id, 0).await?
    };
    let version = newest.as_ref().map_or_else(VersionId::generate, |it| it.summary.id);
    if let Some(first) = requests::claim(&mut tx, key, version).await? {
        return version_store::get(&mut tx, first)
            .await?
            .ok_or_else(|| Error::not_found("version", first));
    }
    update::check_etag(etag, workflow.summary.revision)?;
    workflow.summary.require_in_use()?;
    workflow.summary.require_own()?;
    let published = if let Some(newest) = newest {
        newest
    } else {
        check(&mut tx, &workflow.draft, "draft", Some(id)).await??;
        let number = workflow.summary.published_version + 1;
        store::set_published(&mut tx, id, number).await?;
        let new = NewVersion {
            id: version,
            number,
            definition: &workflow.draft,
            rolled_back_from: None,
        };
        let made = version_store::insert(&mut tx, &workflow.summary, &new, caller.user).await?;
        let about = About::company(access.company, "workflow", id).with("version", number);
        app.audit.record(&mut tx, about).await?;
        made
    };
    tx.commit().await?;
    Ok(published)
}

/// Makes a workflow and its first version in one, where nothing is wrong with it.
pub(crate) async fn create_published(
    app: &App,
    caller: &Caller,
    access: &Access,
    new: &New,
    key: Option<&requests::Key>,
) -> Result<(Workflow, Version)> {
    let id = WorkflowId::generate();
    let mut tx = TenantTx::begin(&app.pool, "workflows.create_published", &access.claims).await?;
    if let Some(first) = requests::claim(&mut tx, key, id).await? {
        let workflow = read(&mut tx, first).await?;
        let version = find_version(&mut tx, first, 0).await?;
        return Ok((workflow, version));
    }
    let workflow = store::insert(&mut tx, id, access.company, caller.user, new).await?;
    check(&mut tx, &new.draft, "draft", Some(id)).await??;
    store::set_published(&mut tx, id, 1).await?;
    let first = NewVersion {
        id: VersionId::generate(),
        number: 1,
        definition: &new.draft,
        rolled_back_from: None,
    };
    let version = version_store::insert(&mut tx, &workflow.summary, &first, caller.user).await?;
    let workflow = read(&mut tx, id).await?;
    let about = About::company(access.company, "workflow", id);
    app.audit.record(&mut tx, about).await?;
    tx.commit().await?;
    Ok((workflow, version))
}

/// Reads a version; number 0 is the newest.
pub(super) async fn get(app: &App, caller: &Caller, workflow: WorkflowId, number: i32) -> Result<Version> {
    let access = enter(app, caller, workflow).await?;
    let mut tx = TenantTx::begin(&app.pool, "workflows.get_version", &access.claims).await?;
    find_version(&mut tx, workflow, number).await
}

/// A version of the transaction's studio; number 0 is the newest.
pub(crate) async fn find_version(tx: &mut PgConnection, workflow: WorkflowId, number: i32) -> Result<Version> {
    let version = version_store::find(tx, workflow, number).await?;
    version.ok_or_else(|| Error::not_found("version", format!("{workflow}/{number}")))
}

/// Lists a workflow's versions, newest first.
pub(super) async fn list(
    app: &App,
    caller: &Caller,
    workflow: WorkflowId,
    page: &Page<i32>,
) -> Result<Vec<VersionSummary>> {
    let access = enter(app, caller, workflow).await?;
    let mut tx = TenantTx::begin(&app.pool, "workflows.list_versions", &access.claims).await?;
    version_store::list(&mut tx, workflow, page).await
}

/// The problems of a definition, each below this field, as the refusal to publish it as a version of a workflow.
pub(super) async fn check(
    tx: &mut PgConnection,
    definition: &Definition,
    field: &str,
    workflow: Option<WorkflowId>,
) -> Result<Result<()>> {
    let models = version_store::models(tx, &problems::model_names(definition)).await?;
    let mut found = problems::problems(definition, &models);
    let called = problems::called(definition);
    if !called.is_empty() {
        let callable = version_store::callable(tx, &called).await?;
        problems::uncallable(&mut found, definition, workflow, &callable);
    }
    let connected = problems::connected(definition);
    if !connected.is_empty() {
        let known = version_store::connections(tx, &connected).await?;
        problems::unconnected(&mut found, definition, &known);
    }
    Ok(found.finish().map_err(|error| match error {
        Error::Invalid(problems) => Error::Invalid(problems.into_iter().map(|it| below(field, it)).collect()),
        other => other,
    }))
}

/// The same problem of what stands in another field than the draft.
fn below(field: &str, problem: Violation) -> Violation {
    let rest = problem.field.strip_prefix("draft").unwrap_or(&problem.field);
    Violation {
        field: format!("{field}{rest}"),
        description: problem.description,
    }
}
