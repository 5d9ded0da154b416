//! The files of an execution, read from what it was started with.

use service_kit::{auth::Caller, db::TenantTx, error::Result, ids::ExecutionId, page::Page};

use super::{enter, journal_store, not_found, standing::gone};
use crate::{
    App,
    files::{self, Pinned},
};

/// A file that an execution was given.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    /// Its place in the list, from 0.
    pub place: i64,
    /// Where it stands among the inputs.
    pub input: String,
    /// What it was then.
    pub file: Pinned,
}

/// Lists the files that an execution was given, and one more than the page has if there is one.
pub(super) async fn list(app: &App, caller: &Caller, id: ExecutionId, page: &Page<i64>) -> Result<Vec<Taken>> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "executions.list_files", &access.claims).await?;
    let pinned = journal_store::pinned(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    let definition = pinned.definition.ok_or_else(gone)?;
    let inputs = &pinned.inputs;
    let taken = files::places(&definition, inputs).into_iter().filter_map(|place| {
        // What a run of before was given in such a place was pinned to nothing.
        let file = serde_json::from_value(place.of(inputs)?.clone()).ok()?;
        Some((place.to_string(), file))
    });
    let after = page.after.unwrap_or(-1);
    let taken = (0..)
        .zip(taken)
        .map(|(place, (input, file))| Taken { place, input, file });
    let limit = usize::try_from(page.limit()).unwrap_or(usize::MAX);
    Ok(taken.filter(|it| it.place > after).take(limit).collect())
}
