//! Finds out what works of a connection, step by step: its address, whether it answers, whether it lets us in, what it offers.
//!
//! One small request each, within seconds, through the guard. Nothing of an unsaved connection is kept; of a saved one its
//! health is noted. What a server answers is shown only as far as it lists names.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header::AUTHORIZATION};
use secrecy::ExposeSecret;
use serde_json::Value;
use service_kit::{
    auth::Caller,
    clock::{Clock, SystemClock},
    db::{self, TenantTx},
    error::Result,
    ids::ConnectionId,
    outbound::{Destination, OutboundError, Request, Response},
};

use super::{Kind, New, Open, Options, enter, not_found, store};
use crate::{
    App,
    pieces::{Account, Failure, FailureKind, Flows},
};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 2 << 20;
/// The most names that are shown, and the longest.
const MAX_OFFERS: usize = 100;
const MAX_NAME_CHARS: usize = 200;
/// The version of Anthropic's interface.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// What was found out.
#[derive(Debug, Default)]
pub(super) struct Tested {
    pub steps: Vec<Step>,
    /// Names of what the server offers.
    pub offers: Vec<String>,
}

/// A thing that was looked at.
#[derive(Debug)]
pub(super) struct Step {
    pub name: &'static str,
    pub ok: bool,
    pub message: String,
    pub took: Duration,
}

/// Tests a saved connection and notes its health.
pub(super) async fn saved(app: &App, caller: &Caller, id: ConnectionId) -> Result<Tested> {
    let access = enter(app, caller, id).await?;
    access.require_admin()?;
    let open = db::retry("connections.test", || async {
        let mut tx = TenantTx::begin(&app.pool, "connections.test", &access.claims).await?;
        Ok(store::sealed(&mut tx, access.company, id).await?)
    });
    let open = open.await?.ok_or_else(|| not_found(id))?.open(&app.keys)?;
    let tested = test(app, &open).await;
    let failed = tested.steps.iter().find(|step| !step.ok);
    app.engine
        .note_health(&open, failed.map(|step| (step.name, step.message.as_str())));
    Ok(tested)
}

/// Tests a connection that is not saved.
pub(super) async fn unsaved(app: &App, caller: &Caller, new: New) -> Result<Tested> {
    let access = app.core.check_company(caller.user, new.company).await?;
    access.require_admin()?;
    let open = Open {
        id: ConnectionId::generate(),
        company: new.company,
        name: new.settings.name,
        kind: new.kind,
        base_url: new.settings.base_url,
        options: new.settings.options,
        secret: new.secret,
        enabled: true,
        revision: 0,
    };
    Ok(test(app, &open).await)
}

async fn test(app: &App, open: &Open) -> Tested {
    let mut tested = Tested::default();
    if let Some(account) = Account::of(open) {
        tested.ask_pieces(app, &account).await;
    } else if let Some(probe) = probe(open) {
        tested.ask(app, open, &probe).await;
    }
    tested
}

/// What a kind of server is asked for.
struct Probe {
    /// Under the connection's address.
    path: &'static str,
    headers: Vec<(HeaderName, String)>,
    /// Where the answer lists what the server offers: a pointer to the list, and the key of a name.
    offers: (&'static str, &'static str),
    /// Whether any answer but a refusal will do: nothing is known of the server.
    is_any: bool,
}

fn probe(open: &Open) -> Option<Probe> {
    let secret = open.secret.as_ref().map(|it| it.value().expose_secret().to_owned());
    let bearer = secret.as_ref().map(|it| (AUTHORIZATION, format!("Bearer {it}")));
    let get = |path, offers| Probe {
        path,
        headers: bearer.clone().into_iter().collect(),
        offers,
        is_any: false,
    };
    let named = |name: &'static str| {
        secret
            .clone()
            .map(|it| (HeaderName::from_static(name), it))
            .into_iter()
            .collect::<Vec<_>>()
    };
    Some(match open.kind {
        Kind::OpenAi => get("models", ("/data", "id")),
        Kind::Azure => Probe {
            headers: named("api-key"),
            ..get("models", ("/data", "id"))
        },
        Kind::Anthropic => {
            let mut headers = named("x-api-key");
            headers.push((
                HeaderName::from_static("anthropic-version"),
                ANTHROPIC_VERSION.to_owned(),
            ));
            Probe {
                headers,
                ..get("models", ("/data", "id"))
            }
        }
        Kind::Ollama => get("api/tags", ("/models", "name")),
        Kind::Flowise => get("api/v1/chatflows", ("", "name")),
        Kind::ActivePieces => return None,
        Kind::Http => Probe {
            headers: vec![header(&open.options, &secret?)?],
            is_any: true,
            ..get("", ("", ""))
        },
    })
}

/// The header that carries an http connection's secret; nothing where its name is none.
pub(crate) fn header(options: &Options, secret: &str) -> Option<(HeaderName, String)> {
    match &options.header {
        None => Some((AUTHORIZATION, format!("Bearer {secret}"))),
        Some(name) => Some((name.parse().ok()?, secret.to_owned())),
    }
}

impl Tested {
    /// ActivePieces has a client of its own, which signs in where that is the way.
    async fn ask_pieces(&mut self, app: &App, account: &Account) {
        let clock = SystemClock;
        let begun = clock.monotonic();
        let every = Flows {
            limit: 100,
            ..Flows::default()
        };
        let found = async {
            let probe = app.pieces.probe(account).await?;
            Ok((probe, app.pieces.flows(account, &every).await?))
        };
        let found: std::result::Result<_, Failure> = found.await;
        let took = clock.monotonic().saturating_duration_since(begun);
        match found {
            Ok((probe, flows)) => {
                self.note("address", Ok("may be called".into()), Duration::ZERO);
                let message = format!("answers as ActivePieces {} ({})", probe.version, probe.edition);
                self.note("answer", Ok(message), took);
                self.note("access", Ok("lets us in".into()), Duration::ZERO);
                self.offers = flows.data.iter().map(|it| it.name().to_owned()).collect();
                self.note(
                    "content",
                    Ok(format!("offers {} flows", self.offers.len())),
                    Duration::ZERO,
                );
            }
            Err(failure) => {
                let step = match failure.kind {
                    FailureKind::Refused => "address",
                    FailureKind::Unauthorised | FailureKind::SessionExpired | FailureKind::NotFound => "access",
                    _ => "answer",
                };
                self.note(step, Err(failure.message), took);
            }
        }
    }

    async fn ask(&mut self, app: &App, open: &Open, probe: &Probe) {
        let clock = SystemClock;
        let begun = clock.monotonic();
        let (to, request) = match (destination(open, probe), request(probe)) {
            (Ok(to), Ok(request)) => (to, request),
            (Err(message), _) | (_, Err(message)) => return self.note("address", Err(message), Duration::ZERO),
        };
        let answered = app.outbound.send(&to, request).await;
        let took = clock.monotonic().saturating_duration_since(begun);
        match answered {
            Err(OutboundError::Refused(refusal)) => self.note("address", Err(refusal.to_string()), took),
            Err(error) => {
                self.note("address", Ok("may be called".into()), Duration::ZERO);
                self.note("answer", Err(error.to_string()), took);
            }
            Ok(response) => {
                self.note("address", Ok("may be called".into()), Duration::ZERO);
                self.note(
                    "answer",
                    Ok(format!("answers with HTTP {}", response.status.as_u16())),
                    took,
                );
                self.read(probe, &response);
            }
        }
    }

    fn read(&mut self, probe: &Probe, response: &Response) {
        let status = response.status;
        let access = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err("does not accept the secret".to_owned()),
            it if it.is_success() => Ok("lets us in".to_owned()),
            it if it.is_redirection() => Err("redirects elsewhere, which is not followed".to_owned()),
            it if it.is_server_error() => Err(format!("fails by itself (HTTP {})", it.as_u16())),
            _ if probe.is_any => Ok("did not refuse the secret".to_owned()),
            it => Err(format!(
                "has nothing there (HTTP {}): is the address right?",
                it.as_u16()
            )),
        };
        let lets_in = access.is_ok();
        self.note("access", access, Duration::ZERO);
        if !lets_in || probe.is_any {
            return;
        }
        let Ok(body) = serde_json::from_slice::<Value>(&response.body) else {
            return self.note("content", Err("does not answer with JSON".into()), Duration::ZERO);
        };
        let (list, name) = probe.offers;
        let names = body
            .pointer(list)
            .and_then(Value::as_array)
            .map(|list| names(list, name));
        let content = match names {
            Some(names) => {
                self.offers = names;
                Ok(format!("offers {}", self.offers.len()))
            }
            None => Err("does not list what it offers".to_owned()),
        };
        self.note("content", content, Duration::ZERO);
    }

    fn note(&mut self, name: &'static str, found: std::result::Result<String, String>, took: Duration) {
        let ok = found.is_ok();
        let message = found.unwrap_or_else(|message| message);
        self.steps.push(Step {
            name,
            ok,
            message,
            took,
        });
    }
}

fn names(list: &[Value], name: &str) -> Vec<String> {
    let names = list.iter().filter_map(|it| it.get(name)?.as_str());
    let names = names.map(|it| it.chars().filter(|it| !it.is_control()).take(MAX_NAME_CHARS).collect());
    names.take(MAX_OFFERS).collect()
}

fn destination(open: &Open, probe: &Probe) -> std::result::Result<Destination, String> {
    let endpoint = open.endpoint().transpose().map_err(|error| error.to_string())?;
    let segments: Vec<&str> = probe.path.split('/').filter(|it| !it.is_empty()).collect();
    if let Some(endpoint) = endpoint {
        return Ok(endpoint.base_url.join(&segments));
    }
    Destination::member(&open.base_url).map_err(|refusal| refusal.to_string())
}

fn request(probe: &Probe) -> std::result::Result<Request, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &probe.headers {
        let mut value = HeaderValue::from_str(value).map_err(|_| "the secret cannot be sent in a header".to_owned())?;
        value.set_sensitive(true);
        headers.insert(name.clone(), value);
    }
    Ok(Request {
        method: Method::GET,
        headers,
        body: Vec::new().into(),
        timeout: PATIENCE,
        max_response_bytes: MAX_ANSWER_BYTES,
    })
}
