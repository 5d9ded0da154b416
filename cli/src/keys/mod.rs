//! The root keys of an installation: what is sealed under which, rotation to a new one, and the end of an old one.
//!
//! A new key is in the ring before anything is sealed under it, and an old one stays until nothing is. What was interrupted is
//! gone on with by running it again: while anything lies under an old key, no further key is made. Services that follow the
//! key file (those of `studios up`, and those with `key_ring_file`) need nothing; others are given the ring that has the new
//! key joined, then the one that has it first, as `deploy/README.md` says.

mod sealed;
mod store;

use std::{collections::BTreeMap, fs::File, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use service_kit::keys::{KeyId, KeyRing};
use sqlx::{Connection, PgConnection};

pub use self::sealed::{HASHED, Hashed, SEALED, Sealed};
use crate::{
    home::Home,
    output::{Output, Usage},
    postgres::{Cluster, Durability},
    up::DATABASE,
};

/// What was sealed before the key changed is committed by then: longer than any request or job takes.
const SETTLED_SECONDS: i64 = 60;

/// What is done with the root keys.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Tell the keys by their ids, the current one first, and how much is sealed under each.
    List(Place),
    /// Make a new key current, and seal everything anew under it; or finish a rotation that was interrupted.
    Rotate {
        /// Let the new key join the ring and do no more, so that services that are configured with the ring learn of it.
        #[arg(long)]
        join: bool,
        /// Make the key that has joined current, if one has, and seal anew what is left under old ones, but make no new key.
        #[arg(long, conflicts_with = "join")]
        finish: bool,
        /// Which installation.
        #[command(flatten)]
        place: Place,
    },
    /// Drop an old key, if nothing is sealed under it any more.
    Retire {
        /// The key's id.
        id: KeyId,
        /// Drop it even where keyed hashes of what nobody keeps, API keys and recovery codes, are lost with it.
        #[arg(long)]
        lose_hashes: bool,
        /// Which installation.
        #[command(flatten)]
        place: Place,
    },
}

/// Which installation.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The folder of the keys.
    #[arg(long, default_value = ".studios")]
    pub dir: PathBuf,
    /// The administrative URL of the database, where it is not the folder's private one.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<SecretString>,
    /// The ring, where it is not the folder's: everything is sealed under its first key.
    #[arg(long, env = "STUDIOS_KEY_RING", hide_env_values = true)]
    pub key_ring: Option<SecretString>,
}

/// Does what the command says.
pub async fn run(command: &Command, output: Output) -> Result<()> {
    match command {
        Command::List(place) => list(place, output).await,
        Command::Rotate { join: true, place, .. } => join(place, output),
        Command::Rotate { finish, place, .. } => rotate(*finish, place, output).await,
        Command::Retire { id, lose_hashes, place } => retire(*id, *lose_hashes, place, output).await,
    }
}

/// Where the ring is: in a folder, which can be written and is locked as long as this lives, or given.
enum Ring {
    Home(Box<Home>, File),
    Given(KeyRing),
}

impl Ring {
    fn keys(&self) -> &KeyRing {
        match self {
            Self::Home(home, _) => &home.keys,
            Self::Given(ring) => ring,
        }
    }
}

/// An installation's ring and database. A private PostgreSQL that was not running runs until this is dropped.
struct Opened {
    ring: Ring,
    database: PgConnection,
    _cluster: Option<Cluster>,
}

impl Place {
    fn ring(&self) -> Result<Ring> {
        Ok(if let Some(text) = &self.key_ring {
            Ring::Given(KeyRing::parse(text.expose_secret()).context("the key ring")?)
        } else {
            // Two who change the keys at once would lose one.
            let lock = File::open(&self.dir).with_context(|| format!("opening {}", self.dir.display()))?;
            lock.try_lock()
                .ok()
                .context("another program is at the keys of this folder")?;
            Ring::Home(Box::new(Home::existing(&self.dir)?), lock)
        })
    }

    async fn open(&self) -> Result<Opened> {
        let ring = self.ring()?;
        let (url, cluster) = match (&self.database_url, &ring) {
            (Some(url), _) => (url.clone(), None),
            (None, Ring::Home(home, _)) => private(home).await?,
            (None, Ring::Given(_)) => {
                return Err(Usage("--key-ring needs --database-url beside it".into()).into());
            }
        };
        let database = PgConnection::connect(url.expose_secret()).await;
        Ok(Opened {
            ring,
            database: database.context("connecting to the database as its administrator")?,
            _cluster: cluster,
        })
    }
}

/// The private PostgreSQL of a folder: the one that runs, or one that is started.
async fn private(home: &Home) -> Result<(SecretString, Option<Cluster>)> {
    let (dir, password) = (home.dir().to_owned(), home.superuser_password());
    let started = tokio::task::spawn_blocking(move || -> Result<_> {
        if let Some(url) = Cluster::running(&dir, &password, DATABASE)? {
            return Ok((url, None));
        }
        let cluster = Cluster::start(&dir, &password, Durability::Full)?;
        Ok((cluster.url(DATABASE), Some(cluster)))
    });
    started.await?
}

async fn list(place: &Place, output: Output) -> Result<()> {
    let mut it = place.open().await?;
    let counts = store::counts(&mut it.database).await?;
    let keys = it.ring.keys().ids();
    let joined = match &it.ring {
        Ring::Home(home, _) => home.joined(),
        Ring::Given(_) => None,
    };
    let state = |id: KeyId| match keys.iter().position(|it| *it == id) {
        Some(0) => "current",
        Some(_) if joined == Some(id) => "joined",
        Some(_) => "old",
        None => "missing",
    };
    let mut ids = keys.clone();
    for count in &counts {
        if !ids.contains(&count.key) {
            ids.push(count.key);
        }
    }
    let of = |id: KeyId, is_sealed: bool| -> BTreeMap<&str, i64> {
        let own = counts.iter().filter(|it| it.key == id && it.is_sealed == is_sealed);
        own.map(|it| (it.table, it.values)).collect()
    };
    let lines = ids.iter().map(|id| {
        let made = counts.iter().filter(|it| it.key == *id);
        let tables: Vec<String> = made.map(|it| format!("{} {}", it.table, it.values)).collect();
        let tables = if tables.is_empty() {
            "nothing".into()
        } else {
            tables.join(", ")
        };
        format!("{id}  {:<8} {tables}", state(*id))
    });
    output.result(lines.collect::<Vec<_>>().join("\n"), || {
        let keys = ids.iter().map(|id| {
            json!({ "id": id.to_string(), "state": state(*id), "sealed": of(*id, true), "hashed": of(*id, false) })
        });
        json!({ "keys": keys.collect::<Vec<_>>() })
    });
    Ok(())
}

fn join(place: &Place, output: Output) -> Result<()> {
    let Ring::Home(mut home, _lock) = place.ring()? else {
        return Err(Usage("a ring that is given cannot be joined: add a key to it where it is kept".into()).into());
    };
    let id = match home.joined() {
        Some(id) => id,
        None => home.join()?,
    };
    let text =
        format!("{id} has joined the ring; once every service has it, `studios keys rotate --finish` makes it current");
    output.result(text, || json!({ "joined": id.to_string() }));
    Ok(())
}

async fn rotate(finish: bool, place: &Place, output: Output) -> Result<()> {
    let mut it = place.open().await?;
    store::lock(&mut it.database).await?;
    let mut counts = store::counts(&mut it.database).await?;
    counts.retain(|it| it.is_sealed);
    let known = it.ring.keys().ids();
    if let Some(lost) = counts.iter().find(|it| !known.contains(&it.key)) {
        bail!(
            "{} of {} were sealed with {}, which the ring does not hold: nothing was changed",
            lost.values,
            lost.table,
            lost.key
        );
    }
    let is_interrupted = counts.iter().any(|it| it.key != known[0]);
    let made = match &mut it.ring {
        Ring::Home(home, _) if home.joined().is_some() || !(finish || is_interrupted) => {
            let id = home.rotate()?;
            output.progress(format!("{id} is current"));
            true
        }
        _ => false,
    };
    let ring = it.ring.keys().clone();
    let mut resealed = BTreeMap::new();
    for sealed in store::present(&mut it.database).await? {
        let done = store::reseal(&mut it.database, sealed, &ring, |done| {
            output.progress(format!("{}: {done} sealed anew", sealed.table));
        });
        resealed.insert(sealed.table, done.await?);
    }
    let ids = ring.ids();
    let old: Vec<String> = ids[1..].iter().map(ToString::to_string).collect();
    let sum: u64 = resealed.values().sum();
    let text = format!(
        "{sum} sealed anew under {}; old keys: {}",
        ids[0],
        if old.is_empty() { "none".into() } else { old.join(", ") }
    );
    output.result(
        text,
        || json!({ "current": ids[0].to_string(), "made": made, "resealed": resealed, "old": old }),
    );
    Ok(())
}

async fn retire(id: KeyId, lose_hashes: bool, place: &Place, output: Output) -> Result<()> {
    let mut it = place.open().await?;
    store::lock(&mut it.database).await?;
    let ids = it.ring.keys().ids();
    ensure!(ids.contains(&id), "{id} is not in the ring");
    ensure!(ids[0] != id, "{id} is the current key");
    if let Ring::Home(home, _) = &it.ring {
        let wait = SETTLED_SECONDS - home.current_for();
        ensure!(
            wait <= 0,
            "the key became current a moment ago, and what was sealed before may be under way: again in {wait} s"
        );
    }
    let mut tx = store::close(&mut it.database).await?;
    let counts = store::counts(&mut tx).await?;
    for left in counts.iter().filter(|it| it.key == id) {
        let (count, table) = (left.values, left.table);
        ensure!(
            !left.is_sealed,
            "{count} of {table} are sealed under {id}: `studios keys rotate --finish` seals them anew"
        );
        ensure!(
            lose_hashes,
            "{count} of {table} are hashed with {id}, and would count no more: --lose-hashes drops it all the same"
        );
    }
    let (text, dropped) = match &mut it.ring {
        Ring::Home(home, _) => {
            home.retire(id)?;
            (format!("{id} is dropped"), true)
        }
        Ring::Given(_) => (
            format!("nothing is sealed under {id}: it can be dropped where the ring is kept"),
            false,
        ),
    };
    // Held until here, so that nothing is sealed under it after the count.
    tx.commit().await?;
    output.result(text, || -> Value {
        json!({ "id": id.to_string(), "dropped": dropped })
    });
    Ok(())
}
