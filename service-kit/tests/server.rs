//! A server as its callers see it: doors, deadlines, panics, limits, grpc-web, health, reflection, and how it stops.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use service_kit::{
    auth::{AuthLayer, Caller, Door, Peer, StaticJwks, UserTokens, Verifier},
    client,
    clock::SystemClock,
    ids::{SessionId, UserId},
    keys::SigningKey,
    lifecycle::Lifecycle,
    server::{Health, Listener, Routes, ServerOptions, serve},
    token::{ServiceIdentity, USER_AUDIENCE, USER_ROLE, UserClaims},
};
use studios_proto::core::{
    AccessDecision, ApiKeyAccess, CheckApiKeyRequest, CheckCompanyRequest, CheckStudioRequest, FollowEventsRequest,
    FollowEventsResponse, ResolveIdentityRequest, ResolveIdentityResponse,
    access_service_client::AccessServiceClient,
    access_service_server::{AccessService, AccessServiceServer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
};
use tonic::{Code, Request, Response, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};
use tonic_types::StatusExt;

const SERVICE: &str = "studios.core.v1.AccessService";
const TIMEOUT: Duration = Duration::from_secs(20);

/// Answers with its caller; does what the request's id says first.
#[derive(Default)]
struct Double {
    entered: Arc<Notify>,
    release: Arc<Notify>,
}

#[tonic::async_trait]
impl AccessService for Double {
    type FollowEventsStream = tokio_stream::Empty<Result<FollowEventsResponse, Status>>;

    async fn resolve_identity(
        &self,
        _: Request<ResolveIdentityRequest>,
    ) -> Result<Response<ResolveIdentityResponse>, Status> {
        Err(Status::unimplemented("identities"))
    }

    async fn check_studio(&self, request: Request<CheckStudioRequest>) -> Result<Response<AccessDecision>, Status> {
        let caller = Caller::of(&request)?;
        match &*request.get_ref().studio_id {
            "panic" => panic!("boom"),
            "wait" => {
                self.entered.notify_one();
                self.release.notified().await;
            }
            _ => {}
        }
        let studio_name = caller.service.as_deref().unwrap_or_default().to_owned();
        Ok(Response::new(AccessDecision {
            user_id: caller.user.to_string(),
            studio_name,
            ..AccessDecision::default()
        }))
    }

    async fn check_company(&self, _: Request<CheckCompanyRequest>) -> Result<Response<AccessDecision>, Status> {
        Ok(Response::new(AccessDecision::default()))
    }

    async fn check_api_key(&self, _: Request<CheckApiKeyRequest>) -> Result<Response<ApiKeyAccess>, Status> {
        Ok(Response::new(ApiKeyAccess::default()))
    }

    async fn follow_events(
        &self,
        _: Request<FollowEventsRequest>,
    ) -> Result<Response<Self::FollowEventsStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }
}

fn door(path: &str) -> Door {
    match path {
        "/studios.core.v1.AccessService/CheckStudio" => Door::Member,
        _ => Door::Service,
    }
}

struct World {
    address: SocketAddr,
    lifecycle: Lifecycle,
    server: JoinHandle<service_kit::error::Result<()>>,
    channel: Channel,
    users: SigningKey,
    peer: ServiceIdentity,
    user: UserId,
    entered: Arc<Notify>,
    release: Arc<Notify>,
}

async fn world(options: ServerOptions) -> World {
    let lifecycle = Lifecycle::new();
    let (users, key) = (SigningKey::generate(), SigningKey::generate());
    let jwks = serde_json::json!({ "keys": [users.public_jwk()] }).to_string();
    let tokens = UserTokens {
        issuer: "studios".into(),
        audience: USER_AUDIENCE.into(),
        keys: Arc::new(StaticJwks(jwks)),
    };
    let peer = Peer {
        name: "execution-service".into(),
        key: key.public_jwk(),
    };
    let clock = Arc::new(SystemClock);
    let auth = AuthLayer::new(Arc::new(Verifier::new(tokens, [peer], clock.clone()).unwrap()), door);

    let double = Double::default();
    let (entered, release) = (double.entered.clone(), double.release.clone());
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr();
    let routes = Routes::new().with(AccessServiceServer::new(double));
    let options = ServerOptions {
        services: vec![SERVICE],
        ..options
    };
    let server = lifecycle.spawn("server", serve(listener, routes, auth, lifecycle.clone(), options));
    World {
        address,
        server,
        channel: client::channel(&format!("http://{address}").parse().unwrap()).unwrap(),
        lifecycle,
        users,
        peer: ServiceIdentity::new("execution-service", key, clock),
        user: UserId::generate(),
        entered,
        release,
    }
}

impl World {
    fn user_token(&self) -> String {
        self.users.sign(&UserClaims {
            iss: "studios".into(),
            sub: self.user,
            aud: USER_AUDIENCE.into(),
            exp: 32_503_680_000,
            iat: 0,
            session_id: Some(SessionId::generate()),
            email: None,
            role: USER_ROLE.into(),
            aal: None,
        })
    }

    fn as_user<T>(&self, message: T) -> Request<T> {
        let mut request = client::call(None, None, message, TIMEOUT);
        let token = format!("Bearer {}", self.user_token());
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        request
    }

    async fn check_studio(&self, request: Request<CheckStudioRequest>) -> Result<Response<AccessDecision>, Status> {
        AccessServiceClient::new(self.channel.clone())
            .check_studio(request)
            .await
    }

    async fn check_company(&self, request: Request<CheckCompanyRequest>) -> Result<Response<AccessDecision>, Status> {
        AccessServiceClient::new(self.channel.clone())
            .check_company(request)
            .await
    }
}

fn studio(id: &str) -> CheckStudioRequest {
    CheckStudioRequest { studio_id: id.into() }
}

fn reason(status: &Status) -> (Code, String) {
    (
        status.code(),
        status
            .get_error_details()
            .error_info()
            .map_or_else(String::new, |it| it.reason.clone()),
    )
}

#[tokio::test]
async fn a_handler_knows_who_calls_by_his_own_token_or_through_a_service() {
    let world = world(ServerOptions::default()).await;
    let own = world
        .check_studio(world.as_user(studio("any")))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((own.user_id, own.studio_name), (world.user.to_string(), String::new()));
    let request = client::call(Some(&world.peer), Some(world.user), studio("any"), TIMEOUT);
    let acting = world.check_studio(request).await.unwrap().into_inner();
    assert_eq!(
        (acting.user_id, acting.studio_name),
        (world.user.to_string(), "execution-service".into())
    );
}

#[tokio::test]
async fn who_has_not_the_token_for_a_door_is_unauthenticated() {
    let world = world(ServerOptions::default()).await;
    let missing = world
        .check_studio(client::call(None, None, studio("any"), TIMEOUT))
        .await
        .unwrap_err();
    assert_eq!(reason(&missing), (Code::Unauthenticated, "TOKEN_MISSING".into()));
    let nobody = world
        .check_studio(client::call(Some(&world.peer), None, studio("any"), TIMEOUT))
        .await
        .unwrap_err();
    assert_eq!(reason(&nobody), (Code::Unauthenticated, "USER_REQUIRED".into()));
    let user = world
        .check_company(world.as_user(CheckCompanyRequest::default()))
        .await
        .unwrap_err();
    assert_eq!(reason(&user), (Code::Unauthenticated, "SERVICE_TOKEN_REQUIRED".into()));
    let request = client::call(Some(&world.peer), None, CheckCompanyRequest::default(), TIMEOUT);
    assert!(world.check_company(request).await.is_ok());
}

#[tokio::test]
async fn an_answer_names_the_callers_correlation_id_or_one_of_its_own() {
    let world = world(ServerOptions::default()).await;
    let call = async |id: &str| {
        let mut request = Request::new(studio("any"));
        request.metadata_mut().insert("x-request-id", id.parse().unwrap());
        let status = world.check_studio(request).await.unwrap_err();
        let told = status
            .metadata()
            .get("x-request-id")
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(status.get_error_details().request_info().unwrap().request_id, told);
        told
    };
    assert_eq!(call("order-17").await, "order-17");
    for odd in ["two words", &"x".repeat(65)] {
        assert_eq!(call(odd).await.len(), 36);
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_of_its_call_alone() {
    let world = world(ServerOptions::default()).await;
    let status = world.check_studio(world.as_user(studio("panic"))).await.unwrap_err();
    assert_eq!(reason(&status), (Code::Internal, "INTERNAL".into()));
    assert!(!status.message().contains("boom"));
    assert!(world.check_studio(world.as_user(studio("any"))).await.is_ok());
    assert!(!world.lifecycle.soft().is_cancelled());
}

#[tokio::test]
async fn no_call_takes_longer_than_the_servers_cap() {
    let options = ServerOptions {
        deadline_cap: Duration::from_millis(30),
        ..ServerOptions::default()
    };
    let world = world(options).await;
    let status = world.check_studio(world.as_user(studio("wait"))).await.unwrap_err();
    assert_eq!(reason(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".into()));
}

#[tokio::test]
async fn one_call_too_many_is_told_to_come_back() {
    let world = world(ServerOptions {
        max_in_flight: 1,
        ..ServerOptions::default()
    })
    .await;
    let first = world.check_studio(world.as_user(studio("wait")));
    let second = async {
        world.entered.notified().await;
        let status = world.check_studio(world.as_user(studio("any"))).await.unwrap_err();
        world.release.notify_one();
        status
    };
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_ok());
    assert_eq!(reason(&second), (Code::Unavailable, "OVERLOADED".into()));
    assert!(second.get_error_details().retry_info().unwrap().retry_delay.is_some());
    assert!(world.check_studio(world.as_user(studio("any"))).await.is_ok());
}

#[tokio::test]
async fn browsers_speak_grpc_web_over_http_1() {
    let world = world(ServerOptions::default()).await;
    let mut socket = TcpStream::connect(world.address).await.unwrap();
    // An empty message in one frame.
    let request = format!(
        "POST /{SERVICE}/CheckStudio HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 5\r\n\
         content-type: application/grpc-web+proto\r\nauthorization: Bearer {}\r\n\r\n\0\0\0\0\0",
        world.user_token(),
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("application/grpc-web+proto"), "{answer}");
    assert!(
        answer.contains(&world.user.to_string()) && answer.contains("grpc-status:0"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_soft_stop_lets_a_call_finish_and_takes_no_other() {
    let world = world(ServerOptions::default()).await;
    let mut watched = HealthClient::new(world.channel.clone())
        .watch(HealthCheckRequest { service: String::new() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        watched.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    let stopped = async {
        world.entered.notified().await;
        world.lifecycle.soft().cancel();
        // The server has heard of it when it tells who watches, and then closes its port.
        assert_eq!(
            watched.message().await.unwrap().unwrap().status(),
            ServingStatus::NotServing
        );
        assert!(watched.message().await.unwrap().is_none());
        while TcpStream::connect(world.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        world.release.notify_one();
    };
    let (answer, ()) = tokio::join!(world.check_studio(world.as_user(studio("wait"))), stopped);
    assert!(answer.is_ok());
    world.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_hard_stop_waits_for_nobody() {
    let world = world(ServerOptions::default()).await;
    let stopped = async {
        world.entered.notified().await;
        world.lifecycle.soft().cancel();
        world.lifecycle.hard().cancel();
    };
    let mut client = AccessServiceClient::new(world.channel.clone());
    let call = client.check_studio(world.as_user(studio("wait")));
    tokio::select! {
        _ = call => panic!("nobody answers it"),
        () = stopped => world.server.await.unwrap().unwrap(),
    }
}

#[tokio::test]
async fn health_follows_its_probe_and_is_open_to_everybody() {
    let health = Health::new();
    let world = world(ServerOptions {
        health: health.clone(),
        ..ServerOptions::default()
    })
    .await;
    let (tell, told) = tokio::sync::watch::channel(true);
    health
        .follow(&world.lifecycle, vec![SERVICE], move || {
            std::future::ready(*told.borrow())
        })
        .await;
    let mut client = HealthClient::new(world.channel.clone());
    let whole = client.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(whole.status(), ServingStatus::Serving);
    let mut watched = client
        .watch(HealthCheckRequest {
            service: SERVICE.into(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        watched.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    tell.send(false).unwrap();
    while watched.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
}

#[tokio::test]
async fn reflection_lists_what_is_served_in_both_versions_where_it_is_on() {
    let on = world(ServerOptions {
        reflection: true,
        ..ServerOptions::default()
    })
    .await;
    let listed = [SERVICE, "grpc.health.v1.Health"];

    let request = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
        ..v1::ServerReflectionRequest::default()
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(on.channel.clone());
    let answer = client
        .server_reflection_info(tokio_stream::once(request.clone()))
        .await
        .unwrap();
    let answer = answer
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(answer) = answer else {
        panic!()
    };
    let mut names: Vec<_> = answer.service.iter().map(|it| &*it.name).collect();
    names.sort_unstable_by_key(|it| it.starts_with("grpc"));
    assert_eq!(names, listed);

    let old = v1alpha::ServerReflectionRequest {
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(SERVICE.into())),
        ..v1alpha::ServerReflectionRequest::default()
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(on.channel.clone());
    let answer = client.server_reflection_info(tokio_stream::once(old)).await.unwrap();
    let answer = answer
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    assert!(matches!(
        answer,
        v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)
    ));

    let off = world(ServerOptions::default()).await;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(off.channel.clone());
    let status = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}
