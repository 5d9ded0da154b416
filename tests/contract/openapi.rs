//! What callers are told of the JSON, against the JSON that really goes over the wire.

use jsonschema::Validator;
use serde_json::{Value, json};
use studios_tests::{
    rows::{Door, ROWS, Row},
    tenant::Tenant,
    world::World,
};
use tonic::Code;

/// The document as the gateway serves it, but with objects that take no property besides those they name: what goes over the
/// wire must all be in it.
async fn document(world: &World) -> Value {
    let text = reqwest::get(world.url("openapi.json"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let mut document: Value = serde_json::from_str(&text).unwrap();
    for schema in document["components"]["schemas"].as_object_mut().unwrap().values_mut() {
        if schema.get("properties").is_some() {
            schema["additionalProperties"] = false.into();
        }
    }
    document
}

/// Compiles a schema of the document.
fn validator(document: &Value, schema: &Value) -> Validator {
    let mut whole =
        json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "components": document["components"] });
    whole["$ref"] = schema["$ref"].clone();
    jsonschema::validator_for(&whole).unwrap()
}

fn check(validator: &Validator, what: &str, value: &Value) -> Option<String> {
    let errors: Vec<_> = validator
        .iter_errors(value)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    (!errors.is_empty()).then(|| format!("{what}: {}: {value}", errors.join("; ")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpcs_request_and_answer_are_as_the_openapi_document_says() {
    let world = World::start().await;
    let document = document(&world).await;
    let tenant = Tenant::make(&world).await;
    let error = json!({ "$ref": "#/components/schemas/connect.Error" });
    for strange in [
        json!({ "code": "nonsense" }),
        json!({ "code": "internal", "unheard": 1 }),
    ] {
        assert!(
            check(&validator(&document, &error), "", &strange).is_some(),
            "it tells what does not fit"
        );
    }
    let mut wrong = Vec::new();
    for row in ROWS {
        let operation = &document["paths"][format!("/{}", row.method)]["post"];
        if let Door::Service | Door::ServiceAlone | Door::Gateway | Door::Operator = row.door {
            assert!(operation.is_null(), "{} is internal", row.method);
            continue;
        }
        assert!(operation.is_object(), "{} is missing", row.method);
        wrong.extend(judge(&world, &document, operation, row, &tenant).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What of a row's request and answer is not as its operation says.
async fn judge(world: &World, document: &Value, operation: &Value, row: &Row, tenant: &Tenant) -> Vec<String> {
    let json = &["content", "application/json", "schema"];
    let body = (row.body)(tenant);
    let member = matches!(row.door, Door::Member);
    assert_eq!(operation["security"].is_null(), member, "{}", row.method);
    let (input, output, answer) = if super::is_stream(row) {
        let token = member.then_some(tenant.token.as_str());
        let event = world.call(row.method, body.clone(), token).await;
        let (input, output) = (&operation["x-request-schema"], &operation["x-message-schema"]);
        if row.answer != Code::Ok {
            assert_eq!(event.unwrap_err().code(), row.answer, "{}", row.method);
            return check(&validator(document, input), &format!("{} request", row.method), &body)
                .into_iter()
                .collect();
        }
        (input, output, event.unwrap())
    } else {
        let (status, answer) = super::json(world, row, tenant);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let response = if row.answer == Code::Ok {
            assert_eq!(status, 200, "{}: {answer}", row.method);
            &operation["responses"]["200"]
        } else {
            assert_eq!(
                operation["responses"]["default"]["$ref"],
                "#/components/responses/Error"
            );
            &document["components"]["responses"]["Error"]
        };
        (
            json.iter().fold(&operation["requestBody"], |value, key| &value[*key]),
            json.iter().fold(response, |value, key| &value[*key]),
            answer,
        )
    };
    let request = check(&validator(document, input), &format!("{} request", row.method), &body);
    let answer = check(&validator(document, output), &format!("{} answer", row.method), &answer);
    request.into_iter().chain(answer).collect()
}
