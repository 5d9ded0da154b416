//! The three services as processes of their own, as production runs them, over a fresh database.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use service_kit::{client::ClientTls, lifecycle::Lifecycle};
use sqlx::PgPool;
use studios_cli::{
    home::Home,
    migrate::{LOGIN_ROLES, RolePasswords},
};
use url::Url;

use crate::{cluster::TestCluster, pooler::Pooler, process::Process, world::World};

/// Three running processes.
pub struct Deployment {
    /// core-service.
    pub core: Process,
    /// execution-service; none while it is dead.
    pub execution: Option<Process>,
    /// The gateway.
    pub gateway: Process,
    /// How tests call the services themselves; plain unless it is set.
    pub tls: ClientTls,
    database_url: SecretString,
    core_settings: Vec<(&'static str, String)>,
    gateway_settings: Vec<(&'static str, String)>,
    execution_settings: Vec<(&'static str, String)>,
}

impl Deployment {
    /// Starts all three. `shared` goes to each of them, `providers` to execution-service.
    pub async fn start(shared: &[(&'static str, String)], providers: &[(&'static str, String)]) -> Self {
        let database_url = TestCluster::get().await.database().await;
        let roles = Self::roles(&database_url).await;
        Self::over(database_url, |role| roles[role].clone(), shared, providers).await
    }

    /// Starts all three over this database.
    pub async fn at(database_url: SecretString, providers: &[(&'static str, String)]) -> Self {
        let roles = Self::roles(&database_url).await;
        Self::over(database_url, |role| roles[role].clone(), &[], providers).await
    }

    /// Starts all three with a transaction pooler between the services and the database.
    pub async fn through_a_pooler() -> (Self, Pooler) {
        let database_url = TestCluster::get().await.database().await;
        let roles = Self::roles(&database_url).await;
        let pooler = Pooler::start(&roles.values().cloned().collect::<Vec<_>>()).await;
        let deployment = Self::over(database_url, |role| pooler.url(&roles[role]), &[], &[]).await;
        (deployment, pooler)
    }

    /// The URL of each login role.
    async fn roles(database_url: &SecretString) -> BTreeMap<&'static str, SecretString> {
        let home = Home::open(TestCluster::get().await.home()).expect("the keys are there");
        let passwords = RolePasswords::derive(&home.keys);
        let url = |name| passwords.url(database_url, name).expect("a login role");
        LOGIN_ROLES.into_iter().map(|name| (name, url(name))).collect()
    }

    async fn over(
        database_url: SecretString,
        url: impl Fn(&str) -> SecretString,
        shared: &[(&'static str, String)],
        providers: &[(&'static str, String)],
    ) -> Self {
        let home = Home::open(TestCluster::get().await.home()).expect("the keys are there");
        let role = |name: &str| url(name).expose_secret().to_owned();
        let any = "127.0.0.1:0".to_owned();
        let ring = home.key_ring.expose_secret().to_owned();

        let own = [
            ("STUDIOS_CORE_LISTEN", any.clone()),
            ("STUDIOS_CORE_DATABASE_URL", role("studios_core")),
            ("STUDIOS_CORE_WORKER_DATABASE_URL", role("studios_core_worker")),
            ("STUDIOS_KEY_RING", ring.clone()),
            ("STUDIOS_CORE_PEERS", home.execution_service_jwk().expect("a key")),
            ("STUDIOS_CORE_OBJECTS", home.dir().join("objects").display().to_string()),
            (
                "STUDIOS_CORE_MAIL_OUTBOX",
                home.dir().join("outbox").display().to_string(),
            ),
        ];
        let core_settings = [&own, shared].concat();
        let core = Process::start("core-service", &core_settings);
        let execution_settings = [
            &[
                ("STUDIOS_EXECUTION_LISTEN", any.clone()),
                ("STUDIOS_EXECUTION_DATABASE_URL", role("studios_execution")),
                ("STUDIOS_EXECUTION_ENGINE_DATABASE_URL", role("studios_engine")),
                ("STUDIOS_KEY_RING", ring),
                (
                    "STUDIOS_EXECUTION_SERVICE_KEY",
                    home.execution_service_key.expose_secret().to_owned(),
                ),
                ("STUDIOS_EXECUTION_CORE_URL", core.url().to_string()),
            ],
            shared,
            providers,
        ]
        .concat();
        let execution = Process::start("execution-service", &execution_settings);
        let gateway_settings = [
            ("STUDIOS_GATEWAY_LISTEN", any),
            ("STUDIOS_GATEWAY_CORE_URL", core.url().to_string()),
            ("STUDIOS_GATEWAY_EXECUTION_URL", execution.url().to_string()),
        ];
        let gateway_settings = [&gateway_settings, shared].concat();
        let gateway = Process::start("gateway", &gateway_settings);
        Self {
            core,
            execution: Some(execution),
            gateway,
            tls: ClientTls::default(),
            database_url,
            core_settings,
            gateway_settings,
            execution_settings,
        }
    }

    /// The installation as tests call it.
    pub async fn world(&self) -> World {
        self.world_with(&self.execution_url()).await
    }

    /// The installation as tests call it, with the execution-service at this address.
    pub async fn world_with(&self, execution: &Url) -> World {
        World::at(
            &self.core.url(),
            execution,
            &self.gateway.url(),
            &self.database_url,
            Lifecycle::new(),
            &self.tls,
        )
        .await
    }

    /// Kills execution-service as kill -9 does and starts it anew, at another address.
    pub fn crash_execution(&mut self) {
        if let Some(process) = self.execution.take() {
            process.kill();
        }
        self.execution = Some(Process::start("execution-service", &self.execution_settings));
    }

    /// The same, and has the dead one's lease run out, as it does by itself ten seconds later.
    pub async fn lose_execution(&mut self) {
        let lost = self.execution.take().expect("it is alive");
        let address = lost.url().authority().to_owned();
        lost.kill();
        let admin = PgPool::connect(self.database_url.expose_secret())
            .await
            .expect("the database answers");
        let ended = sqlx::query("update execution.instances set lease_until = now() where address like '%' || $1")
            .bind(address)
            .execute(&admin)
            .await
            .expect("the database answers");
        assert_eq!(ended.rows_affected(), 1, "it had a lease");
        self.execution = Some(Process::start("execution-service", &self.execution_settings));
    }

    /// Starts one more replica of core-service beside the first.
    pub fn another_core(&self) -> Process {
        Process::start("core-service", &self.core_settings)
    }

    /// Kills core-service as kill -9 does and starts it anew, at the same address.
    pub fn crash_core(&mut self) {
        let address = self.core.url().authority().to_owned();
        self.core_settings.retain(|(key, _)| *key != "STUDIOS_CORE_LISTEN");
        self.core_settings.push(("STUDIOS_CORE_LISTEN", address));
        self.core.kill_now();
        self.core = Process::start("core-service", &self.core_settings);
    }

    /// Starts one more replica of the gateway beside the first.
    pub fn another_gateway(&self) -> Process {
        Process::start("gateway", &self.gateway_settings)
    }

    /// Starts one more replica of execution-service beside the first.
    pub fn another_execution(&self) -> Process {
        Process::start("execution-service", &self.execution_settings)
    }

    /// Where execution-service is now.
    pub fn execution_url(&self) -> Url {
        self.execution.as_ref().expect("it is alive").url()
    }
}
