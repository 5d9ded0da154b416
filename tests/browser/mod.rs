//! A real browser: headless Chromium with @connectrpc/connect-web calls the gateway by grpc-web from another origin.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path as UrlPath, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use studios_tests::{
    deployment::Deployment,
    model::{Model, Reply},
    tenant::{Tenant, id},
    world::{PATIENCE, World},
};
use tokio::sync::mpsc;

/// How long the model of the run takes that the page starts.
const THINKING: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_calls_and_watches_through_the_gateway_by_grpc_web() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let model = Model::start(|n, _| Reply::text("fine").after(if n == 0 { PATIENCE } else { THINKING })).await;
    let origins = [("STUDIOS_GATEWAY_CORS_ORIGINS", format!("http://{address}"))];
    let deployment = Deployment::start(&origins, &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let stage = json!({ "name": "say", "llm": { "model": "stub", "prompt": "go" } });
    let workflow = it.add_workflow(&world, "Say", json!([stage])).await;
    let held = it.start(&world, &workflow, json!({})).await;
    tokio::time::timeout(PATIENCE, model.until_in_flight(1)).await.unwrap();
    let config = json!({ "gateway": world.url("").trim_end_matches('/'), "token": it.token,
        "workflow": workflow, "held": held });
    let mut site = serve(listener, config);

    let seen = site.visit(&format!("http://{address}/")).await;
    assert_eq!(seen["unary"]["email"], json!(it.email), "{seen:#}");
    assert_streamed(&seen["stream"]["events"]);
    assert_eq!(seen["abort"]["code"], "Canceled", "{seen:#}");
    assert_eq!(seen["deadline"]["code"], "DeadlineExceeded", "{seen:#}");
    assert_eq!(seen["nobody"]["code"], "Unauthenticated", "{seen:#}");
    assert_eq!(seen["details"]["code"], "InvalidArgument", "{seen:#}");
    let details = seen["details"]["details"].as_array().unwrap();
    let fields = details.iter().find(|it| it["type"] == "google.rpc.BadRequest").unwrap();
    assert!(fields["text"].as_str().unwrap().contains("company.name"), "{fields}");
    for expected in ["google.rpc.ErrorInfo", "google.rpc.RequestInfo"] {
        assert!(
            details.iter().any(|it| it["type"] == expected),
            "{expected}: {details:?}"
        );
    }

    // The same page under another name is another origin, which the gateway was not told of.
    let seen = site.visit(&format!("http://localhost:{}/", address.port())).await;
    for step in ["unary", "details", "nobody"] {
        let text = seen[step].to_string();
        assert!(text.contains("Failed to fetch"), "{step}: {seen:#}");
    }
    still_held(&world, &it, &held).await;
}

/// Events came as they happened: the stage's start while the model still thought, the end after it.
fn assert_streamed(events: &Value) {
    let at = |name: &str| {
        let found = events.as_array().unwrap().iter().find(|it| it["event"] == name);
        found.unwrap_or_else(|| panic!("no {name}: {events:#}"))["after_ms"]
            .as_f64()
            .unwrap()
    };
    let last = events.as_array().unwrap().last().unwrap();
    assert_eq!(last["event"], "statusChanged", "{events:#}");
    assert!(at("attemptRecorded") - at("stageStarted") > 500.0, "{events:#}");
}

/// Giving up a watch ends nothing but the watch.
async fn still_held(world: &World, it: &Tenant, held: &str) {
    let run = world
        .ok(
            "studios.execution.v1.ExecutionService/GetExecution",
            json!({ "id": held }),
            &it.token,
        )
        .await;
    assert_eq!(
        (id(&run).as_str(), &run["status"]),
        (held, &json!("EXECUTION_STATUS_RUNNING"))
    );
}

/// The page's own origin, and what it tells of its calls.
struct Site {
    seen: mpsc::Receiver<Value>,
}

struct Pages {
    config: Value,
    seen: mpsc::Sender<Value>,
}

fn serve(listener: tokio::net::TcpListener, config: Value) -> Site {
    let (sender, seen) = mpsc::channel(1);
    let pages = Arc::new(Pages { config, seen: sender });
    let router = Router::new()
        .route("/", get(|| async { file(&here().join("page.html")) }))
        .route("/page.js", get(|| async { file(&here().join("page.js")) }))
        .route("/contracts.binpb", get(|| async { studios_proto::FILE_DESCRIPTOR_SET }))
        .route(
            "/config.json",
            get(|State(it): State<Arc<Pages>>| async move { Json(it.config.clone()) }),
        )
        .route("/modules/{*path}", get(module))
        .route("/seen", post(tell))
        .with_state(pages);
    drop(tokio::task::spawn(async move { axum::serve(listener, router).await }));
    Site { seen }
}

async fn module(UrlPath(path): UrlPath<String>) -> Response {
    file(&here().join("node_modules").join(path))
}

async fn tell(State(pages): State<Arc<Pages>>, body: String) -> StatusCode {
    let seen = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    // The test has given up waiting.
    let _ = pages.seen.send(seen).await;
    StatusCode::NO_CONTENT
}

fn file(path: &Path) -> Response {
    let kind = match path.extension().and_then(|it| it.to_str()) {
        Some("js") => "text/javascript",
        _ => "text/html; charset=utf-8",
    };
    match std::fs::read(path) {
        Ok(bytes) => ([(CONTENT_TYPE, kind)], bytes).into_response(),
        Err(error) => (StatusCode::NOT_FOUND, format!("{}: {error}", path.display())).into_response(),
    }
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("browser")
}

impl Site {
    /// Opens the page in a fresh browser and returns what it tells.
    async fn visit(&mut self, url: &str) -> Value {
        assert!(
            here().join("node_modules").is_dir(),
            "`make setup` installs what the page imports"
        );
        let profile = tempfile::tempdir().unwrap();
        let _browser = Browser::open(url, profile.path());
        tokio::time::timeout(PATIENCE, self.seen.recv())
            .await
            .unwrap_or_else(|_| panic!("the page tells nothing:\n{}", log(profile.path())))
            .expect("the site is served")
    }
}

fn log(profile: &Path) -> String {
    std::fs::read_to_string(profile.join("stderr")).unwrap_or_default()
}

/// A running browser. Dropping it kills it.
struct Browser(Child);

impl Browser {
    fn open(url: &str, profile: &Path) -> Self {
        let stderr = std::fs::File::create(profile.join("stderr")).unwrap();
        // The kernel kills it with the thread that started it, and its children go with it: no test leaves one behind.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "chromium"])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--enable-logging=stderr",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("chromium: {error}; `make setup` installs it"));
        Self(child)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
