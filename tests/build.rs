//! Fails the build where `requirements.toml` names a test that does not exist: a requirement is met by a test or not listed.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    println!("cargo:rerun-if-changed=requirements.toml");
    let mut tests = BTreeSet::new();
    for part in [
        "tests",
        "proto",
        "service-kit",
        "core-service",
        "execution-service",
        "gateway",
        "cli",
    ] {
        println!("cargo:rerun-if-changed=../{part}");
        collect(&workspace.join(part), &mut tests)?;
    }
    let list: toml::Table = fs::read_to_string("requirements.toml")?.parse()?;
    let mut faults = Vec::new();
    for (id, names) in &list {
        let names = names.as_array().ok_or(format!("{id} must be a list of tests"))?;
        if names.is_empty() {
            faults.push(format!("{id} has no test"));
        }
        for name in names {
            let name = name.as_str().ok_or(format!("{id}: a test is named by text"))?;
            if !tests.contains(name) {
                faults.push(format!("{id}: there is no test {name}"));
            }
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!("requirements.toml:\n  {}", faults.join("\n  ")).into())
    }
}

/// Adds the name of every function below `dir` that a test attribute stands above.
fn collect(dir: &Path, tests: &mut BTreeSet<String>) -> Result<(), Box<dyn std::error::Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, tests)?;
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path)?;
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                let attribute = line.starts_with("#[");
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                if let Some((_, rest)) = line.split_once("fn ")
                    && !attribute
                {
                    if is_test && let Some((name, _)) = rest.split_once('(') {
                        tests.insert(name.to_owned());
                    }
                    is_test = false;
                }
            }
        }
    }
    Ok(())
}
