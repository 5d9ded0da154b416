//! Connections as the contract writes them.

use std::{collections::BTreeSet, num::NonZeroU32};

use prost_types::FieldMask;
use service_kit::{
    error::{Result, Violations},
    ids::ConnectionId,
    outbound::member_header,
    update,
};
use studios_proto::execution as proto;

use super::{
    Changes, Connection, Filter, Health, Kind, New, Options, Secret, Settings, Sight,
    testing::{Step, Tested},
};
use crate::{providers::BaseUrl, requests};

/// The fields that an update may change.
const CHANGEABLE: &[&str] = &["name", "base_url", "options", "secret", "enabled"];
/// The longest secret, in bytes: a header has room for it.
const MAX_SECRET_BYTES: usize = 4 << 10;
/// The longest time that a model may take to say something.
const MAX_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1000;

/// A new connection, as its company says it is.
pub(super) fn new(
    method: &'static str,
    request: &proto::CreateConnectionRequest,
) -> Result<(New, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let given = request.connection.clone().unwrap_or_default();
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    let every = CHANGEABLE.iter().copied().collect();
    let new = described(violations, &given, &every)?;
    Ok((new, key))
}

/// A connection that is only to be tested; it needs no name.
pub(super) fn unsaved(given: &proto::Connection) -> Result<New> {
    let every = CHANGEABLE.iter().copied().filter(|it| *it != "name").collect();
    described(Violations::new(), given, &every)
}

fn described(mut violations: Violations, given: &proto::Connection, paths: &BTreeSet<&str>) -> Result<New> {
    let company = violations.id("connection.company_id", &given.company_id);
    let kind = kind(given.kind);
    if kind.is_none() {
        violations.add("connection.kind", "must be said");
    }
    let said = read(&mut violations, given, paths);
    if let (Some(kind), Some(options)) = (kind, &said.options) {
        let has_secret = matches!(said.secret, Some(Some(_)));
        fits(&mut violations, kind, options, has_secret);
    }
    violations.finish()?;
    Ok(New {
        company: company.expect("a missing one is a violation"),
        kind: kind.expect("a missing one is a violation"),
        settings: Settings {
            name: said.name.unwrap_or_default(),
            base_url: said.base_url.expect("a missing one is a violation"),
            options: said.options.expect("it was read"),
            enabled: said.enabled.expect("it was read"),
        },
        secret: said.secret.flatten(),
    })
}

pub(super) fn changes(request: &proto::UpdateConnectionRequest) -> Result<(ConnectionId, String, Changes)> {
    let mut violations = Violations::new();
    let given = request.connection.clone().unwrap_or_default();
    let id = violations.id("connection.id", &given.id);
    let paths = violations.include(paths(request.update_mask.as_ref(), &given))?;
    let changes = read(&mut violations, &given, &paths.unwrap_or_default());
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), given.etag, changes))
}

/// Refuses changes that do not go with what stays.
pub(super) fn check(old: &Connection, changes: &Changes, has_secret: bool) -> Result<()> {
    let mut violations = Violations::new();
    let keeps_secret = has_secret && changes.secret.is_none();
    let moves = changes.base_url.as_ref().is_some_and(|it| *it != old.settings.base_url);
    if keeps_secret && moves {
        violations.add(
            "connection.secret",
            "must be given again for another address: what was given for one server is not sent to another",
        );
    }
    if let Some(options) = &changes.options {
        let will_have_secret = keeps_secret || matches!(changes.secret, Some(Some(_)));
        fits(&mut violations, old.kind, options, will_have_secret);
    }
    violations.finish()
}

pub(super) fn filter(request: &proto::ListConnectionsRequest) -> Result<Filter> {
    let mut violations = Violations::new();
    let company = violations.id("company_id", &request.company_id);
    let wanted = kind(request.kind);
    if wanted.is_none() && request.kind != 0 {
        violations.add("kind", "is no kind of connection");
    }
    violations.finish()?;
    Ok(Filter {
        company: company.expect("a missing one is a violation"),
        kind: wanted,
    })
}

fn kind(given: i32) -> Option<Kind> {
    use proto::ConnectionKind as Given;
    match Given::try_from(given).ok()? {
        Given::Unspecified => None,
        Given::Openai => Some(Kind::OpenAi),
        Given::Anthropic => Some(Kind::Anthropic),
        Given::Azure => Some(Kind::Azure),
        Given::Ollama => Some(Kind::Ollama),
        Given::Flowise => Some(Kind::Flowise),
        Given::Activepieces => Some(Kind::ActivePieces),
        Given::Http => Some(Kind::Http),
    }
}

impl From<Kind> for proto::ConnectionKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::OpenAi => Self::Openai,
            Kind::Anthropic => Self::Anthropic,
            Kind::Azure => Self::Azure,
            Kind::Ollama => Self::Ollama,
            Kind::Flowise => Self::Flowise,
            Kind::ActivePieces => Self::Activepieces,
            Kind::Http => Self::Http,
        }
    }
}

fn paths(mask: Option<&FieldMask>, given: &proto::Connection) -> Result<BTreeSet<&'static str>> {
    let set = [
        ("name", !given.name.is_empty()),
        ("base_url", !given.base_url.is_empty()),
        ("options", given.options.is_some()),
        ("secret", !given.secret.is_empty()),
        ("enabled", given.enabled),
    ];
    let set: Vec<_> = set
        .into_iter()
        .filter_map(|(path, is_set)| is_set.then_some(path))
        .collect();
    update::paths(mask, CHANGEABLE, &set)
}

fn read(violations: &mut Violations, given: &proto::Connection, paths: &BTreeSet<&str>) -> Changes {
    let mut changes = Changes::default();
    if paths.contains("name") {
        changes.name = violations.text("connection.name", &given.name, 1..=100);
    }
    if paths.contains("base_url") {
        match BaseUrl::member(given.base_url.trim()) {
            Ok(_) => changes.base_url = Some(given.base_url.trim().to_owned()),
            Err(error) => violations.add("connection.base_url", error.to_string()),
        }
    }
    if paths.contains("options") {
        let given = given.options.clone().unwrap_or_default();
        changes.options = Some(options(violations, &given));
    }
    if paths.contains("secret") {
        changes.secret = Some(secret(violations, &given.secret));
    }
    if paths.contains("enabled") {
        changes.enabled = Some(given.enabled);
    }
    changes
}

/// A secret goes into a header, so it has only what a header has.
fn secret(violations: &mut Violations, given: &str) -> Option<Secret> {
    let text = given.trim();
    if text.is_empty() {
        return None;
    }
    if text.len() > MAX_SECRET_BYTES {
        violations.add(
            "connection.secret",
            format!("must have at most {MAX_SECRET_BYTES} bytes"),
        );
    } else if text.chars().any(char::is_control) {
        violations.add("connection.secret", "must not contain control characters");
    }
    Some(text.to_owned().into())
}

fn options(violations: &mut Violations, given: &proto::ConnectionOptions) -> Options {
    let mut limit = |name: &str, value: i32| {
        if value < 0 {
            violations.add(format!("connection.options.{name}"), "must not be negative");
        }
        u32::try_from(value).ok().and_then(NonZeroU32::new)
    };
    let concurrency = limit("concurrency", given.concurrency);
    let requests_per_minute = limit("requests_per_minute", given.requests_per_minute);
    let tokens_per_minute = limit("tokens_per_minute", given.tokens_per_minute);
    let mut time = |name: &str, value: Option<prost_types::Duration>| {
        let value = value?;
        let ms = std::time::Duration::try_from(value).ok();
        let ms = ms.and_then(|it| u64::try_from(it.as_millis()).ok());
        let ms = ms.filter(|it| (1..=MAX_TIMEOUT_MS).contains(it));
        if ms.is_none() {
            violations.add(
                format!("connection.options.{name}"),
                "must be from a millisecond to a day",
            );
        }
        ms
    };
    let first_token_timeout_ms = time("first_token_timeout", given.first_token_timeout);
    let idle_timeout_ms = time("idle_timeout", given.idle_timeout);
    let mut text = |name: &str, value: &str, longest| {
        let text = violations.text(format!("connection.options.{name}"), value, 0..=longest);
        text.filter(|it| !it.is_empty())
    };
    let project_id = text("project_id", &given.project_id, 64);
    let email = text("email", &given.email, 320);
    let header = text("header", &given.header, 64);
    if let Some(header) = &header
        && let Err(error) = member_header(header)
    {
        violations.add("connection.options.header", error.to_string());
    }
    Options {
        concurrency,
        requests_per_minute,
        tokens_per_minute,
        first_token_timeout_ms,
        idle_timeout_ms,
        no_streaming: given.no_streaming,
        no_schemas: given.no_schemas,
        project_id,
        email,
        header,
    }
}

/// Options that go with the kind, and a secret where the kind is nothing without.
fn fits(violations: &mut Violations, kind: Kind, options: &Options, has_secret: bool) {
    for (name, fits) in options.set(kind) {
        if !fits {
            let message = format!("is not of {} connections", kind.as_str());
            violations.add(format!("connection.options.{name}"), message);
        }
    }
    let needs_secret = matches!(kind, Kind::Anthropic | Kind::Azure | Kind::ActivePieces | Kind::Http);
    if needs_secret && !has_secret {
        violations.add(
            "connection.secret",
            format!("must be given for {} connections", kind.as_str()),
        );
    }
    if kind == Kind::ActivePieces && options.email.is_none() && options.project_id.is_none() {
        violations.add(
            "connection.options.project_id",
            "must be given with an API key, which belongs to no project",
        );
    }
}

/// What somebody sees of a connection.
pub(super) fn seen(connection: Connection, sight: Sight) -> proto::Connection {
    let settings = connection.settings;
    let shown = proto::Connection {
        id: connection.id.to_string(),
        company_id: connection.company.to_string(),
        name: settings.name,
        kind: proto::ConnectionKind::from(connection.kind).into(),
        enabled: settings.enabled,
        health: Some(connection.health.unwrap_or_default().into()),
        ..Default::default()
    };
    match sight {
        Sight::Member => shown,
        Sight::Admin => proto::Connection {
            base_url: settings.base_url,
            options: Some(settings.options.into()),
            secret_hint: connection.secret_hint,
            create_time: Some(update::timestamp(connection.created_at)),
            update_time: Some(update::timestamp(connection.updated_at)),
            etag: update::etag(connection.revision),
            ..shown
        },
    }
}

impl From<Options> for proto::ConnectionOptions {
    fn from(options: Options) -> Self {
        let limit = |limit: Option<NonZeroU32>| limit.map_or(0, |it| i32::try_from(it.get()).unwrap_or(i32::MAX));
        let time = |ms: Option<u64>| ms.map(|it| update::duration(std::time::Duration::from_millis(it)));
        Self {
            concurrency: limit(options.concurrency),
            requests_per_minute: limit(options.requests_per_minute),
            tokens_per_minute: limit(options.tokens_per_minute),
            first_token_timeout: time(options.first_token_timeout_ms),
            idle_timeout: time(options.idle_timeout_ms),
            no_streaming: options.no_streaming,
            no_schemas: options.no_schemas,
            project_id: options.project_id.unwrap_or_default(),
            email: options.email.unwrap_or_default(),
            header: options.header.unwrap_or_default(),
        }
    }
}

impl From<Health> for proto::ConnectionHealth {
    fn from(health: Health) -> Self {
        use proto::connection_health::State;
        let was_used = health.last_ok_at.is_some() || health.last_error_at.is_some();
        let state = match (was_used, health.is_ok) {
            (false, _) => State::Unspecified,
            (true, true) => State::Ok,
            (true, false) => State::Failing,
        };
        Self {
            state: state.into(),
            last_ok_time: health.last_ok_at.map(update::timestamp),
            last_error_time: health.last_error_at.map(update::timestamp),
            error_class: health.error_class,
            error_reason: health.error_reason,
            error_message: health.error_message,
        }
    }
}

impl From<Tested> for proto::TestConnectionResponse {
    fn from(tested: Tested) -> Self {
        Self {
            ok: tested.steps.iter().all(|step| step.ok),
            steps: tested.steps.into_iter().map(Into::into).collect(),
            offers: tested.offers,
        }
    }
}

impl From<Step> for proto::test_connection_response::Step {
    fn from(step: Step) -> Self {
        Self {
            name: step.name.to_owned(),
            ok: step.ok,
            message: step.message,
            took_ms: i32::try_from(step.took.as_millis()).unwrap_or(i32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use service_kit::{error::Error, ids::CompanyId};

    use super::*;

    fn fields<T>(result: Result<T>) -> Vec<String> {
        match result {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|it| it.field).collect(),
            _ => panic!("not refused for its input"),
        }
    }

    fn given(kind: proto::ConnectionKind) -> proto::Connection {
        proto::Connection {
            company_id: CompanyId::generate().to_string(),
            name: "n".into(),
            kind: kind.into(),
            base_url: "https://api.example.com/v1".into(),
            secret: "key".into(),
            enabled: true,
            ..Default::default()
        }
    }

    fn made(connection: proto::Connection) -> Result<New> {
        let request = proto::CreateConnectionRequest {
            connection: Some(connection),
            request_id: String::new(),
        };
        new("m", &request).map(|(new, _)| new)
    }

    #[test]
    fn every_wrong_field_of_a_new_connection_is_named() {
        let connection = proto::Connection {
            base_url: "ftp://user:pass@host".into(),
            secret: "a\nb".into(),
            options: Some(proto::ConnectionOptions {
                concurrency: -1,
                idle_timeout: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
                header: "a b".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let wrong = [
            "connection.company_id",
            "connection.kind",
            "connection.name",
            "connection.base_url",
            "connection.options.concurrency",
            "connection.options.idle_timeout",
            "connection.options.header",
            "connection.secret",
        ];
        assert_eq!(fields(made(connection)), wrong);
    }

    #[test]
    fn options_and_secrets_go_with_the_kind() {
        use proto::ConnectionKind as Given;
        for kind in [
            Given::Openai,
            Given::Anthropic,
            Given::Azure,
            Given::Ollama,
            Given::Flowise,
            Given::Http,
        ] {
            assert!(made(given(kind)).is_ok(), "{kind:?}");
        }
        for kind in [Given::Anthropic, Given::Azure, Given::Http] {
            let without = proto::Connection {
                secret: String::new(),
                ..given(kind)
            };
            assert_eq!(fields(made(without)), ["connection.secret"], "{kind:?}");
        }
        assert_eq!(
            fields(made(given(Given::Activepieces))),
            ["connection.options.project_id"]
        );
        let other = proto::Connection {
            options: Some(proto::ConnectionOptions {
                email: "a@example.com".into(),
                header: "x-key".into(),
                tokens_per_minute: 5,
                ..Default::default()
            }),
            ..given(Given::Http)
        };
        assert_eq!(
            fields(made(other)),
            ["connection.options.tokens_per_minute", "connection.options.email"]
        );
    }

    #[test]
    fn a_secret_is_in_no_debug_output() {
        let connection = proto::Connection {
            secret: "canary-0123456789-abcd".into(),
            ..given(proto::ConnectionKind::Openai)
        };
        let new = made(connection).unwrap();
        assert_eq!(
            new.secret.as_ref().unwrap().value().expose_secret(),
            "canary-0123456789-abcd"
        );
        assert!(!format!("{new:?}").contains("canary"));
    }
}
