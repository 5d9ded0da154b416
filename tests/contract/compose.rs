//! The Compose file, against the programs that it starts: there is no engine here to start it with.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use studios_cli::settings::{Args, settings};

/// A file of `deploy/`.
fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)).unwrap()
}

/// The services of the Compose file.
fn services() -> BTreeMap<String, Value> {
    let compose: Value = serde_saphyr::from_str(&file("compose.yaml")).unwrap();
    serde_json::from_value(compose["services"].clone()).unwrap()
}

/// What `studios settings` writes.
fn environment() -> BTreeMap<&'static str, String> {
    let dir = tempfile::tempdir().unwrap();
    let args = Args {
        dir: dir.path().to_owned(),
        database: "postgres:5432/studios".into(),
        admin: "postgres".into(),
    };
    settings(&args).unwrap().into_iter().collect()
}

/// The variable of a value `${NAME:?why}`.
fn variable(value: &str) -> Option<&str> {
    let (name, _) = value.strip_prefix("${")?.split_once(":?")?;
    Some(name)
}

/// Whether a value is `${NAME:-}`, which may stay unsaid.
fn may_stay_unsaid(value: &str) -> bool {
    value.starts_with("${") && value.ends_with(":-}")
}

/// A service's environment with its variables filled in, and without what stays unsaid.
fn filled(service: &Value) -> Vec<(String, String)> {
    let written = environment();
    let fill = |value: &str| variable(value).map_or(value.to_owned(), |name| written[name].clone());
    let environment = service["environment"].as_object().unwrap();
    environment
        .iter()
        .map(|(key, value)| (key, value.as_str().unwrap()))
        .filter(|(_, value)| !may_stay_unsaid(value))
        .map(|(key, value)| (key.clone(), fill(value)))
        .collect()
}

/// The same as flags of a service, which are refused where they are no settings of it.
fn flags(service: &Value, prefix: &str) -> Vec<(String, String)> {
    let key = |name: &str| {
        let key = name.strip_prefix(prefix).or_else(|| name.strip_prefix("STUDIOS_"));
        key.expect("a setting of ours").to_ascii_lowercase()
    };
    filled(service)
        .into_iter()
        .map(|(name, value)| (key(&name), value))
        .collect()
}

#[test]
fn every_service_is_given_settings_that_it_knows_and_all_that_it_needs() {
    let services = services();
    let core = flags(&services["core-service"], "STUDIOS_CORE_");
    core_service::Config::load(None, &core).unwrap();
    let execution = flags(&services["execution-service"], "STUDIOS_EXECUTION_");
    execution_service::Config::load(None, &execution).unwrap();
    let gateway = flags(&services["gateway"], "STUDIOS_GATEWAY_");
    gateway::Config::load(None, &gateway).unwrap();
    let migrate: BTreeSet<_> = filled(&services["migrate"]).into_iter().map(|(key, _)| key).collect();
    assert_eq!(
        migrate,
        BTreeSet::from(["DATABASE_URL".to_owned(), "STUDIOS_KEY_RING".to_owned()])
    );
}

#[test]
fn no_secret_is_in_the_file_and_every_one_is_written_and_named_in_the_example() {
    let compose = file("compose.yaml");
    let (optional, used): (Vec<_>, Vec<_>) = compose
        .match_indices("${")
        .map(|(at, _)| compose[at..].split_whitespace().next().unwrap())
        .partition(|value| may_stay_unsaid(value));
    assert_eq!(optional, ["${STUDIOS_PUBLIC_URL:-}"]);
    let used: BTreeSet<_> = used.into_iter().map(|it| variable(it).unwrap()).collect();
    let written = environment();
    assert_eq!(used, written.keys().copied().collect());
    let example = file(".env.example");
    let named: BTreeSet<_> = example.lines().filter_map(|line| line.strip_suffix('=')).collect();
    assert_eq!(used, named);
    assert!(example.contains("# STUDIOS_PUBLIC_URL="));
}

#[test]
fn every_image_is_pinned_or_built_here_and_no_process_may_more_than_it_needs() {
    let dockerfile = file("Dockerfile");
    for (name, service) in services() {
        let (_, tag) = service["image"].as_str().unwrap().split_once(':').expect("a tag");
        assert!(tag.starts_with(|it: char| it.is_ascii_digit()), "{name}: {tag}");
        if let Some(target) = service["build"]["target"].as_str() {
            assert!(dockerfile.contains(&format!(" AS {target}\n")), "{name}");
        }
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"][0], "ALL", "{name}");
        let ports = service["ports"].as_array().cloned().unwrap_or_default();
        assert!(
            ports.iter().all(|it| it.as_str().unwrap().starts_with("127.0.0.1:")),
            "{name}"
        );
    }
    let built = dockerfile
        .lines()
        .find(|line| line.contains("cp /target/release/"))
        .unwrap();
    for binary in ["core-service", "execution-service", "gateway", "studios"] {
        assert!(built.contains(&format!("/target/release/{binary} ")), "{binary}");
    }
}
