//! Calls of an ActivePieces instance, each refusal and each silence of the contract, and that the instance of the tests behaves as
//! a recorded real one.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use execution_service::pieces::{Account, Auth, FailureKind, Flows, Pieces as Client, Runs, Started};
use futures::future::join_all;
use serde_json::{Value, json};
use service_kit::{
    clock::SystemClock,
    ids::ConnectionId,
    outbound::{Outbound, OutboundConfig},
};
use studios_tests::pieces::{API_KEY, Behaviour, EMAIL, PASSWORD, PROJECT, Pieces, Reaction, Setup, definition};

fn client() -> Client {
    let config = OutboundConfig {
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        ..OutboundConfig::default()
    };
    Client::new(Outbound::new(&config).unwrap(), Arc::new(SystemClock))
}

fn account(instance: &Pieces) -> Account {
    Account {
        connection: ConnectionId::generate(),
        revision: 1,
        base_url: instance.url(),
        project: Some(PROJECT.into()),
        auth: Auth::SignIn {
            email: EMAIL.into(),
            password: PASSWORD.into(),
        },
    }
}

fn responding() -> Value {
    let input = json!({"respond": "stop", "responseType": "json", "fields": {"status": 201}});
    definition(&[("webhook", "return_response", input)])
}

#[tokio::test]
async fn one_sign_in_serves_all_and_is_renewed_when_the_session_ends_in_either_way() {
    for says_expired in [true, false] {
        let instance = Pieces::start(Setup {
            says_expired,
            ..Setup::default()
        })
        .await;
        let (client, account) = (client(), account(&instance));
        let wanted = Runs::default();
        let all = join_all((0..30).map(|_| client.runs(&account, &wanted, 1))).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(instance.sign_ins(), 1);
        // A token that was given a moment ago is not asked for anew: the instance would be at fault.
        tokio::time::sleep(Duration::from_secs(5)).await;
        instance.end_sessions();
        let all = join_all((0..30).map(|_| client.runs(&account, &wanted, 1))).await;
        assert!(all.iter().all(Result::is_ok), "{:?}", all.iter().find(|it| it.is_err()));
        assert_eq!(instance.sign_ins(), 2);
    }
}

#[tokio::test]
async fn who_may_not_enter_is_told_so_and_does_not_try_again_at_once() {
    let instance = Pieces::start(Setup {
        sign_ins: 1,
        ..Setup::default()
    })
    .await;
    let client = client();
    let mut wrong = account(&instance);
    wrong.auth = Auth::SignIn {
        email: EMAIL.into(),
        password: "not-the-canary".to_owned().into(),
    };
    for _ in 0..5 {
        let failure = client.flow(&wrong, "Obm4LgAFBZlmoo2Aq1vXI").await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unauthorised);
        assert!(!failure.message.contains("canary") && !format!("{failure:?} {wrong:?}").contains("canary"));
    }
    assert_eq!(instance.sign_ins(), 1, "a refusal is remembered");
    let limited = client.runs(&account(&instance), &Runs::default(), 1).await.unwrap_err();
    assert_eq!(limited.kind, FailureKind::RateLimited);
    assert_eq!(limited.retry_after, Some(Duration::from_secs(51)));
}

#[tokio::test]
async fn a_key_enters_where_keys_are_taken_and_a_foreign_project_is_not_there() {
    let instance = Pieces::start(Setup {
        takes_keys: true,
        ..Setup::default()
    })
    .await;
    let client = client();
    let with_key = Account {
        auth: Auth::ApiKey(API_KEY.into()),
        ..account(&instance)
    };
    let probe = client.probe(&with_key).await.unwrap();
    assert_eq!(
        (&*probe.version, &*probe.edition, &*probe.project),
        ("0.85.4", "ee", PROJECT)
    );
    assert_eq!(instance.sign_ins(), 0);
    let foreign = Account {
        project: Some("aaaaaaaaaaaaaaaaaaaaa".into()),
        ..with_key.clone()
    };
    assert_eq!(
        client.flows(&foreign, &Flows::default()).await.unwrap_err().kind,
        FailureKind::NotFound
    );
    let community = Pieces::start(Setup::default()).await;
    let refused = Account {
        base_url: format!("{}/api/v1/", community.url()),
        connection: ConnectionId::generate(),
        ..with_key
    };
    assert_eq!(
        client.probe(&refused).await.unwrap_err().kind,
        FailureKind::Unauthorised
    );
}

#[tokio::test]
async fn every_answer_to_a_start_means_what_the_contract_says() {
    let instance = Pieces::start(Setup::default()).await;
    let (client, account) = (client(), account(&instance));
    let flow = instance.flow("any", responding());
    let body = json!({"a": 1, "b": 2});
    let waits = Some(Duration::from_secs(5));
    let started = |waits| client.start(&account, &flow, &body, waits);
    let refused = |status, body: Value| {
        instance.behave(
            &flow,
            Behaviour {
                reaction: Reaction::Refuses(status, body),
                ..Behaviour::default()
            },
        );
    };

    assert_eq!(started(None).await, Ok(Started::Taken));
    assert!(matches!(started(waits).await, Ok(Started::Answered { status: 201, body }) if body["sum"] == 3));
    for (status, body, kind) in [
        (402, json!({"code": "QUOTA_EXCEEDED", "params": {}}), FailureKind::Quota),
        (413, json!({"message": "Payload too large"}), FailureKind::TooLarge),
        (
            415,
            json!({"statusCode": 415, "error": "x", "message": "y"}),
            FailureKind::MediaType,
        ),
        (
            400,
            json!({"statusCode": 400, "error": "x", "message": "y"}),
            FailureKind::Invalid,
        ),
        (
            409,
            json!({"code": "FLOW_OPERATION_IN_PROGRESS", "params": {}}),
            FailureKind::InProgress,
        ),
        (
            429,
            json!({"statusCode": 429, "error": "x", "message": "y"}),
            FailureKind::RateLimited,
        ),
        (
            401,
            json!({"statusCode": 401, "error": "x", "message": "y"}),
            FailureKind::Unauthorised,
        ),
        (404, json!({}), FailureKind::FlowDisabled),
        (410, json!({}), FailureKind::FlowGone),
    ] {
        refused(status, body);
        assert_eq!(started(None).await.unwrap_err().kind, kind, "{status}");
        assert_eq!(started(waits).await.unwrap_err().kind, kind, "{status}, waiting");
    }
    refused(422, json!({"mine": true}));
    assert!(
        matches!(started(waits).await, Ok(Started::Answered { status: 422, .. })),
        "the flow's own answer"
    );

    for status in [500, 502, 503, 408] {
        instance.behave(
            &flow,
            Behaviour {
                reaction: Reaction::Says(status),
                ..Behaviour::default()
            },
        );
        assert_eq!(started(waits).await, Ok(Started::Unknown), "{status}");
    }
    instance.behave(
        &flow,
        Behaviour {
            ends: "FAILED",
            ..Behaviour::default()
        },
    );
    assert_eq!(
        started(waits).await,
        Ok(Started::Unknown),
        "204 after the whole timeout"
    );
    instance.behave(
        &flow,
        Behaviour {
            reaction: Reaction::Hangs,
            ..Behaviour::default()
        },
    );
    assert_eq!(
        started(Some(Duration::from_millis(200))).await,
        Ok(Started::Unknown),
        "no answer"
    );
    instance.disable(&flow);
    assert_eq!(started(None).await.unwrap_err().kind, FailureKind::FlowDisabled);
    instance.delete(&flow);
    assert_eq!(started(None).await.unwrap_err().kind, FailureKind::FlowGone);
    assert_eq!(
        client.start(&account, "short", &body, None).await.unwrap_err().kind,
        FailureKind::FlowGone
    );
}

#[tokio::test]
async fn an_address_that_may_not_be_called_is_refused_and_nothing_is_sent() {
    let client = Client::new(
        Outbound::new(&OutboundConfig::default()).unwrap(),
        Arc::new(SystemClock),
    );
    let instance = Pieces::start(Setup::default()).await;
    let failure = client.runs(&account(&instance), &Runs::default(), 1).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert_eq!(instance.sign_ins(), 0);
}

#[tokio::test]
async fn pages_are_read_to_their_end_and_a_cursor_that_leads_back_is_not_followed_for_ever() {
    let instance = Pieces::start(Setup::default()).await;
    let (client, account) = (client(), account(&instance));
    let flow = instance.flow("many", responding());
    for _ in 0..250 {
        client.start(&account, &flow, &json!({}), None).await.unwrap();
    }
    let before = Instant::now();
    let wanted = Runs {
        flow: Some(&flow),
        ..Runs::default()
    };
    let runs = client.runs(&account, &wanted, 10).await.unwrap();
    assert_eq!(
        (runs.len(), instance.requests_since(before, "GET /flow-runs")),
        (250, 3)
    );
    let lost = Flows {
        cursor: "garbage",
        limit: 5,
        ..Flows::default()
    };
    assert_eq!(
        client.flows(&account, &lost).await.unwrap().data.len(),
        1,
        "the first page again"
    );
}

#[tokio::test]
async fn after_five_failures_in_a_row_nothing_is_sent_for_a_while() {
    let instance = Pieces::start(Setup::default()).await;
    let (client, account) = (client(), account(&instance));
    let flow = instance.flow("any", responding());
    client.runs(&account, &Runs::default(), 1).await.unwrap();
    instance.down(true);
    let before = Instant::now();
    let first = client.runs(&account, &Runs::default(), 1).await.unwrap_err();
    assert_eq!(first.kind, FailureKind::Broken);
    assert_eq!(instance.requests_since(before, "GET"), 3, "what reads is tried again");
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(
            client
                .start(&account, &flow, &json!({}), None)
                .await
                .map_err(|it| it.kind),
        );
    }
    let expected = [
        Ok(Started::Unknown),
        Ok(Started::Unknown),
        Err(FailureKind::CircuitOpen),
    ];
    assert_eq!(kinds, expected);
    let sent = instance.requests_since(before, "");
    let open = client.runs(&account, &Runs::default(), 1).await.unwrap_err();
    assert_eq!(open.kind, FailureKind::CircuitOpen);
    assert!(open.retry_after.is_some());
    assert_eq!(instance.requests_since(before, ""), sent, "nothing was sent");
}

/// A recorded exchange.
struct Exchange {
    name: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    status: u16,
    answer: Option<Value>,
}

fn recorded() -> Vec<Exchange> {
    let text = include_str!("../data/activepieces-exchanges.md");
    text.split("\n### ").skip(1).filter_map(exchange).collect()
}

fn exchange(part: &str) -> Option<Exchange> {
    let (name, rest) = part.split_once('\n')?;
    let (_, rest) = rest.split_once("```http\n")?;
    let (request, rest) = rest.split_once("\n```\n")?;
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut lines = head.lines();
    let (method, path) = lines.next()?.split_once(' ')?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let status = rest.strip_prefix("-> **")?.get(..3)?.parse().ok()?;
    let answer = rest.split_once("```json\n").and_then(|(_, it)| it.split_once("\n```"));
    Some(Exchange {
        name: name.to_owned(),
        method: method.to_owned(),
        path: path.to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
        status,
        answer: answer.and_then(|(json, _)| serde_json::from_str(json).ok()),
    })
}

/// Whether the instance of the tests has what is asked for: whole requests to routes that it serves.
fn is_supported(it: &Exchange) -> bool {
    let path = it.path.split('?').next().unwrap_or_default();
    let route = path.strip_prefix("/api/v1/").unwrap_or_default();
    let routes = [
        "flags",
        "authentication/sign-in",
        "flows",
        "flow-runs",
        "webhooks",
        "pieces/",
    ];
    let elsewhere = [
        "count-by-status",
        "waitpoints",
        "archive",
        "/retry",
        "/template",
        "/versions",
        "bulk",
        "short password",
        // Of a run that the recording does not name.
        "cancel QUEUED",
        "OPTIONS",
        // Of an instance that was set up otherwise.
        "pieces of a fresh prod instance",
    ];
    let is_whole = it.body.is_empty() || serde_json::from_str::<Value>(&it.body).is_ok();
    let is_json = it
        .headers
        .iter()
        .all(|(name, value)| name != "Content-Type" || value == "application/json");
    routes.iter().any(|known| {
        route == known.trim_end_matches('/') || route.starts_with(&format!("{}/", known.trim_end_matches('/')))
    }) && elsewhere
        .iter()
        .all(|word| !it.path.contains(word) && !it.name.contains(word))
        && is_whole
        && is_json
        && it.body.len() < 1 << 20
}

/// The names and kinds of an answer's members; what is below them is the flow's.
fn shape(answer: &Value) -> BTreeMap<String, &'static str> {
    let kind = |value: &Value| match value {
        Value::Array(_) => "list",
        Value::Object(_) => "object",
        _ => "scalar",
    };
    let members = answer.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.clone(), kind(value))).collect()
}

#[tokio::test]
async fn the_instance_of_the_tests_answers_as_the_recorded_one_did() {
    let instance = Pieces::start(Setup {
        webhook_timeout: Duration::from_millis(150),
        sign_ins: 1_000,
        says_expired: false,
        ..Setup::default()
    })
    .await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (mut token, mut ids) = (String::new(), BTreeMap::<String, String>::new());
    let (mut compared, mut shaped, mut differ) = (0, 0, Vec::new());
    for it in recorded().iter().filter(|it| is_supported(it)) {
        let known = |text: &str| {
            ids.iter()
                .fold(text.to_owned(), |text, (old, new)| text.replace(old, new))
        };
        let named = it
            .path
            .split(['/', '?', '&', '='])
            .filter(|part| part.len() == 21 && *part != PROJECT);
        let is_stranger = |part: &&str| !ids.contains_key(*part) && *part != "aaaaaaaaaaaaaaaaaaaaa";
        if named.clone().any(|part| is_stranger(&part)) {
            continue; // A run or flow whose making was not recorded.
        }
        // Until that was recorded a worker was there, and after it another.
        instance.worker(!it.name.contains("with no worker"));
        let mut request = http.request(
            it.method.parse().unwrap(),
            format!("{}{}", instance.url(), known(&it.path)),
        );
        for (name, value) in &it.headers {
            request = request.header(name, value.replace("<jwt>", &token));
        }
        let answer = request.body(known(&it.body)).send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Option<Value> = serde_json::from_str(&answer.text().await.unwrap()).ok();
        compared += 1;
        if status != it.status {
            differ.push(format!("{}: {status} in place of {}", it.name, it.status));
            continue;
        }
        let (Some(ours), Some(theirs)) = (&body, &it.answer) else {
            continue;
        };
        if it.path.contains("sign-in") && status == 200 {
            ours["token"].as_str().unwrap().clone_into(&mut token);
        }
        if it.method == "POST" && it.path.ends_with("/flows") && status == 201 {
            ids.insert(
                theirs["id"].as_str().unwrap().to_owned(),
                ours["id"].as_str().unwrap().to_owned(),
            );
        }
        let is_platforms = !it.path.contains("/webhooks/") || status >= 400;
        if is_platforms && !it.path.ends_with("/flags") && !it.path.contains("/pieces/") {
            shaped += 1;
            let (ours, theirs) = (shape(ours), shape(theirs));
            let missing: Vec<_> = theirs.keys().filter(|name| !ours.contains_key(*name)).collect();
            if !missing.is_empty() {
                differ.push(format!("{}: without {missing:?}", it.name));
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert!(
        compared >= 60 && shaped >= 20,
        "{compared} compared, {shaped} by their shape"
    );
}
