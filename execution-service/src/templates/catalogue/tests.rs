use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::json;

use super::*;
use crate::{
    engine::{
        check,
        definition::{Kind, Stage, Validation},
        dry_run::{Answers, End, Sample, Stop, dry_run},
    },
    providers::{Call, OFFLINE, Offline, Parameters, Provider, SourceText},
    workflows::problems::{KnownModel, model_names, problems},
};

/// What the offline model is asked where a stage retrieves.
fn passages() -> Vec<SourceText> {
    let passage = |section: &str, content: &str| SourceText {
        document_id: "01900000-0000-7000-8000-000000000001".into(),
        chunk_id: "01900000-0000-7000-8000-000000000002".into(),
        title: "Returns".into(),
        section: section.into(),
        content: content.into(),
    };
    vec![
        passage(
            "Fees",
            "A late parcel costs five euros. The fee was planned to end on 1 June 2026.",
        ),
        passage(
            "Time",
            "A parcel may be sent back within 30 days. The desk finished the new forms. Two parcels were late.",
        ),
    ]
}

/// The output of a template, where the offline model answers for every stage.
async fn output(entry: &Entry) -> std::result::Result<Value, String> {
    let mut entry = entry.clone();
    for stage in &mut entry.definition.stages {
        // Nothing is retrieved in a dry run, so nothing can be cited.
        if stage.kind.retrieval().is_some() {
            stage.validation = Validation::None;
        }
    }
    let entry = &entry;
    let mut outputs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    loop {
        let sample = Sample {
            outputs: outputs.clone(),
            ..Sample::default()
        };
        let of = match dry_run(&entry.definition, &filled(entry), Answers::Given(&sample)).end {
            End::Completed { outputs } => return Ok(Value::Object(outputs)),
            End::Failed(failure) => return Err(format!("{}: {failure:?} after {outputs:?}", entry.key)),
            End::Stopped(Stop::NoOutput(of)) => of,
            End::Stopped(other) => return Err(format!("{}: {other}", entry.key)),
        };
        let stage = &entry.definition.stages[entry.definition.position(&of.stage).unwrap()];
        // The prompt is seen once there is some answer.
        let mut probe = sample;
        probe.outputs.entry(of.stage.clone()).or_default().push(json!("?"));
        let trace = dry_run(&entry.definition, &filled(entry), Answers::Given(&probe));
        let step = trace.steps.into_iter().find(|it| it.of == of).unwrap();
        let prompt = step
            .prompt
            .ok_or_else(|| format!("{}: {:?}", entry.key, step.failure))?;
        let text = ask(stage, prompt.system, prompt.prompt).await;
        let text = text.map_err(|error| format!("{}: {error} after {outputs:?}", entry.key))?;
        outputs.entry(of.stage).or_default().push(Value::String(text));
    }
}

fn filled(entry: &Entry) -> Map<String, Value> {
    super::super::form::with_defaults(entry.definition.input_schema.as_ref().unwrap(), &entry.sample)
}

async fn ask(stage: &Stage, system: String, prompt: String) -> std::result::Result<String, String> {
    let sources = if stage.kind.retrieval().is_some() {
        passages()
    } else {
        Vec::new()
    };
    let text: Vec<_> = sources.iter().map(|it| it.content.as_str()).collect();
    let call = Call {
        context_length: None,
        session: String::new(),
        overrides: Map::new(),
        provider: OFFLINE.into(),
        model: "offline".into(),
        system,
        prompt: format!("{prompt}{}", text.join("\n\n")),
        schema: check::response_schema(stage),
        sources,
        parameters: Parameters::default(),
        timeout: Duration::from_secs(10),
        idempotency_key: String::new(),
    };
    let answer = Offline.call(&call, &|_| {}).await;
    answer.map(|it| it.text).map_err(|error| error.message)
}

#[test]
fn the_catalogue_has_something_for_every_area() {
    let entries = entries().unwrap();
    assert!(entries.len() >= 14, "{}", entries.len());
    let areas: BTreeSet<_> = entries.iter().map(|it| it.about.area.as_str()).collect();
    assert_eq!(areas.len(), Area::ALL.len(), "{areas:?}");
    let names: BTreeSet<_> = entries.iter().map(|it| &it.about.name).collect();
    assert_eq!(names.len(), entries.len());
}

#[test]
fn every_template_of_the_catalogue_can_be_published_and_is_within_its_limits() {
    for entry in entries().unwrap() {
        let offline = KnownModel {
            provider: OFFLINE.into(),
            enabled: true,
        };
        let models = model_names(&entry.definition)
            .into_iter()
            .map(|it| (it, offline.clone()))
            .collect();
        let found = problems(&entry.definition, &models).finish();
        assert!(found.is_ok(), "{}: {found:?}", entry.key);
        let about = &entry.about;
        assert!((3..=200).contains(&about.name.chars().count()), "{}", entry.key);
        assert!(
            (10..=1_000).contains(&about.description.chars().count()),
            "{}",
            entry.key
        );
        assert!((1..=1_440).contains(&about.estimated_minutes), "{}", entry.key);
        for stage in &entry.definition.stages {
            if let Kind::Llm(llm) = &stage.kind {
                assert!(
                    !llm.system.is_empty() && stage.retry_limit > 0,
                    "{}: {}",
                    entry.key,
                    stage.name
                );
            }
        }
    }
}

#[tokio::test]
async fn every_template_of_the_catalogue_runs_on_the_offline_model() {
    let mut failed = Vec::new();
    for (key, text) in on_disk() {
        let entry = read(&key, &text).unwrap();
        match output(&entry).await {
            Ok(output) => show(&key, &output),
            Err(failure) => failed.push(failure),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_file_of_the_folder_is_in_the_catalogue() {
    let files: Vec<_> = FILES
        .iter()
        .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
        .collect();
    assert!(files == on_disk());
}

/// The files as they are now.
fn on_disk() -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let entries = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| {
            let key = path.file_stem().unwrap().to_string_lossy().into_owned();
            (key, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Prints an output for whoever works on a template, where `STUDIOS_SHOW` is set.
fn show(key: &str, output: &Value) {
    if std::env::var_os("STUDIOS_SHOW").is_some() {
        let shown = serde_json::to_string_pretty(output).unwrap();
        std::io::Write::write_all(&mut std::io::stderr(), format!("== {key}\n{shown}\n").as_bytes()).unwrap();
    }
}

#[test]
fn a_file_that_is_wrong_is_named_with_what_is_wrong() {
    let good = FILES[0].1;
    for (from, to, named) in [
        ("version = \"1.0.0\"", "version = \"1\"", "semver"),
        ("minutes = ", "colour = 3\nminutes = ", "colour"),
        ("model = \"offline\"", "modell = \"offline\"", "modell"),
    ] {
        let Err(error) = read("x", &good.replacen(from, to, 1)) else {
            panic!("{to} was read")
        };
        let text = format!("{error:?}");
        assert!(text.contains(named) && text.contains("the template x"), "{text}");
    }
}
