//! Members' requests, over real sockets. 127.0.0.2 is allowed and stands for a public address, 127.0.0.1 for what a member must
//! not reach.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use reqwest::dns::{Addrs, Name, Resolving};

use super::*;

const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const INTERNAL: Ipv4Addr = Ipv4Addr::LOCALHOST;
const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";

/// Gives these answers one after the other, whatever it is asked for.
struct Script(Mutex<VecDeque<Vec<IpAddr>>>);

impl Resolve for Script {
    fn resolve(&self, _: Name) -> Resolving {
        let found = self.0.lock().unwrap().pop_front();
        Box::pin(async move {
            let found = found.ok_or("there is no such name")?;
            Ok(Box::new(found.into_iter().map(|it| SocketAddr::new(it, 0))) as Addrs)
        })
    }
}

/// A server at both addresses, on one port.
struct Stub {
    port: u16,
    /// How many connections came in at the address that must not be reached.
    reached: Arc<AtomicUsize>,
    _lifecycle: Lifecycle,
}

impl Stub {
    async fn start(answer: &'static str) -> Self {
        let lifecycle = Lifecycle::new();
        let reached = Arc::new(AtomicUsize::new(0));
        let public = TcpListener::bind((PUBLIC, 0)).await.unwrap();
        let port = public.local_addr().unwrap().port();
        let internal = TcpListener::bind((INTERNAL, port)).await.unwrap();
        for (listener, count) in [(public, Arc::default()), (internal, reached.clone())] {
            lifecycle.spawn("stub", async move {
                loop {
                    let (mut socket, _) = listener.accept().await.unwrap();
                    count.fetch_add(1, Ordering::SeqCst);
                    read(&mut socket).await;
                    let _ = socket.write_all(answer.as_bytes()).await;
                }
            });
        }
        Self {
            port,
            reached,
            _lifecycle: lifecycle,
        }
    }

    async fn ask(&self, outbound: &Outbound, host: &str) -> Result<Response, OutboundError> {
        let to = Destination::member(&format!("http://{host}:{}/path", self.port)).unwrap();
        outbound.send(&to, request()).await
    }

    fn was_reached(&self) -> bool {
        self.reached.load(Ordering::SeqCst) > 0
    }
}

fn request() -> Request {
    Request {
        method: Method::PUT,
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{}"),
        timeout: DEADLINE,
        max_response_bytes: 1024,
    }
}

fn outbound(allow: &[&str], answers: &[&[Ipv4Addr]]) -> Outbound {
    let config = OutboundConfig {
        allow: allow.iter().map(|it| it.parse().unwrap()).collect(),
        ..OutboundConfig::default()
    };
    let answers = answers.iter().map(|of| of.iter().map(|it| IpAddr::from(*it)).collect());
    let resolver: Arc<dyn Resolve> = Arc::new(Script(Mutex::new(answers.collect())));
    Outbound::with_resolver(&config, &resolver).unwrap()
}

fn refused(result: Result<Response, OutboundError>) -> Refusal {
    match result {
        Err(OutboundError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_the_next_time_is_refused_then() {
    let stub = Stub::start(OK).await;
    let outbound = outbound(&["127.0.0.2"], &[&[PUBLIC], &[INTERNAL]]);
    let response = stub.ask(&outbound, "rebinding.example").await.unwrap();
    assert_eq!(response.status, StatusCode::OK);
    let refusal = refused(stub.ask(&outbound, "rebinding.example").await);
    assert_eq!(refusal, Refusal::Name("rebinding.example".into()));
    assert!(!stub.was_reached());
}

#[tokio::test]
async fn of_several_addresses_the_refused_are_not_tried_even_where_the_others_fail() {
    let stub = Stub::start(OK).await;
    let both: &[_] = &[INTERNAL, PUBLIC, INTERNAL];
    let nobody: &[_] = &[INTERNAL, Ipv4Addr::new(127, 0, 0, 3), INTERNAL];
    let outbound = outbound(&["127.0.0.2", "127.0.0.3"], &[both, nobody]);
    assert!(stub.ask(&outbound, "mixed.example").await.is_ok());
    let failed = stub.ask(&outbound, "mixed.example").await;
    assert!(matches!(failed, Err(OutboundError::Connect(_))), "{failed:?}");
    assert!(!stub.was_reached());
}

#[tokio::test]
async fn a_literal_or_a_name_of_this_machine_is_refused_without_a_look_up_or_a_connection() {
    let stub = Stub::start(OK).await;
    let outbound = outbound(&[], &[]);
    for host in ["127.0.0.1", "127.1", "[::ffff:127.0.0.1]", "localhost", "x.localhost."] {
        assert!(
            matches!(refused(stub.ask(&outbound, host).await), Refusal::Host(_)),
            "{host}"
        );
    }
    assert!(!stub.was_reached());
}

#[tokio::test]
async fn a_redirect_leads_a_members_request_nowhere() {
    let away = "HTTP/1.1 307 Away\r\nlocation: http://127.0.0.1/\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let stub = Stub::start(away).await;
    let response = stub.ask(&outbound(&["127.0.0.2"], &[]), "127.0.0.2").await.unwrap();
    assert_eq!(response.status.as_u16(), 307);
    assert!(!stub.was_reached());
}

#[tokio::test]
async fn an_unknown_name_and_a_refused_one_read_alike() {
    let stub = Stub::start(OK).await;
    let outbound = outbound(&[], &[&[INTERNAL]]);
    let internal = refused(stub.ask(&outbound, "db.example").await);
    let unknown = refused(stub.ask(&outbound, "db.example").await);
    assert_eq!(internal, unknown);
    assert_eq!(internal.to_string(), "db.example has no address that can be called");
}

#[tokio::test]
async fn the_operator_opens_hosts_and_ranges_at_the_ports_that_he_names() {
    let stub = Stub::start(OK).await;
    let port = stub.port;
    for (rule, host) in [
        ("crm.example".to_owned(), "crm.example"),
        (format!("*.example:{port}"), "crm.example"),
        (format!("127.0.0.0/8:{port}"), "crm.example"),
        (format!("127.0.0.0/8:{port}"), "127.0.0.1"),
        ("localhost".to_owned(), "localhost"),
    ] {
        let outbound = outbound(&[&rule], &[&[INTERNAL]]);
        assert!(stub.ask(&outbound, host).await.is_ok(), "{rule}");
    }
    let other = if port == 1 { 2 } else { 1 };
    for rule in [
        format!("*.example:{other}"),
        format!("127.0.0.0/8:{other}"),
        "*.crm.example".into(),
    ] {
        let outbound = outbound(&[&rule], &[&[INTERNAL]]);
        refused(stub.ask(&outbound, "crm.example").await);
    }
}

#[tokio::test]
async fn a_request_is_sent_as_it_is_given_and_its_answer_is_capped() {
    let lifecycle = Lifecycle::new();
    let listener = TcpListener::bind((PUBLIC, 0)).await.unwrap();
    let to = format!("http://{}/a%20b?c=d#e", listener.local_addr().unwrap());
    let told = lifecycle.spawn("stub", async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let request = read(&mut socket).await;
        let answer = "HTTP/1.1 201 Made\r\ncontent-length: 1025\r\n\r\n";
        socket.write_all(answer.as_bytes()).await.unwrap();
        request
    });
    let mut request = request();
    request.headers = member_headers([("X-Api-Key", "k"), ("content-type", "application/json")]).unwrap();
    let outbound = outbound(&["127.0.0.2"], &[]);
    let answer = outbound.send(&Destination::member(&to).unwrap(), request).await;
    assert!(matches!(answer, Err(OutboundError::TooLarge(1024))), "{answer:?}");
    let sent = told.await.unwrap();
    assert!(sent.starts_with("PUT /a%20b?c=d HTTP/1.1\r\n"), "{sent}");
    for header in [
        "x-api-key: k\r\n",
        "content-type: application/json\r\n",
        "content-length: 2\r\n",
        "user-agent: studios/",
    ] {
        assert!(sent.contains(header), "{header}: {sent}");
    }
}
