//! Flows and their runs as the contract writes them.

use std::time::Duration;

use service_kit::{
    error::{Result, Violations},
    ids::ConnectionId,
    update,
};
use studios_proto::execution as proto;

use super::{
    Findings, FlowSummary, Page,
    importing::{self, Imported, Wish},
    started::{Cancel, StartedRun},
};
use crate::{
    engine::definition::{FlowMode, MAX_FLOW_TIMEOUT},
    executions, requests,
    worker::CalledBack,
};

/// How many flows a page has where nothing is said.
const PAGE: u32 = 50;
/// The most flows of a page.
const MAX_PAGE: u32 = 100;

/// Which flows to list.
#[derive(Debug)]
pub(super) struct Wanted {
    pub connection: ConnectionId,
    pub name: String,
    pub status: &'static str,
    pub cursor: String,
    pub limit: u32,
}

pub(super) fn wanted(request: &proto::ListFlowsRequest) -> Result<Wanted> {
    let mut violations = Violations::new();
    let connection = violations.id("connection_id", &request.connection_id);
    let name = violations.text("name", &request.name, 0..=200);
    let cursor = violations.text("page_token", &request.page_token, 0..=2_000);
    let status = match proto::FlowStatus::try_from(request.status) {
        Ok(proto::FlowStatus::Unspecified) => "",
        Ok(proto::FlowStatus::Enabled) => "ENABLED",
        Ok(proto::FlowStatus::Disabled) => "DISABLED",
        Err(_) => {
            violations.add("status", "is no status of flows");
            ""
        }
    };
    let limit = match u32::try_from(request.page_size) {
        Ok(0) => PAGE,
        Ok(limit) => limit.min(MAX_PAGE),
        Err(_) => {
            violations.add("page_size", "must not be negative");
            PAGE
        }
    };
    violations.finish()?;
    Ok(Wanted {
        connection: connection.expect("a missing one is a violation"),
        name: name.expect("a missing one is a violation"),
        status,
        cursor: cursor.expect("a missing one is a violation"),
        limit,
    })
}

pub(super) fn listed(page: Page<FlowSummary>, asked: &str) -> proto::ListFlowsResponse {
    // A cursor that leads to itself would lead there for ever.
    let next = page.next.filter(|it| it != asked && !page.data.is_empty());
    proto::ListFlowsResponse {
        flows: page
            .data
            .iter()
            .map(|flow| proto::Flow {
                id: flow.id.clone(),
                name: flow.name().to_owned(),
                enabled: flow.is_enabled(),
                published: flow.is_published(),
                update_time: flow.updated.clone().unwrap_or_default(),
            })
            .collect(),
        next_page_token: next.unwrap_or_default(),
    }
}

pub(super) fn wish(method: &'static str, request: &proto::ImportFlowRequest) -> Result<(Wish, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let connection = violations.id("connection_id", &request.connection_id);
    let studio = violations.id("studio_id", &request.studio_id);
    if !super::is_id(&request.flow_id) {
        violations.add("flow_id", "must be 21 letters and digits");
    }
    let name = violations.text("name", &request.name, 0..=200);
    let mode = match proto::FlowMode::try_from(request.mode) {
        Ok(proto::FlowMode::Unspecified | proto::FlowMode::Asynchronous) => FlowMode::Asynchronous,
        Ok(proto::FlowMode::Synchronous) => FlowMode::Synchronous,
        Err(_) => {
            violations.add("mode", "must be asynchronous or synchronous");
            FlowMode::Asynchronous
        }
    };
    let timeout = request
        .timeout
        .as_ref()
        .map(|it| Duration::try_from(*it).unwrap_or_default());
    if timeout.is_some_and(|it| it.is_zero() || it > MAX_FLOW_TIMEOUT) {
        violations.add("timeout", "must be more than nothing and at most 31 days");
    }
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    let wish = Wish {
        connection: connection.expect("a missing one is a violation"),
        flow: request.flow_id.clone(),
        studio: studio.expect("a missing one is a violation"),
        name: name.expect("a missing one is a violation"),
        mode,
        timeout,
        validate_only: request.validate_only,
    };
    Ok((wish, key))
}

impl From<Imported> for proto::ImportFlowResponse {
    fn from(imported: Imported) -> Self {
        let Imported {
            made,
            findings,
            missing,
        } = imported;
        let version = made.as_ref().map_or(0, |(_, version)| version.summary.number);
        Self {
            workflow: made.map(|(workflow, _)| workflow.into()),
            version,
            findings: Some(found_out(findings, missing)),
        }
    }
}

fn found_out(findings: Findings, missing: Vec<String>) -> proto::FlowFindings {
    let ways = [
        (findings.calls_back, proto::FlowEndWay::Callback),
        (findings.tags_run, proto::FlowEndWay::Tag),
        (findings.answers, proto::FlowEndWay::Response),
        (true, proto::FlowEndWay::Asking),
    ];
    let warnings = importing::warnings(&findings);
    proto::FlowFindings {
        ways: ways
            .into_iter()
            .filter(|(has, _)| *has)
            .map(|(_, way)| way.into())
            .collect(),
        missing_pieces: missing,
        input_schema: findings
            .input_schema
            .as_ref()
            .and_then(|it| it.as_object())
            .map(update::json_to_struct),
        warnings,
        name: findings.name,
        enabled: findings.is_enabled,
        published: findings.is_published,
    }
}

pub(super) fn run(run: StartedRun) -> proto::FlowRun {
    let cancel = match run.cancel {
        None => proto::FlowCancel::Unspecified,
        Some(Cancel::Asked) => proto::FlowCancel::Asked,
        Some(Cancel::Done) => proto::FlowCancel::Done,
        Some(Cancel::NotPossible) => proto::FlowCancel::NotPossible,
    };
    proto::FlowRun {
        attempt: Some(executions::attempt_key(run.of)),
        connection_id: run.connection.to_string(),
        flow_id: run.flow,
        uncertain: !run.taken && run.state.is_none(),
        state: run.state.unwrap_or_default(),
        state_time: run.state_since.map(update::timestamp),
        cancel: cancel.into(),
        steps: run
            .steps
            .iter()
            .filter_map(|it| it.as_object())
            .map(update::json_to_struct)
            .collect(),
        create_time: Some(update::timestamp(run.created_at)),
        end_time: run.ended_at.map(update::timestamp),
        look_time: run.look_at.map(update::timestamp),
    }
}

pub(super) const fn called_back(result: CalledBack) -> proto::CallbackResult {
    match result {
        CalledBack::Noted => proto::CallbackResult::Noted,
        CalledBack::Repeated => proto::CallbackResult::Repeated,
        CalledBack::Unknown => proto::CallbackResult::Unknown,
        CalledBack::Mismatch => proto::CallbackResult::Mismatch,
    }
}
