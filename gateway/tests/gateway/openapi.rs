//! The document of what is served as JSON: committed, up to date, valid, and served.

use std::collections::BTreeSet;

use gateway::openapi::document;
use serde_json::Value;

use crate::support::{World, within};

/// Every `$ref` and every `operationId` of the document.
fn walk(value: &Value, refs: &mut BTreeSet<String>, ids: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("$ref", Value::String(to)) => _ = refs.insert(to.clone()),
                    ("operationId", Value::String(id)) => ids.push(id.clone()),
                    _ => walk(value, refs, ids),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|it| walk(it, refs, ids)),
        _ => {}
    }
}

#[tokio::test]
async fn the_served_document_is_the_one_that_the_contracts_give() {
    let world = World::new().await;
    let response = within(world.http.get(world.url("/openapi.json")).send()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    let served: Value = response.json().await.unwrap();
    // Not shown in full: it is long.
    assert!(
        served == document(),
        "gateway/openapi.json is out of date: run `make openapi`"
    );
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
    let document = document();
    let (mut refs, mut ids) = (BTreeSet::new(), Vec::new());
    walk(&document, &mut refs, &mut ids);
    for to in refs {
        let pointer = to.strip_prefix('#').expect("it stays in the document");
        assert!(document.pointer(pointer).is_some(), "{to}");
    }
    let named: BTreeSet<_> = ids.iter().collect();
    assert_eq!(named.len(), ids.len());
}

#[test]
fn every_schema_is_a_json_schema_of_the_dialect_that_openapi_3_1_has() {
    let document = document();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if let Err(error) = jsonschema::draft202012::meta::validate(schema) {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn what_is_internal_is_not_in_it_and_every_element_says_what_it_is_for() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    assert!(
        paths
            .keys()
            .all(|path| !path.contains("AccessService") && !path.contains("ReplicaService"))
    );
    for (path, item) in paths.iter().filter(|(path, _)| path.contains(".v1.")) {
        assert_ne!(item["post"]["description"].as_str().unwrap(), "", "{path}");
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema["description"].is_string(), "{name}");
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            assert!(
                schema["description"].is_string() || schema["$ref"].is_string(),
                "{name}.{field}"
            );
        }
    }
}
