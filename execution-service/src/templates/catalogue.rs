//! The platform's templates: what comes with the program, as files under `execution-service/templates`, and how it is seeded.
//!
//! A file is known by its name, which is the template's key for ever. Seeding makes the database say what the files say, whoever
//! seeds at the same time and however often: a template that is new is made, one whose contents differ from its newest version
//! gets another, one that is gone is deactivated. A version is never changed: where a file's contents differ and its version
//! was not raised, the next patch is made.

use serde::Deserialize;
use serde_json::{Map, Value};
use service_kit::{
    error::{Error, Result, Violations},
    ids::{TemplateId, TemplateVersionId},
};
use sqlx::PgConnection;

use super::{About, Area, Complexity, Semver, catalogue_store as store, convert, publishing};
use crate::{engine::definition::Definition, workflows::convert::contract};

/// The files by their names.
const FILES: &[(&str, &str)] = &[
    (
        "answer_with_citations",
        include_str!("../../templates/answer_with_citations.toml"),
    ),
    ("campaign_brief", include_str!("../../templates/campaign_brief.toml")),
    (
        "clean_csv_column",
        include_str!("../../templates/clean_csv_column.toml"),
    ),
    (
        "compare_policies",
        include_str!("../../templates/compare_policies.toml"),
    ),
    (
        "competitor_table",
        include_str!("../../templates/competitor_table.toml"),
    ),
    (
        "contract_red_flags",
        include_str!("../../templates/contract_red_flags.toml"),
    ),
    ("feedback_themes", include_str!("../../templates/feedback_themes.toml")),
    ("incident_report", include_str!("../../templates/incident_report.toml")),
    ("invoice_fields", include_str!("../../templates/invoice_fields.toml")),
    ("job_post", include_str!("../../templates/job_post.toml")),
    ("meeting_tasks", include_str!("../../templates/meeting_tasks.toml")),
    (
        "sales_call_follow_up",
        include_str!("../../templates/sales_call_follow_up.toml"),
    ),
    (
        "summarise_for_role",
        include_str!("../../templates/summarise_for_role.toml"),
    ),
    (
        "triage_support_mail",
        include_str!("../../templates/triage_support_mail.toml"),
    ),
    ("weekly_report", include_str!("../../templates/weekly_report.toml")),
];

/// A template that comes with the program.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is known by.
    pub key: String,
    /// What it says about itself.
    pub about: About,
    /// The least version of its contents.
    pub version: Semver,
    /// What is new in it.
    pub notes: String,
    /// What it does.
    pub definition: Definition,
    /// Inputs to try it with.
    pub sample: Map<String, Value>,
}

/// What seeding did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Templates that are new.
    pub made: usize,
    /// Templates that got another version.
    pub renewed: usize,
    /// Templates that are gone from the files.
    pub deactivated: usize,
    /// Templates that the files have.
    pub all: usize,
}

/// A file as it is written. Schemas and the sample are JSON; stages are as the contract writes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    description: String,
    area: Area,
    complexity: Complexity,
    minutes: i32,
    tags: Vec<String>,
    version: String,
    #[serde(default)]
    notes: String,
    input_schema: String,
    output_schema: String,
    sample: String,
    stages: Vec<Value>,
}

/// All of them.
///
/// # Errors
/// `Internal` where a file is wrong, which a test keeps from happening.
pub fn entries() -> Result<Vec<Entry>> {
    FILES.iter().map(|(key, text)| read(key, text)).collect()
}

/// Makes the platform's templates say what the files say, as the owner of the schema.
///
/// # Errors
/// The database's; nothing is changed then.
pub async fn seed(connection: &mut PgConnection) -> Result<Report> {
    let entries = entries()?;
    let mut tx = store::begin(connection).await?;
    let mut report = Report {
        all: entries.len(),
        ..Report::default()
    };
    for entry in &entries {
        match store::find(&mut tx, &entry.key).await? {
            None => {
                let id = TemplateId::generate();
                store::insert(&mut tx, id, entry).await?;
                store::insert_version(&mut tx, id, TemplateVersionId::generate(), entry, entry.version).await?;
                report.made += 1;
            }
            Some(found) => {
                let same = found.definition == entry.definition && found.sample == entry.sample;
                let newest = if same {
                    found.newest
                } else {
                    entry.version.max(found.newest.next_patch())
                };
                if !same {
                    store::insert_version(&mut tx, found.id, TemplateVersionId::generate(), entry, newest).await?;
                    report.renewed += 1;
                }
                store::update(&mut tx, found.id, &entry.about, newest).await?;
            }
        }
    }
    let keys: Vec<_> = entries.into_iter().map(|it| it.key).collect();
    report.deactivated = store::deactivate_others(&mut tx, &keys).await?;
    tx.commit().await?;
    Ok(report)
}

fn read(key: &str, text: &str) -> Result<Entry> {
    let wrong = |what: String| Error::internal(format!("the template {key}: {what}"));
    let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let json = |what: &str, text: &str| -> Result<Value> {
        serde_json::from_str(text).map_err(|error| wrong(format!("{what}: {error}")))
    };
    let output_schema = json("output_schema", &file.output_schema)?;
    let mut stages = file.stages;
    for stage in &mut stages {
        open_schemas(stage, &output_schema).map_err(|error| wrong(error.to_string()))?;
    }
    let given = serde_json::json!({
        "stages": stages,
        "input_schema": json("input_schema", &file.input_schema)?,
        "output_schema": output_schema,
    });
    let mut violations = Violations::new();
    let definition = contract::from_json(&mut violations, "definition", &given);
    let Value::Object(sample) = json("sample", &file.sample)? else {
        return Err(wrong("sample is no object".into()));
    };
    publishing::problems(&mut violations, &definition, &sample)?;
    if file.tags.len() > 10 || !file.tags.iter().all(|it| convert::is_tag(it)) {
        violations.add("tags", "must be at most 10 tags");
    }
    violations.finish().map_err(|error| wrong(format!("{error:?}")))?;
    Ok(Entry {
        key: key.to_owned(),
        about: About {
            name: file.name,
            description: file.description,
            area: file.area,
            complexity: file.complexity,
            estimated_minutes: file.minutes,
            tags: file.tags,
        },
        version: Semver::parse(&file.version).ok_or_else(|| wrong("version is no semver".into()))?,
        notes: file.notes,
        definition,
        sample,
    })
}

/// A stage's schemas are written as JSON too; `output` stands for the template's own.
fn open_schemas(stage: &mut Value, output_schema: &Value) -> serde_json::Result<()> {
    let places = ["/llm/response_schema", "/validation/json_schema/schema"];
    for place in places {
        if let Some(schema) = stage.pointer_mut(place)
            && let Some(text) = schema.as_str()
        {
            *schema = match text {
                "output" => output_schema.clone(),
                text => serde_json::from_str(text)?,
            };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
