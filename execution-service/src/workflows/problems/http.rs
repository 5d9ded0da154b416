//! The rules of HTTP requests.

use service_kit::error::Violations;
use url::Url;

use super::{Surroundings, connections, llm::template};
use crate::engine::definition::{Http, Stage};

/// The methods that a request may have.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
/// Headers that belong to the connection and are set by who sends.
const OWN_HEADERS: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "proxy-authorization",
];
/// The most headers.
const MAX_HEADERS: usize = 50;

/// Notes the problems of a request.
pub(super) fn check(
    found: &mut Violations,
    field: &str,
    around: &Surroundings<'_>,
    place: usize,
    stage: &Stage,
    http: &Http,
) {
    let given = around.given(place);
    if !METHODS.contains(&&*http.method) {
        found.add(
            format!("{field}.method"),
            format!("must be one of {}", METHODS.join(", ")),
        );
    }
    if let Some(id) = &http.connection_id {
        connections::id(found, field, id);
    }
    url(found, &format!("{field}.url"), &http.url);
    template(found, &format!("{field}.url"), around, place, stage, &given, &http.url);
    template(
        found,
        &format!("{field}.body"),
        around,
        place,
        stage,
        &given,
        &http.body,
    );
    if http.method == "GET" && !http.body.is_empty() {
        found.add(format!("{field}.body"), "must be empty for GET");
    }
    if http.headers.len() > MAX_HEADERS {
        found.add(format!("{field}.headers"), format!("must be at most {MAX_HEADERS}"));
    }
    for (name, value) in &http.headers {
        let field = format!("{field}.headers.{name}");
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            found.add(&*field, "is no header's name");
        } else if OWN_HEADERS.contains(&&*name.to_ascii_lowercase()) {
            found.add(&*field, "is set by who sends the request");
        }
        template(found, &field, around, place, stage, &given, value);
    }
}

/// A URL begins with its scheme; where all of it is written out, it must be one. Where it leads is looked at when it is sent.
fn url(found: &mut Violations, field: &str, url: &str) {
    if !url.starts_with("https://") && !url.starts_with("http://") {
        found.add(field, "must begin with https:// or http://");
    } else if !url.contains("{{") && !url.contains("{%") && Url::parse(url).is_err() {
        found.add(field, "is no URL");
    }
}
