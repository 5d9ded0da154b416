//! Supabase Auth's way to sign in, so that supabase-js does it against us: `/auth/v1/signup`, `/token`, `/user`, `/logout` and
//! `/recover`, as calls of core-service that any other client could make.
//!
//! Nothing is decided here, and no rule of core-service's is softened: a password or an address is changed with
//! `current_password` alone. Where core-service does not tell whether somebody has registered, this does not either.

mod convert;
mod error;

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use service_kit::limits::CLIENT_ADDRESS;
use studios_proto::core::{
    ChangeEmailRequest, ChangePasswordRequest, GetProfileRequest, RefreshRequest, RegisterRequest,
    RequestPasswordResetRequest, RevokeOtherSessionsRequest, RevokeSessionRequest, SignInRequest, UpdateProfileRequest,
    User, account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient,
    user_service_client::UserServiceClient,
};
use tonic::{Extensions, metadata::MetadataMap};
use tower::{service_fn, util::BoxCloneSyncService};

use self::error::Error;
use crate::{forward::Forwarder, headers::REQUEST_ID};

/// The path of everything here.
const ROOT: &str = "/auth/v1/";

/// The largest body: strangers send them.
const LARGEST_BYTES: usize = 64 << 10;

/// What of a caller's headers a service gets to see.
const FORWARDED: [header::HeaderName; 4] = [header::AUTHORIZATION, header::USER_AGENT, REQUEST_ID, CLIENT_ADDRESS];

type Core = BoxCloneSyncService<Request<tonic::body::Body>, http::Response<tonic::body::Body>, Infallible>;

/// Whether a path is one of these.
pub(crate) fn serves(path: &str) -> bool {
    path.starts_with(ROOT)
}

/// Refuses a request that was not let in.
pub(crate) fn refuse(refusal: service_kit::error::Error, headers: &HeaderMap) -> Response {
    Error::from(refusal).into_response(error::is_dated(headers))
}

/// What a request's body may say; what is not known is passed over, as Supabase does.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Given {
    email: String,
    password: String,
    current_password: String,
    refresh_token: String,
    code: String,
    data: Map<String, Value>,
}

/// Answers a request that was let in.
pub(crate) async fn answer(forwarder: Arc<Forwarder>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let is_dated = error::is_dated(&parts.headers);
    let caller = Caller::new(forwarder, &parts.headers);
    let path = parts.uri.path().trim_start_matches(ROOT).to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let asked = |name: &str| {
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs
            .into_iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let answered = match (&parts.method, path.as_str()) {
        (&Method::POST, "signup") => match read(body).await {
            Ok(given) => caller.sign_up(given).await,
            Err(error) => Err(error),
        },
        (&Method::POST, "token") => match (asked("grant_type").as_deref(), read(body).await) {
            (_, Err(error)) => Err(error),
            (Some("password"), Ok(given)) => caller.sign_in(given).await,
            (Some("refresh_token"), Ok(given)) => caller.refresh(given).await,
            _ => Err(Error::known(
                StatusCode::BAD_REQUEST,
                "validation_failed",
                "unsupported_grant_type",
            )),
        },
        (&Method::POST, "recover") => match read(body).await {
            Ok(given) => caller.recover(given).await,
            Err(error) => Err(error),
        },
        (&Method::GET, "user") => caller.user().await,
        (&Method::PUT, "user") => match read(body).await {
            Ok(given) => caller.change(given).await,
            Err(error) => Err(error),
        },
        (&Method::POST, "logout") => caller.sign_out(asked("scope").as_deref()).await,
        _ => Err(Error::known(StatusCode::NOT_FOUND, "not_found", "nothing is here")),
    };
    match answered {
        Ok(Some(json)) => axum::Json(json).into_response(),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(is_dated),
    }
}

async fn read(body: Body) -> Result<Given, Error> {
    let malformed = || {
        Error::known(
            StatusCode::BAD_REQUEST,
            "bad_json",
            "the body must be a JSON object of at most 64 KiB",
        )
    };
    let body = Limited::new(body, LARGEST_BYTES)
        .collect()
        .await
        .map_err(|_| malformed())?;
    serde_json::from_slice(&body.to_bytes()).map_err(|_| malformed())
}

/// Calls core-service by the way of all calls, with the caller's own headers.
struct Caller {
    core: Core,
    headers: HeaderMap,
}

type Answer = Result<Option<Value>, Error>;

impl Caller {
    fn new(forwarder: Arc<Forwarder>, given: &HeaderMap) -> Self {
        let core = service_fn(move |request| {
            let forwarder = forwarder.clone();
            async move { Ok::<_, Infallible>(forwarder.answer(request).await) }
        });
        let headers = FORWARDED
            .into_iter()
            .filter_map(|name| given.get(&name).map(|value| (name, value.clone())));
        Self {
            core: BoxCloneSyncService::new(core),
            headers: headers.collect(),
        }
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        tonic::Request::from_parts(
            MetadataMap::from_headers(self.headers.clone()),
            Extensions::new(),
            message,
        )
    }

    fn auth(&self) -> AuthServiceClient<Core> {
        AuthServiceClient::new(self.core.clone())
    }

    fn account(&self) -> AccountServiceClient<Core> {
        AccountServiceClient::new(self.core.clone())
    }

    fn users(&self) -> UserServiceClient<Core> {
        UserServiceClient::new(self.core.clone())
    }

    async fn sign_up(&self, given: Given) -> Answer {
        let request = RegisterRequest {
            full_name: convert::name(&given.data, &given.email),
            email: given.email,
            password: given.password,
        };
        let session = self.auth().register(self.request(request)).await?.into_inner();
        if session.access_token.is_empty() {
            return Ok(Some(convert::user(&session.user.unwrap_or_default())));
        }
        Ok(Some(convert::session(session)?))
    }

    async fn sign_in(&self, given: Given) -> Answer {
        let request = SignInRequest {
            email: given.email,
            password: given.password,
            code: given.code,
        };
        let session = self.auth().sign_in(self.request(request)).await?.into_inner();
        Ok(Some(convert::session(session)?))
    }

    async fn refresh(&self, given: Given) -> Answer {
        let request = RefreshRequest {
            refresh_token: given.refresh_token,
        };
        let session = self.auth().refresh(self.request(request)).await?.into_inner();
        Ok(Some(convert::session(session)?))
    }

    async fn recover(&self, given: Given) -> Answer {
        let request = RequestPasswordResetRequest { email: given.email };
        self.auth().request_password_reset(self.request(request)).await?;
        Ok(Some(json!({})))
    }

    async fn profile(&self) -> Result<User, Error> {
        let user = self.users().get_profile(self.request(GetProfileRequest {})).await?;
        Ok(user.into_inner())
    }

    async fn user(&self) -> Answer {
        Ok(Some(convert::user(&self.profile().await?)))
    }

    async fn change(&self, given: Given) -> Answer {
        // Whatever is wrong with the token comes first.
        let user = self.profile().await?;
        if !given.data.is_empty() {
            let request = UpdateProfileRequest {
                user: Some(convert::changed(&user, &given.data)),
                update_mask: None,
            };
            self.users().update_profile(self.request(request)).await?;
        }
        if !given.email.is_empty() && user.email.as_deref() != Some(&given.email) {
            let request = ChangeEmailRequest {
                password: given.current_password.clone(),
                new_email: given.email,
            };
            self.account().change_email(self.request(request)).await?;
        }
        if !given.password.is_empty() {
            let request = ChangePasswordRequest {
                current_password: given.current_password,
                new_password: given.password,
            };
            self.account().change_password(self.request(request)).await?;
        }
        self.user().await
    }

    /// `global`, the default, ends all sessions, `others` all but this one, `local` this one.
    async fn sign_out(&self, scope: Option<&str>) -> Answer {
        let scope = scope.unwrap_or("global");
        if scope != "local" {
            let request = self.request(RevokeOtherSessionsRequest {});
            self.account().revoke_other_sessions(request).await?;
        }
        if scope != "others" {
            let id = self.session().unwrap_or_default();
            let request = self.request(RevokeSessionRequest { id });
            self.account().revoke_session(request).await?;
        }
        Ok(None)
    }

    /// The session that the caller's token names. Whether the token is good is for core-service to say, and whose session it is.
    fn session(&self) -> Option<String> {
        let token = self.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        claims.get("session_id")?.as_str().map(str::to_owned)
    }
}
