//! An installation for one benchmark: a folder on a real disk, a PostgreSQL of default durability in it, and the services,
//! stubs and peers as processes. Dropping it ends the processes and removes the folder.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use tempfile::TempDir;
use url::Url;

use super::{
    cpu::Processes,
    peer::Peer,
    report::{Report, median},
};
use crate::{
    home::Home,
    migrate,
    postgres::{Cluster, Durability},
};

const PREFIX: &str = "studios-bench-";
const DATABASE: &str = "studios";
/// One user does in a benchmark what thousands do in production: his limits are counted, and never reached.
pub(super) const USER_LIMIT: (&str, &str) = ("STUDIOS_LIMITS_USER", NEVER_REACHED);
/// Likewise one company's.
pub(super) const STARTS_LIMIT: (&str, &str) = ("STUDIOS_LIMITS_STARTS", NEVER_REACHED);
/// Likewise the one address that a driver behind the gateway calls from.
pub(super) const ADDRESS_LIMIT: (&str, &str) = ("STUDIOS_LIMITS_ADDRESS", NEVER_REACHED);
const NEVER_REACHED: &str = "1000000/s burst 1000000";
/// What the stub is called as a provider.
pub(super) const PROVIDER: &str = "stub";

/// A folder, its keys and its PostgreSQL, without services.
pub(super) struct Ground {
    cluster: Cluster,
    /// The installation's keys.
    pub(super) home: Home,
    // The last to be dropped: what is in it has ended then.
    dir: TempDir,
}

impl Ground {
    /// Makes the folder and starts the server.
    pub(super) async fn make() -> Result<Self> {
        let dir = fresh_dir()?;
        let home = Home::open(dir.path())?;
        let (place, password) = (dir.path().to_owned(), home.superuser_password());
        let cluster =
            tokio::task::spawn_blocking(move || Cluster::start(&place, &password, Durability::Full)).await??;
        Ok(Self { cluster, home, dir })
    }

    /// The administrative URL of a database, which is made where it is missing.
    pub(super) async fn database(&self, name: &str) -> Result<SecretString> {
        migrate::ensure_database(&self.cluster.url("postgres"), name).await?;
        Ok(self.cluster.url(name))
    }

    /// A connection of the administrator's.
    pub(super) async fn admin(&self, database: &str) -> Result<PgConnection> {
        Ok(PgConnection::connect(self.cluster.url(database).expose_secret()).await?)
    }

    /// Where a process logs to.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(name).with_extension("log")
    }

    /// Tells the report about PostgreSQL and the disk.
    pub(super) async fn describe(&self, report: &mut Report) -> Result<()> {
        let mut admin = self.admin("postgres").await?;
        for name in [
            "server_version",
            "fsync",
            "synchronous_commit",
            "full_page_writes",
            "shared_buffers",
        ] {
            let value: String = sqlx::query_scalar(AssertSqlSafe(format!("show {name}")))
                .fetch_one(&mut admin)
                .await?;
            report.condition(format!("postgres_{name}"), value);
        }
        report.condition("file_system", file_system(self.dir.path()));
        report.limit("fdatasync_ms", fdatasync_ms(self.dir.path())?);
        Ok(())
    }
}

/// The services on a ground, and the stub where they call one.
pub(super) struct Rig {
    service: Peer,
    stub: Option<Peer>,
    /// The administrative URL of their database.
    pub(super) database_url: SecretString,
    /// What they stand on.
    pub(super) ground: Ground,
}

impl Rig {
    /// Starts everything, with these settings beside the defaults; with a stub, the model `stub` of all companies is
    /// answered by it.
    pub(super) async fn start(report: &mut Report, with_stub: bool, settings: &[(&'static str, &str)]) -> Result<Self> {
        let ground = Ground::make().await?;
        ground.describe(report).await?;
        let database_url = ground.database(DATABASE).await?;
        let mut environment = vec![
            ("DATABASE_URL", database_url.expose_secret().to_owned()),
            ("STUDIOS_LOG", "info".to_owned()),
            ("STUDIOS_LOG_FORMAT", "json".to_owned()),
        ];
        for (name, value) in settings {
            environment.push((name, (*value).to_owned()));
            report.condition(*name, *value);
        }
        let stub = if with_stub {
            let stub = Peer::start(&["bench", "stub"], &[], &ground.log("stub")).await?;
            let base_url = format!("{}v1", stub.url("url")?);
            environment.push(("STUDIOS_EXECUTION_PROVIDERS_STUB_BASE_URL", base_url));
            environment.push((
                "STUDIOS_EXECUTION_PROVIDERS_STUB_API_KEY",
                "a-key-of-no-value".to_owned(),
            ));
            Some(stub)
        } else {
            None
        };
        let dir = ground
            .dir
            .path()
            .to_str()
            .context("the folder's name is text")?
            .to_owned();
        let arguments = ["--json", "up", "--port", "0", "--dir", &dir];
        let service = Peer::start(&arguments, &environment, &ground.log("services")).await?;
        report.condition(
            "services",
            "studios up, one process; log at info as JSON to a file; no OTLP endpoint",
        );
        Ok(Self {
            service,
            stub,
            database_url,
            ground,
        })
    }

    /// Its processes.
    pub(super) async fn processes(&self) -> Result<Processes> {
        Ok(Processes {
            service: self.service.pid,
            postgres: postmaster(&mut self.admin().await?).await?,
            stub: self.stub.as_ref().map(|it| it.pid),
        })
    }

    /// A connection of the administrator's to the services' database.
    pub(super) async fn admin(&self) -> Result<PgConnection> {
        self.ground.admin(DATABASE).await
    }

    /// core-service's address.
    pub(super) fn core(&self) -> Result<Url> {
        self.service.url("core")
    }

    /// execution-service's address.
    pub(super) fn execution(&self) -> Result<Url> {
        self.service.url("execution")
    }

    /// The gateway's address.
    pub(super) fn gateway(&self) -> Result<Url> {
        self.service.url("gateway")
    }
}

/// The first process of the server that a connection leads to.
pub(super) async fn postmaster(connection: &mut PgConnection) -> Result<u32> {
    let data: String = sqlx::query_scalar("show data_directory")
        .fetch_one(&mut *connection)
        .await?;
    let file = Path::new(&data).join("postmaster.pid");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    Ok(text.lines().next().context("postmaster.pid is empty")?.parse()?)
}

/// How many transactions of this server have written something, by the transaction ids given out: exact at once, while
/// the statistics of PostgreSQL's backends come up to ten seconds late.
pub(super) async fn writing_transactions(connection: &mut PgConnection) -> Result<f64> {
    let next: i64 = sqlx::query_scalar("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        .fetch_one(connection)
        .await?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a benchmark's server makes no 2^52 transactions"
    )]
    Ok(next as f64)
}

/// Statements that return nothing.
pub(super) async fn execute(connection: &mut PgConnection, sql: impl Into<String>) -> Result<()> {
    raw_sql(AssertSqlSafe(sql.into())).execute(connection).await?;
    Ok(())
}

/// A folder that PostgreSQL's user can reach; those of processes that are gone are removed first.
pub(super) fn fresh_dir() -> Result<TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let usual = std::env::temp_dir();
    let base = if file_system(&usual) == "tmpfs" {
        PathBuf::from("/var/tmp")
    } else {
        usual
    };
    for entry in fs::read_dir(&base)?.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Somebody else may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let dir = tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-", std::process::id()))
        .permissions(fs::Permissions::from_mode(0o711))
        .tempdir_in(&base)
        .with_context(|| format!("making a folder in {}", base.display()))?;
    Ok(dir)
}

/// The kind of file system that holds a path.
pub(super) fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let holder = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(mount, _)| path.starts_with(mount))
        .max_by_key(|(mount, _)| mount.len());
    holder.map(|(_, kind)| kind.to_owned()).unwrap_or_default()
}

/// What it takes to have 8 KiB on the disk for certain, which every commit waits for.
fn fdatasync_ms(dir: &Path) -> Result<f64> {
    const TRIES: usize = 50;
    let mut file = tempfile::tempfile_in(dir)?;
    let mut taken = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let began = Instant::now();
        file.write_all(&[7; 8192])?;
        file.sync_data()?;
        taken.push(began.elapsed());
    }
    Ok(median(taken.iter().map(Duration::as_secs_f64).collect()) * 1000.0)
}
