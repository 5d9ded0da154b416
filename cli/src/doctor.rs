//! Whether an installation is well: each check says what it found and, where it is bad, what to do.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use service_kit::outbound::{Destination, Outbound, OutboundConfig};
use sqlx::{Connection, PgConnection};
use url::Url;

use crate::{migrate, output::Output, postgres, remote::Gateway};

const PATIENCE: Duration = Duration::from_secs(5);
const OLDEST_POSTGRES: i32 = 150_000;

/// What is looked at.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Which gateway.
    #[command(flatten)]
    pub gateway: Gateway,
    /// The administrative database URL, if its schema is to be checked too.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<SecretString>,
}

struct Finding {
    check: &'static str,
    healthy: bool,
    detail: String,
}

/// Makes every check, tells them all, and returns whether everything is well.
pub async fn run(args: &Args, output: Output) -> Result<bool> {
    let outbound = Outbound::new(&OutboundConfig {
        ca: args.gateway.ca.clone(),
        ..OutboundConfig::default()
    })?;
    let mut findings = vec![
        binaries(),
        gateway(&outbound, &args.gateway.url, "healthz", "gateway").await,
        gateway(&outbound, &args.gateway.url, "readyz", "services").await,
    ];
    if let Some(url) = &args.database_url {
        findings.extend(database(url).await);
    }
    let healthy = findings.iter().all(|finding| finding.healthy);
    let text: Vec<String> = findings
        .iter()
        .map(|it| {
            format!(
                "{} {:<11} {}",
                if it.healthy { "ok  " } else { "BAD " },
                it.check,
                it.detail
            )
        })
        .collect();
    output.result(text.join("\n"), || {
        let checks: Vec<Value> = findings
            .iter()
            .map(|it| json!({ "check": it.check, "healthy": it.healthy, "detail": it.detail }))
            .collect();
        json!({ "healthy": healthy, "checks": checks })
    });
    Ok(healthy)
}

/// A missing local PostgreSQL is no fault of an installation that uses another one.
fn binaries() -> Finding {
    let detail = match postgres::find_binaries() {
        Ok(bin) => format!("local PostgreSQL in {}", bin.display()),
        Err(_) => "no local PostgreSQL: `studios up` needs DATABASE_URL".into(),
    };
    Finding {
        check: "postgres",
        healthy: true,
        detail,
    }
}

async fn gateway(outbound: &Outbound, base: &Url, path: &str, check: &'static str) -> Finding {
    let asked = async {
        #[expect(clippy::disallowed_methods, reason = "the operator names it on his command line")]
        let to = Destination::configured(base.join(path)?);
        let response = outbound.get(&to, PATIENCE).await?;
        let said = String::from_utf8_lossy(&response.body).trim().to_owned();
        anyhow::Ok((response.status.is_success(), format!("{} {said}", response.status)))
    };
    match asked.await {
        Ok((healthy, detail)) => Finding { check, healthy, detail },
        Err(error) => Finding {
            check,
            healthy: false,
            detail: format!("{base}{path}: {error:#}"),
        },
    }
}

/// The server's version, whether the schema is the one that this program was built with, and how vectors are found, which is no
/// fault either way.
async fn database(url: &SecretString) -> Vec<Finding> {
    let asked = async {
        let mut connection = PgConnection::connect(url.expose_secret())
            .await
            .context("cannot connect")?;
        let version: String = sqlx::query_scalar("show server_version")
            .fetch_one(&mut connection)
            .await?;
        let number: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
            .fetch_one(&mut connection)
            .await?;
        ensure!(
            number >= OLDEST_POSTGRES,
            "PostgreSQL {version} is too old: 15 or newer is needed"
        );
        let missing = migrate::missing(&mut connection).await?;
        ensure!(
            missing == 0,
            "PostgreSQL {version}; {missing} migrations are missing: run `studios migrate`"
        );
        let vectors = migrate::vectors(&mut connection).await?;
        anyhow::Ok((format!("PostgreSQL {version}, schema up to date"), vectors.to_string()))
    };
    let asked = tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(anyhow!("no answer in time")));
    let finding = |check, healthy, detail| Finding { check, healthy, detail };
    match asked {
        Ok((database, vectors)) => vec![finding("database", true, database), finding("vectors", true, vectors)],
        Err(error) => vec![finding("database", false, format!("{error:#}"))],
    }
}
