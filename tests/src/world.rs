//! An installation of one test: all three services in process on port 0, over a database of its own.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use service_kit::{
    auth::OperatorTokens,
    client::ClientTls,
    clock::SystemClock,
    keys::{KeyRing, SigningKey},
    lifecycle::Lifecycle,
    telemetry::{self, TelemetryConfig},
    token::ServiceIdentity,
};
use sqlx::PgPool;
use studios_cli::{
    home::Home,
    up::{Args, Installation},
};
use tonic::{Status, transport::Channel};
use url::Url;

use crate::{call, cluster::TestCluster, tenant::Tenant};

static TRACES: OnceLock<telemetry::Guard> = OnceLock::new();

/// Longer than anything a healthy installation does takes.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A running installation.
pub struct World {
    /// The administrative URL of its database.
    pub database_url: SecretString,
    /// Its way to stop, where it runs in this process.
    pub lifecycle: Lifecycle,
    core: Channel,
    execution: Channel,
    gateway: Url,
    home: Home,
}

impl World {
    /// Starts an installation over a fresh database.
    pub async fn start() -> Self {
        let cluster = TestCluster::get().await;
        Self::over(cluster.database().await).await
    }

    /// Starts an installation over a database that has the schema.
    pub async fn over(database_url: SecretString) -> Self {
        let cluster = TestCluster::get().await;
        // Runs belong to traces as they do in production, though nobody collects them here.
        TRACES.get_or_init(|| telemetry::init("tests", &TelemetryConfig::default()));
        let lifecycle = Lifecycle::new();
        let args = Args {
            dir: cluster.home().to_owned(),
            port: 0,
            database_url: Some(database_url),
            demo: false,
            doc: None,
        };
        let started = Installation::start(&args, &lifecycle)
            .await
            .expect("the installation starts");
        Self::at(
            &started.core,
            &started.execution,
            &started.gateway,
            &started.database_url,
            lifecycle,
            &ClientTls::default(),
        )
        .await
    }

    /// An installation that runs elsewhere, in processes of its own.
    pub async fn at(
        core: &Url,
        execution: &Url,
        gateway: &Url,
        database_url: &SecretString,
        lifecycle: Lifecycle,
        tls: &ClientTls,
    ) -> Self {
        let channel = |url: &Url| tls.channel(url).expect("a base URL");
        Self {
            database_url: database_url.clone(),
            lifecycle,
            core: channel(core),
            execution: channel(execution),
            gateway: gateway.clone(),
            home: Home::open(TestCluster::get().await.home()).expect("the keys are there"),
        }
    }

    /// The same installation with its execution-service at another address.
    #[must_use]
    pub fn moved(mut self, execution: &Url) -> Self {
        self.execution = service_kit::client::channel(execution).expect("a base URL");
        self
    }

    /// The same installation with its core-service at another address.
    #[must_use]
    pub fn with_core(mut self, core: &Url) -> Self {
        self.core = service_kit::client::channel(core).expect("a base URL");
        self
    }

    /// An unary call (or the first message of a stream) at the service that the method belongs to.
    pub async fn call(&self, method: &str, body: Value, token: Option<&str>) -> Result<Value, Status> {
        call::any(self.channel(method), method, &body, token).await
    }

    /// A call that must succeed.
    pub async fn ok(&self, method: &str, body: Value, token: &str) -> Value {
        self.call(method, body, Some(token))
            .await
            .unwrap_or_else(|status| panic!("{method}: {status:?}"))
    }

    /// A call that must fail; returns how.
    pub async fn refused(&self, method: &str, body: Value, token: &str) -> Status {
        match self.call(method, body, Some(token)).await {
            Ok(answer) => panic!("{method} was answered: {answer}"),
            Err(status) => status,
        }
    }

    /// A server stream at the service that the method belongs to.
    pub async fn stream(&self, method: &str, body: Value, token: &str) -> call::Events {
        call::stream(self.channel(method), method, &body, Some(token))
            .await
            .expect("the stream opens")
    }

    /// The service's own port.
    pub fn channel(&self, method: &str) -> &Channel {
        if method.starts_with("studios.core.") {
            &self.core
        } else {
            &self.execution
        }
    }

    /// A URL below the gateway's.
    pub fn url(&self, path: &str) -> String {
        self.gateway.join(path).expect("a path").into()
    }

    /// Statements as the administrator, whom no policy hides anything from.
    pub async fn admin(&self) -> PgPool {
        PgPool::connect(self.database_url.expose_secret())
            .await
            .expect("the database answers")
    }

    /// The folder where a company's files lie, and the one of its uploads under way.
    pub fn objects(&self, company: &str) -> [PathBuf; 2] {
        ["objects", "staging"].map(|it| self.home.dir().join("objects").join(it).join(company))
    }

    /// The root key ring.
    pub fn keys(&self) -> &KeyRing {
        &self.home.keys
    }

    /// Where its mails lie.
    pub fn outbox(&self) -> PathBuf {
        self.home.dir().join("outbox")
    }

    /// A service token of execution-service, acting for a user or for nobody.
    pub fn service_token(&self, user: Option<&str>) -> String {
        let der = BASE64_STANDARD
            .decode(self.home.execution_service_key.expose_secret())
            .expect("base64");
        let key = SigningKey::from_pkcs8(&der).expect("a key");
        let identity = ServiceIdentity::new("execution-service", key, Arc::new(SystemClock));
        identity.token_for(user.map(|it| it.parse().expect("a user's id")))
    }

    /// Has a user's e-mail address count as verified.
    pub async fn verify_email(&self, user: &Tenant) {
        sqlx::query("update core.users set email_verified = true where id = $1::uuid")
            .bind(&user.user)
            .execute(&self.admin().await)
            .await
            .expect("the user is there");
    }

    /// A token of an operator called `harbour-master`.
    pub fn operator_token(&self) -> String {
        let tokens = OperatorTokens::new(self.home.keys.clone(), Arc::new(SystemClock));
        tokens.mint("harbour-master", Duration::from_mins(15))
    }

    /// Asks again until the answer satisfies the condition.
    pub async fn until(&self, method: &str, body: Value, token: &str, done: impl Fn(&Value) -> bool) -> Value {
        let asked = async {
            loop {
                let answer = self.ok(method, body.clone(), token).await;
                if done(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked)
            .await
            .unwrap_or_else(|_| panic!("{method} never satisfied the condition"))
    }

    /// Waits for an execution's end and returns it.
    pub async fn finished(&self, id: &str, token: &str) -> Value {
        let body = json!({ "id": id });
        self.until(
            "studios.execution.v1.ExecutionService/GetExecution",
            body,
            token,
            |it| !it["endTime"].is_null(),
        )
        .await
    }
}
