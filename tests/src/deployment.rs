//! The three services as processes of their own, as production runs them, over a fresh database.

use secrecy::{ExposeSecret, SecretString};
use service_kit::lifecycle::Lifecycle;
use studios_cli::{home::Home, migrate::RolePasswords};
use url::Url;

use crate::{cluster::TestCluster, process::Process, world::World};

/// Three running processes.
pub struct Deployment {
    /// core-service.
    pub core: Process,
    /// execution-service; none while it is dead.
    pub execution: Option<Process>,
    /// The gateway.
    pub gateway: Process,
    database_url: SecretString,
    execution_settings: Vec<(&'static str, String)>,
}

impl Deployment {
    /// Starts all three. `shared` goes to each of them, `providers` to execution-service.
    pub async fn start(shared: &[(&'static str, String)], providers: &[(&'static str, String)]) -> Self {
        let cluster = TestCluster::get().await;
        let home = Home::open(cluster.home()).expect("the keys are there");
        let passwords = RolePasswords::derive(&home.keys);
        let database_url = cluster.database().await;
        let role = |name: &str| {
            let url = passwords.url(&database_url, name).expect("a login role");
            url.expose_secret().to_owned()
        };
        let any = "127.0.0.1:0".to_owned();
        let ring = home.key_ring.expose_secret().to_owned();

        let core_settings = [
            ("STUDIOS_CORE_LISTEN", any.clone()),
            ("STUDIOS_CORE_DATABASE_URL", role("studios_core")),
            ("STUDIOS_CORE_WORKER_DATABASE_URL", role("studios_core_worker")),
            ("STUDIOS_KEY_RING", ring.clone()),
            ("STUDIOS_CORE_PEERS", home.execution_service_jwk().expect("a key")),
        ];
        let core = Process::start("core-service", &[&core_settings, shared].concat());
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
        let gateway = Process::start("gateway", &[&gateway_settings, shared].concat());
        Self {
            core,
            execution: Some(execution),
            gateway,
            database_url,
            execution_settings,
        }
    }

    /// The installation as tests call it.
    pub async fn world(&self) -> World {
        World::at(
            &self.core.url(),
            &self.execution_url(),
            &self.gateway.url(),
            &self.database_url,
            Lifecycle::new(),
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

    /// Starts one more replica of execution-service beside the first.
    pub fn another_execution(&self) -> Process {
        Process::start("execution-service", &self.execution_settings)
    }

    /// Where execution-service is now.
    pub fn execution_url(&self) -> Url {
        self.execution.as_ref().expect("it is alive").url()
    }
}
