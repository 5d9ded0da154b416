//! The instance's API, as much of it as is called.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    API_KEY, EMAIL, PASSWORD, PROJECT, Shared,
    flows::Flow,
    runs::{self, CallBack, Reaction},
    wire::{answer, bad_id, coded, invalid, is_id, missing, no_route, plain, silent},
};

const STATES: [&str; 11] = [
    "FAILED",
    "QUOTA_EXCEEDED",
    "INTERNAL_ERROR",
    "PAUSED",
    "QUEUED",
    "RUNNING",
    "SUCCEEDED",
    "MEMORY_LIMIT_EXCEEDED",
    "TIMEOUT",
    "CANCELED",
    "LOG_SIZE_EXCEEDED",
];
const LARGEST: usize = 25 << 20;

type App = State<Arc<Shared>>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let api = Router::new()
        .route("/flags", get(flags))
        .route("/authentication/sign-in", post(sign_in))
        .route("/flows", get(list_flows).post(create_flow))
        .route("/flows/{id}", get(get_flow).post(change_flow).delete(delete_flow))
        .route("/pieces", get(list_pieces))
        .route("/pieces/{scope}/{name}", get(get_piece))
        .route("/flow-runs", get(list_runs))
        .route("/flow-runs/cancel", post(cancel_runs))
        .route("/flow-runs/{id}", get(get_run))
        .route("/flow-runs/{id}/retry", post(retry_run))
        .route("/flow-runs/{id}/requests/{request}", any(resume_run))
        .route("/webhooks/{id}", any(start))
        .route("/webhooks/{id}/{how}", any(start_as))
        .route("/webhooks/{id}/draft/sync", any(start_draft_sync))
        .fallback(|| async { no_route() })
        .layer(axum::extract::DefaultBodyLimit::max(2 * LARGEST))
        .layer(from_fn_with_state(shared.clone(), note))
        .with_state(shared);
    Router::new().nest("/api/v1", api).fallback(|| async { no_route() })
}

/// Notes every request, and says no to all but webhooks while the instance is down.
async fn note(State(shared): App, request: Request, next: Next) -> Response {
    let kind = format!("{} {}", request.method(), request.uri().path());
    let is_start = kind.contains("/webhooks/");
    shared.state().requests.push((Instant::now(), kind));
    if shared.is_down.load(Ordering::SeqCst) {
        return plain(503, None, "down");
    }
    let response = next.run(request).await;
    if is_start {
        shared.changed.notify_waiters();
    }
    response
}

/// Whether the caller may go on.
fn allowed(shared: &Shared, headers: &HeaderMap) -> Result<(), Response> {
    let given = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    let Some(token) = given.and_then(|it| it.strip_prefix("Bearer ")) else {
        let params = json!({ "message": "principal is not allowed for this route" });
        return Err(coded(403, "AUTHORIZATION", params));
    };
    if shared.setup.takes_keys && token == API_KEY {
        return Ok(());
    }
    let given = shared.state().sessions.get(token).copied();
    match given {
        Some(since) if since.elapsed() < shared.setup.session => Ok(()),
        _ if token.starts_with("jwt") && shared.setup.says_expired => Err(coded(
            403,
            "SESSION_EXPIRED",
            json!({ "message": "The session has expired." }),
        )),
        _ => Err(plain(401, None, "Cannot read properties of undefined (reading 'type')")),
    }
}

fn in_project(project: Option<&str>) -> Result<(), Response> {
    match project {
        None => Err(invalid(
            "querystring/projectId Invalid input: expected string, received undefined",
        )),
        Some(PROJECT) => Ok(()),
        Some(other) => Err(missing("project", other)),
    }
}

fn query(raw: Option<String>) -> Vec<(String, String)> {
    let url = url::Url::parse(&format!("http://x/?{}", raw.unwrap_or_default())).expect("a query");
    url.query_pairs().into_owned().collect()
}

fn one<'q>(query: &'q [(String, String)], name: &str) -> Option<&'q str> {
    query.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
}

fn all<'q>(query: &'q [(String, String)], name: &str) -> Vec<&'q str> {
    query
        .iter()
        .filter(|(it, _)| it == name)
        .map(|(_, value)| value.as_str())
        .collect()
}

/// A page of these: a cursor that is none of ours leads to the first one.
fn page(items: Vec<Value>, query: &[(String, String)], usual: usize) -> Response {
    let limit = one(query, "limit").and_then(|it| it.parse::<i64>().ok());
    let limit = limit
        .and_then(|it| usize::try_from(it).ok())
        .filter(|it| *it > 0)
        .unwrap_or(usual);
    let from = one(query, "cursor")
        .and_then(|it| it.strip_prefix("from-"))
        .and_then(|it| it.parse().ok());
    let from: usize = from.unwrap_or(0);
    let more = items.len() > from + limit;
    let previous = (from > 0).then(|| format!("from-{}", from.saturating_sub(limit)));
    let items: Vec<_> = items.into_iter().skip(from).take(limit).collect();
    answer(
        200,
        json!({ "next": more.then(|| format!("from-{}", from + limit)), "previous": previous, "data": items }),
    )
}

async fn flags(State(shared): App) -> Response {
    let edition = if shared.setup.takes_keys { "ee" } else { "ce" };
    answer(
        200,
        json!({ "USER_CREATED": true, "ENVIRONMENT": "dev", "CURRENT_VERSION": "0.85.4", "EDITION": edition,
        "FLOW_RUN_TIME_SECONDS": shared.setup.flow_timeout.as_secs(), "WEBHOOK_TIMEOUT_SECONDS": shared.setup.webhook_timeout.as_secs() }),
    )
}

async fn sign_in(State(shared): App, body: Bytes) -> Response {
    let now = Instant::now();
    {
        let mut state = shared.state();
        state
            .sign_ins
            .retain(|it| now.duration_since(*it) < Duration::from_mins(1));
        if state.sign_ins.len() >= shared.setup.sign_ins as usize {
            drop(state);
            let mut limited = plain(429, None, "Rate limit exceeded, retry in 51 seconds");
            limited
                .headers_mut()
                .insert(header::RETRY_AFTER, http::HeaderValue::from_static("51"));
            return limited;
        }
        state.sign_ins.push(now);
    }
    let Ok(given) = serde_json::from_slice::<Value>(&body) else {
        return plain(400, None, "Unexpected end of JSON input");
    };
    // The recorded ones were made with the development seed's password.
    let is_his = given["email"] == EMAIL && (given["password"] == PASSWORD || given["password"] == "12345678");
    if !is_his {
        return coded(401, "INVALID_CREDENTIALS", Value::Null);
    }
    let id = shared.id();
    let token = format!("jwt.{id}.canary-session");
    shared.state().sessions.insert(token.clone(), now);
    answer(
        200,
        json!({ "id": id, "status": "ACTIVE", "platformRole": "ADMIN", "platformId": "Yis6Lyltj8EItjDblrjbm",
        "firstName": "Dev", "lastName": "User", "email": EMAIL, "trackEvents": false, "newsLetter": false, "verified": true,
        "created": "2026-11-20T09:28:56.367Z", "updated": "2026-11-20T09:28:56.444Z", "identityId": id, "externalId": null,
        "lastActiveDate": null, "token": token, "projectId": PROJECT }),
    )
}

async fn list_flows(State(shared): App, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let query = query(raw);
    if let Err(refusal) = allowed(&shared, &headers).and_then(|()| in_project(one(&query, "projectId"))) {
        return refusal;
    }
    let name = one(&query, "name").unwrap_or_default().to_lowercase();
    let status = one(&query, "status");
    let flows = shared.state().flows.clone();
    let shown = flows.values().filter(|flow| {
        let is_status = status.is_none_or(|it| (it == "ENABLED") == flow.is_enabled);
        is_status && flow.name.to_lowercase().contains(&name)
    });
    page(shown.map(Flow::json).collect(), &query, 10)
}

async fn create_flow(State(shared): App, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refusal) = allowed(&shared, &headers) {
        return refusal;
    }
    let given: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (Some(name), Some(_)) = (given["displayName"].as_str(), given["projectId"].as_str()) else {
        return invalid("body/displayName Invalid input: expected string, received undefined");
    };
    let flow = Flow::empty(&shared.id(), name, given["metadata"].clone());
    let answered = flow.json();
    shared.state().flows.insert(flow.id.clone(), flow);
    answer(201, answered)
}

async fn get_flow(State(shared): App, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Err(refusal) = allowed(&shared, &headers) {
        return refusal;
    }
    if !is_id(&id) {
        return bad_id("id");
    }
    let flow = shared.state().flows.get(&id).map(Flow::json);
    flow.map_or_else(|| missing("flow", &id), |flow| answer(200, flow))
}

async fn delete_flow(State(shared): App, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Err(refusal) = allowed(&shared, &headers) {
        return refusal;
    }
    let deleted = shared.state().flows.remove(&id);
    deleted.map_or_else(|| missing("flow", &id), |_| silent(204))
}

async fn change_flow(State(shared): App, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refusal) = allowed(&shared, &headers) {
        return refusal;
    }
    let given: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut state = shared.state();
    let Some(flow) = state.flows.get_mut(&id) else {
        return missing("flow", &id);
    };
    let request = &given["request"];
    match given["type"].as_str().unwrap_or_default() {
        "IMPORT_FLOW" => {
            let trigger = &request["trigger"];
            if !trigger["settings"].is_object() || !trigger["type"].is_string() {
                return invalid("body/ Invalid input");
            }
            flow.trigger = trigger.clone();
            request["displayName"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut flow.name);
        }
        "LOCK_AND_PUBLISH" => {
            if flow.trigger["type"] == "EMPTY" {
                let params = json!({ "entityType": "piece_trigger", "message": "Trigger not found for piece undefined@undefined", "extra": {} });
                return coded(404, "ENTITY_NOT_FOUND", params);
            }
            (flow.is_published, flow.is_enabled) = (true, true);
        }
        "CHANGE_STATUS" => match request["status"].as_str() {
            Some("ENABLED") if !flow.is_published => {
                return plain(500, None, "publishedFlowVersionId is required is null or undefined");
            }
            Some(status @ ("ENABLED" | "DISABLED")) => flow.is_enabled = status == "ENABLED",
            _ => return invalid("body/ Invalid input"),
        },
        "UPDATE_METADATA" => flow.metadata = request["metadata"].clone(),
        _ => return invalid("body/ Invalid input"),
    }
    let mut answered = flow.json();
    if given["type"] == "LOCK_AND_PUBLISH" {
        answered["triggerSource"] = json!({ "schedule": null });
    }
    answer(200, answered)
}

async fn list_pieces(State(shared): App, headers: HeaderMap) -> Response {
    allowed(&shared, &headers).map_or_else(|refusal| refusal, |()| answer(200, json!([])))
}

async fn get_piece(State(shared): App, Path((scope, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    if let Err(refusal) = allowed(&shared, &headers) {
        return refusal;
    }
    let name = format!("{scope}/{name}");
    if shared.state().missing_pieces.contains(&name) {
        return missing("piece_metadata", &name);
    }
    answer(
        200,
        json!({ "id": "3E9K9xGyelE3my4cvwFLR", "name": name, "displayName": name, "logoUrl": "", "actions": {}, "triggers": {} }),
    )
}

async fn list_runs(State(shared): App, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let query = query(raw);
    if let Err(refusal) = allowed(&shared, &headers).and_then(|()| in_project(one(&query, "projectId"))) {
        return refusal;
    }
    let (states, tags, ids) = (all(&query, "status"), all(&query, "tags"), all(&query, "flowRunIds"));
    if states.iter().any(|it| !STATES.contains(it)) {
        return invalid("querystring/status/0 Invalid option: expected one of \"FAILED\"|\"QUOTA_EXCEEDED\"");
    }
    let after = one(&query, "createdAfter").and_then(|it| OffsetDateTime::parse(it, &Rfc3339).ok());
    let (now, longest) = (Instant::now(), shared.setup.flow_timeout);
    let state = shared.state();
    let shown = state.runs.iter().rev().filter(|run| {
        run.has_row
            && one(&query, "flowId").is_none_or(|it| it == run.flow)
            && (states.is_empty() || states.contains(&run.state(now, longest)))
            && tags.iter().all(|tag| run.tags.iter().any(|it| it == tag))
            && (ids.is_empty() || ids.contains(&run.id.as_str()))
            && after.is_none_or(|it| run.created >= it)
    });
    let items = shown
        .map(|run| run.json(state.flows.get(&run.flow), now, longest))
        .collect();
    drop(state);
    page(items, &query, 10)
}

async fn get_run(State(shared): App, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Err(refusal) = allowed(&shared, &headers) {
        return refusal;
    }
    if !is_id(&id) {
        return bad_id("id");
    }
    let (now, longest) = (Instant::now(), shared.setup.flow_timeout);
    let state = shared.state();
    let Some(run) = state.runs.iter().find(|it| it.id == id && it.has_row) else {
        return missing("flow_run", &id);
    };
    let mut shown = run.json(state.flows.get(&run.flow), now, longest);
    shown["steps"] = run.steps(now, longest);
    answer(200, shown)
}

async fn cancel_runs(State(shared): App, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refusal) = allowed(&shared, &headers) {
        return refusal;
    }
    let given: Value = serde_json::from_slice(&body).unwrap_or_default();
    if given["status"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|it| it == "RUNNING")
    {
        return invalid("body/status/0 Invalid input");
    }
    let ids: Vec<_> = given["flowRunIds"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let (now, longest) = (Instant::now(), shared.setup.flow_timeout);
    let mut state = shared.state();
    for run in state.runs.iter_mut().filter(|it| ids.contains(&it.id.as_str())) {
        if run.state(now, longest) == "QUEUED" {
            let message = format!(
                "Job {} could not be removed because it is locked by another worker",
                run.id
            );
            return plain(500, None, &message);
        }
        // Says that it did, whether or not it could.
        run.cancel(now, longest);
    }
    silent(200)
}

async fn retry_run(State(shared): App, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refusal) = allowed(&shared, &headers) {
        return refusal;
    }
    let given: Value = serde_json::from_slice(&body).unwrap_or_default();
    let strategy = given["strategy"].as_str().unwrap_or_default();
    if !["FROM_FAILED_STEP", "ON_LATEST_VERSION"].contains(&strategy) {
        return invalid("body/strategy Invalid option: expected one of \"ON_LATEST_VERSION\"|\"FROM_FAILED_STEP\"");
    }
    let found = {
        let state = shared.state();
        let run = state.runs.iter().find(|it| it.id == id);
        run.and_then(|run| Some((state.flows.get(&run.flow)?.clone(), run.body.clone())))
    };
    let Some((flow, given)) = found else {
        return missing("flow_run", &id);
    };
    let again = if strategy == "FROM_FAILED_STEP" {
        id
    } else {
        runs::begin(&shared, &flow, given, false).0
    };
    answer(
        200,
        json!({ "id": again, "projectId": PROJECT, "flowId": flow.id, "status": "QUEUED", "tags": [], "steps": {},
        "flowVersionId": "VB6MUzYg3GtMPKXnYQEAo", "environment": "PRODUCTION", "parentRunId": null, "failParentOnFailure": false,
        "created": "2026-11-20T09:33:49.495Z", "updated": "2026-11-20T09:33:49.495Z" }),
    )
}

/// Nobody is asked who he is: the id of a run is all that it takes.
async fn resume_run(State(shared): App, Path((id, _request)): Path<(String, String)>) -> Response {
    let now = Instant::now();
    if let Some(run) = shared.state().runs.iter_mut().find(|it| it.id == id) {
        run.resume(now);
    }
    answer(
        200,
        json!({ "message": "Your response has been recorded. You can close this page now." }),
    )
}

async fn start(state: App, Path(id): Path<String>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    started(&state.0, &id, "", &method, &headers, body).await
}

async fn start_as(
    state: App,
    Path((id, how)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    started(&state.0, &id, &how, &method, &headers, body).await
}

async fn start_draft_sync(
    state: App,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    started(&state.0, &id, "draft/sync", &method, &headers, body).await
}

async fn started(
    shared: &Arc<Shared>,
    id: &str,
    how: &str,
    method: &Method,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let mut response = start_of(shared, id, how, method, headers, body).await;
    // Neither the run's id nor anything else that leads anywhere.
    let hook = http::HeaderValue::from_str(&shared.id()).expect("letters and digits");
    response.headers_mut().insert("x-webhook-id", hook);
    response
}

async fn start_of(
    shared: &Arc<Shared>,
    id: &str,
    how: &str,
    method: &Method,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    if !is_id(id) {
        return bad_id("flowId");
    }
    if *method == Method::POST && !headers.contains_key(header::CONTENT_TYPE) && !body.is_empty() {
        return plain(415, Some("FST_ERR_CTP_INVALID_MEDIA_TYPE"), "Unsupported Media Type");
    }
    if body.len() > LARGEST {
        return answer(413, json!({ "message": "Payload too large" }));
    }
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|it| it.as_bytes().starts_with(b"application/json"));
    let given = match serde_json::from_slice::<Value>(&body) {
        Ok(given) => given,
        Err(error) if is_json && !body.is_empty() => return plain(400, None, &error.to_string()),
        Err(_) => Value::Null,
    };
    let flow = shared.state().flows.get(id).cloned();
    let Some(flow) = flow else {
        return answer(410, json!({}));
    };
    let is_draft = how.starts_with("draft") || how == "test";
    if !is_draft && (!flow.is_enabled || flow.trigger["type"] == "EMPTY") {
        return answer(404, json!({}));
    }
    let reaction = shared
        .state()
        .behaviours
        .get(id)
        .map_or(Reaction::Takes, |it| it.reaction.clone());
    if let Reaction::Refuses(status, body) = reaction {
        return answer(status, body);
    }
    shared.state().bodies.push(given.clone());
    shared.changed.notify_waiters();
    if reaction == Reaction::Forgets {
        return answer(200, json!({}));
    }
    let (run, behaviour) = runs::begin(shared, &flow, given.clone(), how.ends_with("sync"));
    if behaviour.calls_back == CallBack::Early {
        runs::call_back(shared, &run).await;
    }
    match reaction {
        Reaction::Says(status) => return answer(status, json!({})),
        Reaction::Hangs => std::future::pending().await,
        _ => {}
    }
    if !how.ends_with("sync") {
        return answer(200, json!({}));
    }
    answered(shared, &flow, &run, &given).await
}

/// What a start that waits is answered: what a Return Response step says, or nothing after the whole timeout.
async fn answered(shared: &Arc<Shared>, flow: &Flow, run: &str, given: &Value) -> Response {
    let longest = shared.setup.flow_timeout;
    let until = Instant::now() + shared.setup.webhook_timeout;
    let responder = flow.find("@activepieces/piece-webhook", Some("return_response"));
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let state = shared.state();
        let found = state.runs.iter().find(|it| it.id == run && it.has_row);
        let has_succeeded = found.is_some_and(|it| it.state(Instant::now(), longest) == "SUCCEEDED");
        drop(state);
        if let Some(step) = responder.filter(|_| has_succeeded) {
            let fields = &step["settings"]["input"]["fields"];
            let status = fields["status"]
                .as_u64()
                .and_then(|it| u16::try_from(it).ok())
                .unwrap_or(200);
            let sum = given["a"].as_i64().unwrap_or(0) + given["b"].as_i64().unwrap_or(0);
            let cid = given["correlationId"].as_str().unwrap_or_default();
            let mut response = answer(status, json!({ "cid": cid, "sum": sum }));
            response
                .headers_mut()
                .insert("x-from-flow", http::HeaderValue::from_static("yes"));
            return response;
        }
    }
    StatusCode::NO_CONTENT.into_response()
}
