//! The files of an execution, read from what it was started with and from what its stages have come to.

use service_kit::{auth::Caller, db::TenantTx, error::Result, ids::ExecutionId, page::Page};

use super::{enter, journal_store, not_found, standing::gone};
use crate::{
    App,
    engine::{
        definition::{Definition, Kind},
        journal::StageTry,
    },
    files::{self, MOST_FILES, Pinned},
};

/// A file that an execution was given or has made.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    /// Its place in the list: of an output that of its entry, of an input less than any of those.
    pub place: i64,
    /// Where it is from.
    pub from: From,
    /// What it was then.
    pub file: Pinned,
}

/// Where a file of an execution is from.
#[derive(Clone, Debug)]
pub(super) enum From {
    /// It stands there among the inputs.
    Input(String),
    /// This try has kept it.
    Output(StageTry),
}

/// Lists an execution's files, first those that it was given, and one more than the page has if there is one.
pub(super) async fn list(app: &App, caller: &Caller, id: ExecutionId, page: &Page<i64>) -> Result<Vec<Taken>> {
    let access = enter(app, caller, id).await?;
    let mut tx = TenantTx::begin(&app.pool, "executions.list_files", &access.claims).await?;
    let pinned = journal_store::pinned(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
    let definition = pinned.definition.ok_or_else(gone)?;
    let inputs = &pinned.inputs;
    let given = files::places(&definition, inputs).into_iter().filter_map(|place| {
        // What a run of before was given in such a place was pinned to nothing.
        let file = serde_json::from_value(place.of(inputs)?.clone()).ok()?;
        Some((From::Input(place.to_string()), file))
    });
    let first = -i64::try_from(MOST_FILES).unwrap_or(i64::MAX);
    let after = page.after.unwrap_or(i64::MIN);
    let given = (first..0)
        .zip(given)
        .map(|(place, (from, file))| Taken { place, from, file });
    let limit = usize::try_from(page.limit()).unwrap_or(usize::MAX);
    let mut taken: Vec<_> = given.filter(|it| it.place > after).take(limit).collect();
    let keepers = keepers(&definition);
    if taken.len() < limit && !keepers.is_empty() {
        let made = journal_store::outputs_of(&mut tx, id, &keepers, after.max(0), page.limit()).await?;
        let made = made.into_iter().filter_map(|entry| {
            let attempt = entry.payload.attempt()?;
            Some(Taken {
                place: entry.seq,
                from: From::Output(attempt.of_try()),
                file: serde_json::from_value(attempt.output.clone()).ok()?,
            })
        });
        taken.extend(made);
        taken.truncate(limit);
    }
    Ok(taken)
}

/// The stages that keep files.
fn keepers(definition: &Definition) -> Vec<String> {
    let stages = definition.stages.iter();
    let keepers = stages.filter(|it| matches!(it.kind, Kind::File(_)));
    keepers.map(|it| it.name.clone()).collect()
}
