//! The rules of every stage, whatever it does.

use std::time::Duration;

use service_kit::error::Violations;

use super::{Surroundings, cel, connections, fan, file, http, is_identifier, llm, people, pieces, validation};
use crate::engine::{
    definition::{Kind, MAX_RETRY_LIMIT, MAX_ROUTES, Retry, Route, Stage},
    request,
};

/// The longest first wait before a second try.
const MAX_FIRST_BACKOFF: Duration = Duration::from_hours(1);
/// The longest id of a flow, in bytes.
const MAX_FLOW_ID: usize = 100;
/// The longest wait that may grow by itself.
const MAX_BACKOFF: Duration = Duration::from_hours(24);

/// Notes the problems of the stage at a place.
pub(super) fn check(found: &mut Violations, field: &str, around: &Surroundings<'_>, place: usize, stage: &Stage) {
    if stage.retry_limit > MAX_RETRY_LIMIT {
        found.add(
            format!("{field}.retry_limit"),
            format!("must be 0 to {MAX_RETRY_LIMIT}"),
        );
    }
    if stage.timeout == Duration::ZERO || stage.timeout > stage.kind.longest_timeout() {
        let most = match stage.kind {
            Kind::Activepieces(_) => "31 days",
            _ => "1 h",
        };
        found.add(
            format!("{field}.timeout"),
            format!("must be more than nothing and at most {most}"),
        );
    }
    retry(found, &format!("{field}.retry"), &stage.retry);
    mapping(found, field, around, place, stage);
    variables(found, field, stage);
    validation::check(found, &format!("{field}.validation"), around, place, stage);
    let on_pass = ["output", "visit"];
    routes(
        found,
        &format!("{field}.routes_on_pass"),
        around,
        place,
        &on_pass,
        &stage.routes_on_pass,
    );
    let on_fail = ["output", "visit", "failure"];
    routes(
        found,
        &format!("{field}.routes_on_fail"),
        around,
        place,
        &on_fail,
        &stage.routes_on_fail,
    );
    if around.flow.is_body(place) {
        fan::body(found, field, stage);
    }
    if matches!(stage.kind, Kind::Map(_) | Kind::Wait(_) | Kind::Approval(_)) {
        fan::uncalled(found, field, stage);
    }
    let kind = format!("{field}.{}", stage.kind.name());
    match &stage.kind {
        Kind::Llm(it) => llm::check(found, &kind, around, place, stage, it),
        Kind::Retrieve(it) => llm::retrieval(found, &format!("{kind}.retrieval"), around, place, stage, it),
        Kind::Http(it) => http::check(found, &kind, around, place, stage, it),
        Kind::File(it) => file::check(found, &kind, around, place, stage, it),
        Kind::Workflow(it) => fan::workflow(found, &kind, it),
        Kind::Map(it) => fan::map(found, &kind, around, place, it),
        Kind::Wait(it) => fan::wait(found, &kind, around, place, it),
        Kind::Approval(it) => people::approval(found, &kind, around, place, stage, it),
        Kind::Activepieces(it) => {
            connections::id(found, &kind, &it.connection_id);
            pieces::check(found, &kind, stage, it);
        }
        Kind::Flowise {
            connection_id,
            flow_id,
            question,
        } => {
            connections::id(found, &kind, connection_id);
            if flow_id.is_empty() || flow_id.len() > MAX_FLOW_ID {
                found.add(format!("{kind}.flow_id"), "must be a flow's id");
            }
            let given = around.given(place);
            llm::template(
                found,
                &format!("{kind}.question"),
                around,
                place,
                stage,
                &given,
                question,
            );
            if question.trim().is_empty() {
                found.add(format!("{kind}.question"), "must not be empty");
            }
        }
    }
}

fn retry(found: &mut Violations, field: &str, retry: &Retry) {
    if retry.first_backoff.is_some_and(|it| it > MAX_FIRST_BACKOFF) {
        found.add(format!("{field}.first_backoff"), "must be at most 1 h");
    }
    if retry.max_backoff.is_some_and(|it| it > MAX_BACKOFF) {
        found.add(format!("{field}.max_backoff"), "must be at most 24 h");
    }
    if let (Some(first), Some(longest)) = (retry.first_backoff, retry.max_backoff)
        && longest < first
    {
        found.add(format!("{field}.max_backoff"), "must not be less than first_backoff");
    }
}

fn routes(
    found: &mut Violations,
    field: &str,
    around: &Surroundings<'_>,
    place: usize,
    given: &[&str],
    routes: &[Route],
) {
    if routes.len() > MAX_ROUTES {
        found.add(field, format!("must be at most {MAX_ROUTES}"));
    }
    for (i, route) in routes.iter().enumerate() {
        cel::check(found, &format!("{field}[{i}].when"), around, place, given, &route.when);
    }
}

fn mapping(found: &mut Violations, field: &str, around: &Surroundings<'_>, place: usize, stage: &Stage) {
    for (variable, path) in &stage.input_mapping {
        let field = format!("{field}.input_mapping.{variable}");
        if !is_identifier(variable) {
            found.add(
                &*field,
                "a variable's name must be letters, digits and underscores, not starting with a digit",
            );
        } else if request::is_reserved(variable) && !matches!(stage.kind, Kind::Workflow(_)) {
            found.add(&*field, "templates have something else under this name");
        }
        if let Some(problem) = around.path_problem(place, path) {
            found.add(field, problem);
        }
    }
}

fn variables(found: &mut Violations, field: &str, stage: &Stage) {
    for name in stage.output_variables.keys().filter(|it| it.is_empty()) {
        found.add(
            format!("{field}.output_variables.{name}"),
            "a variable must have a name",
        );
    }
}
