//! The embedded installation: all three services in one process, on a private PostgreSQL or on `DATABASE_URL`.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use service_kit::lifecycle::Lifecycle;
use tokio::task::JoinHandle;
use url::Url;

use crate::{
    demo,
    home::Home,
    migrate::{self, Mode, RolePasswords},
    output::Output,
    postgres::{Cluster, Durability},
    remote::Gateway,
    templates,
};

/// The database of the private PostgreSQL.
pub(crate) const DATABASE: &str = "studios";
const GRACE: Duration = Duration::from_secs(10);
/// Whoever tries things out has their servers on this machine; a service's variable, or the one of all, says otherwise.
const LOOPBACK: &str = "127.0.0.0/8,::1";
const MAIL_OUTBOX: [&str; 2] = ["STUDIOS_CORE_MAIL_OUTBOX", "STUDIOS_MAIL_OUTBOX"];

/// How the embedded installation is started.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The folder for the keys, the private PostgreSQL, and the mails that no server takes.
    #[arg(long, default_value = ".studios")]
    pub dir: PathBuf,
    /// The gateway's port; 0 takes any free one.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// An administrative URL of a PostgreSQL (15 or newer) to use instead of a private one.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<SecretString>,
    /// Run the demo once everything serves, and stay up.
    #[arg(long)]
    pub demo: bool,
    /// The demo's document, a text or markdown file; the project's README where none is given.
    #[arg(long, requires = "demo")]
    pub doc: Option<PathBuf>,
}

/// A started installation. Dropping it stops its private PostgreSQL; `Lifecycle::shut_down` comes first.
pub struct Installation {
    /// The gateway's base URL.
    pub gateway: Url,
    /// core-service's base URL.
    pub core: Url,
    /// execution-service's base URL.
    pub execution: Url,
    /// The administrative database URL.
    pub database_url: SecretString,
    services: Vec<JoinHandle<Result<()>>>,
    _cluster: Option<Cluster>,
}

impl Installation {
    /// Starts everything and returns when it serves.
    pub async fn start(args: &Args, lifecycle: &Lifecycle) -> Result<Self> {
        let home = Home::open(&args.dir)?;
        let (cluster, database_url) = database(args, &home).await?;
        let passwords = RolePasswords::derive(&home.keys);
        let report = migrate::run(&database_url, &passwords, Mode::Apply).await?;
        tracing::info!(
            applied = report.applied.len(),
            vectors = %report.vectors.vectors,
            took_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
            "schema up to date"
        );
        let catalogue = templates::seed(&database_url).await?;
        tracing::info!(
            made = catalogue.made,
            renewed = catalogue.renewed,
            "templates up to date"
        );

        // The file, and not what is in it, so that a key that joins is seen.
        let key_file = home.key_file().display().to_string();

        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let role = |name: &str| passwords.url(&database_url, name);
        let mut core_settings = settings([
            ("listen", any.to_string()),
            ("database_url", expose(&role("studios_core")?)),
            ("worker_database_url", expose(&role("studios_core_worker")?)),
            ("key_ring_file", key_file.clone()),
            ("peers", home.execution_service_jwk()?),
            ("objects", home.dir().join("objects").display().to_string()),
        ])
        .to_vec();
        if MAIL_OUTBOX.iter().all(|name| std::env::var_os(name).is_none()) {
            let outbox = home.dir().join("outbox");
            core_settings.push(("mail_outbox".into(), outbox.to_string_lossy().into_owned()));
        }
        allow_loopback("CORE", &mut core_settings);
        let core =
            core_service::Service::bind(core_service::Config::load(None, &core_settings)?, lifecycle.clone()).await?;
        let core_url = base_url(core.scheme(), core.local_addr())?;
        let mut services = vec![spawn(lifecycle, "core-service", core.serve())];

        let mut execution_settings = settings([
            ("listen", any.to_string()),
            ("database_url", expose(&role("studios_execution")?)),
            ("engine_database_url", expose(&role("studios_engine")?)),
            ("key_ring_file", key_file.clone()),
            ("service_key", expose(&home.execution_service_key)),
            ("core_url", core_url.to_string()),
        ])
        .to_vec();
        allow_loopback("EXECUTION", &mut execution_settings);
        let execution = execution_service::Service::bind(
            execution_service::Config::load(None, &execution_settings)?,
            lifecycle.clone(),
        )
        .await?;
        let execution_url = base_url(execution.scheme(), execution.local_addr())?;

        let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port);
        let gateway = gateway::Service::bind(
            gateway::Config::load(
                None,
                &settings([
                    ("listen", listen.to_string()),
                    ("core_url", core_url.to_string()),
                    ("execution_url", execution_url.to_string()),
                ]),
            )?,
            lifecycle.clone(),
        )
        .await
        .with_context(|| format!("the gateway on {listen} (another port: --port)"))?;
        let gateway_url = base_url(gateway.scheme(), gateway.local_addr())?;
        execution.reached_at(gateway_url.clone());
        services.push(spawn(lifecycle, "execution-service", execution.serve()));
        services.push(spawn(lifecycle, "gateway", gateway.serve()));
        Ok(Self {
            gateway: gateway_url,
            core: core_url,
            execution: execution_url,
            database_url,
            services,
            _cluster: cluster,
        })
    }

    fn json(&self) -> Value {
        json!({
            "ready": true,
            "gateway": self.gateway.as_str().trim_end_matches('/'),
            "core": self.core.as_str().trim_end_matches('/'),
            "execution": self.execution.as_str().trim_end_matches('/'),
            "database_url": self.database_url.expose_secret(),
        })
    }
}

/// Starts everything, says where it is, and stays until it is told to stop.
pub async fn run(args: &Args, output: Output, lifecycle: Lifecycle) -> Result<()> {
    lifecycle.install_signals()?;
    let mut installation = tokio::select! {
        started = Installation::start(args, &lifecycle) => started?,
        () = lifecycle.soft().cancelled_owned() => return Ok(()),
    };
    if args.demo {
        let demo = demo::Args {
            gateway: Gateway::at(installation.gateway.clone()),
            doc: args.doc.clone(),
            model: "offline".into(),
        };
        let outcome = tokio::select! {
            outcome = demo::run(&demo, output) => outcome?,
            () = lifecycle.soft().cancelled_owned() => return Ok(()),
        };
        output.result(addresses(&installation, Some(&outcome)), || installation.json());
        if !outcome.completed {
            bail!("the demo's execution did not complete");
        }
    } else {
        output.result(addresses(&installation, None), || installation.json());
    }
    lifecycle.soft().cancelled_owned().await;
    output.progress("stopping");
    lifecycle.shut_down(GRACE).await;
    for service in installation.services.drain(..) {
        service.await.context("a service panicked")??;
    }
    Ok(())
}

async fn database(args: &Args, home: &Home) -> Result<(Option<Cluster>, SecretString)> {
    if let Some(url) = &args.database_url {
        return Ok((None, url.clone()));
    }
    let (dir, password) = (home.dir().to_owned(), home.superuser_password());
    let cluster = tokio::task::spawn_blocking(move || Cluster::start(&dir, &password, Durability::Full)).await??;
    let url = cluster.url(DATABASE);
    migrate::ensure_database(&cluster.url("postgres"), DATABASE).await?;
    Ok((Some(cluster), url))
}

/// Lets a service call this machine, unless the environment says what it may call.
fn allow_loopback(service: &str, settings: &mut Vec<(String, String)>) {
    let names = [
        format!("STUDIOS_{service}_OUTBOUND_ALLOW"),
        "STUDIOS_OUTBOUND_ALLOW".into(),
    ];
    if names.iter().all(|name| std::env::var_os(name).is_none()) {
        settings.push(("outbound_allow".into(), LOOPBACK.into()));
    }
}

fn settings<const N: usize>(pairs: [(&str, String); N]) -> [(String, String); N] {
    pairs.map(|(key, value)| (key.to_owned(), value))
}

/// A service's serving as a task whose failure names the service.
fn spawn<E: std::error::Error + Send + Sync + 'static>(
    lifecycle: &Lifecycle,
    name: &'static str,
    serving: impl Future<Output = Result<(), E>> + Send + 'static,
) -> JoinHandle<Result<()>> {
    lifecycle.spawn(name, async move { serving.await.context(name) })
}

fn expose(secret: &SecretString) -> String {
    secret.expose_secret().to_owned()
}

fn base_url(scheme: &str, address: SocketAddr) -> Result<Url> {
    Ok(Url::parse(&format!("{scheme}://{address}"))?)
}

fn addresses(installation: &Installation, demo: Option<&demo::Outcome>) -> String {
    let gateway = installation.gateway.as_str().trim_end_matches('/');
    let mut text = format!(
        "\ngateway        {gateway}\ncore           {}\nexecution      {}\ndatabase       {}",
        installation.core.as_str().trim_end_matches('/'),
        installation.execution.as_str().trim_end_matches('/'),
        without_password(&installation.database_url),
    );
    if let Some(demo) = demo {
        // A String takes everything.
        let _ = write!(
            text,
            "\n\nTry it (the token is the demo user's and lives ten minutes):\n\n  curl {gateway}/studios.core.v1.StudioService/ListStudios \\\n    \
             -H 'content-type: application/json' \\\n    -H 'authorization: Bearer {}' \\\n    -d '{{\"companyId\":\"{}\"}}'",
            demo.access_token, demo.company_id
        );
    }
    text.push_str("\n\nServing. Ctrl-C stops everything.");
    text
}

fn without_password(url: &SecretString) -> String {
    match Url::parse(url.expose_secret()) {
        Ok(mut url) => {
            // A URL without a host cannot carry a password either.
            let _ = url.set_password(None);
            url.into()
        }
        Err(_) => "(set)".into(),
    }
}
