//! Files that executions are given.
//!
//! Whoever starts one names files; what the run sees of each is what core-service says of it to him then, pinned to a version, with
//! the document of exactly that version's text. So a later version changes nothing in a run, and nobody names what he does not
//! reach: another company's file is not there, whoever is a member of both.

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Map, Value};
use service_kit::{
    error::{Error, Result, Violations},
    ids::{CompanyId, FileId, StudioId, UserId},
};

use crate::{
    access::{CoreClient, FileFacts, Level, NewText, Readable, VersionFacts},
    engine::definition::Definition,
};

mod inputs;

pub use inputs::{Pinned, Place, asked, places};

/// The most files that a start takes.
pub const MOST_FILES: usize = 20;
/// How many are looked up at once.
const AT_ONCE: usize = 4;

/// For whom files are looked up, and where the run is.
#[derive(Clone, Copy, Debug)]
pub struct Starter {
    /// Who starts it.
    pub user: UserId,
    /// The run's company.
    pub company: CompanyId,
    /// The run's studio.
    pub studio: StudioId,
}

/// The inputs with what core-service says of their files.
///
/// # Errors
/// `Invalid` on the field of a file that the user does not reach, `FailedPrecondition` where one cannot be read.
pub async fn pin(
    core: &CoreClient,
    starter: Starter,
    definition: &Definition,
    mut inputs: Map<String, Value>,
) -> Result<Map<String, Value>> {
    let places = places(definition, &inputs);
    if places.is_empty() {
        return Ok(inputs);
    }
    if places.len() > MOST_FILES {
        return Err(Error::invalid(
            "inputs",
            format!("must have at most {MOST_FILES} files"),
        ));
    }
    let mut violations = Violations::new();
    let mut wanted = Vec::with_capacity(places.len());
    for place in places {
        let value = place.of(&inputs).unwrap_or(&Value::Null);
        let asked = inputs::wanted(&mut violations, &place, value);
        wanted.extend(asked.map(|(file, version)| (place, file, version)));
    }
    violations.finish()?;
    let look_ups = wanted.into_iter().map(async |(place, file, version)| {
        let pinned = look_up(core, starter, &place, file, version).await?;
        Ok::<_, Error>((place, pinned))
    });
    let found: Vec<_> = stream::iter(look_ups).buffered(AT_ONCE).try_collect().await?;
    for (place, pinned) in found {
        place.put(&mut inputs, &pinned);
    }
    Ok(inputs)
}

async fn look_up(
    core: &CoreClient,
    starter: Starter,
    place: &Place,
    id: FileId,
    version: Option<i32>,
) -> Result<Pinned> {
    let unreached = || Error::invalid(format!("inputs.{place}.file_id"), "must be a file that you reach");
    let hidden = |error| match error {
        Error::NotFound { .. } => unreached(),
        other => other,
    };
    let file = core.file(starter.user, id).await.map_err(hidden)?;
    if file.company != starter.company || file.is_deleted {
        return Err(unreached());
    }
    let version = match version {
        None => file.current.clone(),
        Some(number) if number == file.current.number => file.current.clone(),
        Some(number) => {
            let found = core.file_version(starter.user, id, number).await.map_err(hidden)?;
            found.ok_or_else(|| {
                Error::invalid(
                    format!("inputs.{place}.version"),
                    "must be the number of a version of the file",
                )
            })?
        }
    };
    check_readable(place, version.readable)?;
    let wanted = NewText {
        studio: starter.studio,
        file: id,
        version: version.number,
        title: &file.name,
        level: level(&file, starter.studio),
    };
    let document_id = core.text_of(starter.user, wanted).await.map_err(hidden)?;
    let VersionFacts {
        number,
        mime_type,
        size_bytes,
        sha256,
        ..
    } = version;
    Ok(Pinned {
        file_id: id,
        version: number,
        name: file.name,
        mime_type,
        size_bytes,
        sha256,
        document_id,
    })
}

/// Who reaches the text of a file in a studio: nobody who does not reach the file.
fn level(file: &FileFacts, studio: StudioId) -> Level {
    match file.level {
        Level::Studio if file.studio != studio => Level::Private,
        level => level,
    }
}

fn check_readable(place: &Place, readable: Readable) -> Result<()> {
    let (reason, why) = match readable {
        Readable::Yes => return Ok(()),
        Readable::NotYet => ("FILE_SCANNING", "the file waits to be scanned"),
        Readable::Quarantined => ("FILE_QUARANTINED", "the scanner found something in the file"),
        Readable::Lost => ("FILE_LOST", "the file's bytes are no longer in the object store"),
    };
    Err(Error::FailedPrecondition {
        reason,
        message: format!("inputs.{place}.file_id: {why}"),
    })
}
