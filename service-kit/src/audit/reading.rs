//! Reading a company's log, for its admins: pages of it, all of it as lines, and whether it is whole.
//!
//! What is read is what row level security shows to the claims of the transaction. An actor whose key is gone is shown without
//! what was encrypted with it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream, stream::BoxStream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::{PgConnection, PgPool, types::Uuid};
use time::OffsetDateTime;

use super::{
    AuditLog,
    chain::{AuditKeys, Head, Problem, Walk},
    entry::{Entry, first_id_at},
    lines::{Format, Line},
    store,
    subjects::DataKey,
};
use crate::{
    db::{Claims, TenantTx},
    error::Result,
    ids::CompanyId,
    page::Page,
};

/// How many links are read at a time.
const LINKS: i64 = 500;

/// For how long an entry may be in no chain; the sealer looks twice a second.
const SEALED_WITHIN: Duration = Duration::from_mins(1);

/// How many entries without a link are told of.
const LOOSE: i64 = 100;

/// The place in a list.
pub type Cursor = Uuid;

/// Which entries to list.
#[derive(Debug, Clone, Serialize)]
pub struct Filter {
    /// The company whose log it is.
    pub company: CompanyId,
    /// Only what this one did.
    pub actor: Option<Uuid>,
    /// Only this, like `StudioService.CreateStudio`.
    pub action: Option<String>,
    /// Only what was done to this.
    pub thing: Option<Uuid>,
    /// Not before.
    pub from: Option<OffsetDateTime>,
    /// Before.
    pub until: Option<OffsetDateTime>,
}

/// What to export.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The company whose log it is.
    pub company: CompanyId,
    /// Only what comes after this place in its chain.
    pub after: i64,
    /// What the lines look like.
    pub format: Format,
}

/// What was encrypted of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Personal {
    /// Where the client was; may be empty.
    pub address: String,
    /// What it called itself; may be empty.
    pub user_agent: String,
    /// What else is known of it.
    pub details: Map<String, Value>,
}

/// An entry as it is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What was written.
    pub entry: Entry,
    /// What was encrypted; none where the key is gone.
    pub personal: Option<Personal>,
}

/// Whether a company's log is whole.
#[derive(Debug, Clone)]
pub struct Report {
    /// How many entries are in the chain.
    pub entries: u64,
    /// The signed end; none where nothing is sealed yet.
    pub head: Option<Head>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl AuditLog {
    /// The public keys of those that sign here, the current one first.
    pub fn public_keys(&self) -> Vec<Vec<u8>> {
        AuditKeys::of(&self.keys).public().to_vec()
    }

    /// A page of a company's entries, newest first.
    pub async fn list(&self, tx: &mut PgConnection, filter: &Filter, page: &Page<Cursor>) -> Result<Vec<Shown>> {
        let entries = store::list(tx, self.schema, filter, page.after, page.limit()).await?;
        let mut keys = HashMap::new();
        self.learn_keys(tx, filter.company, &entries, &mut keys).await?;
        Ok(entries.into_iter().map(|entry| shown(entry, &keys)).collect())
    }

    /// Checks a company's whole chain.
    pub async fn verify(&self, tx: &mut PgConnection, company: CompanyId) -> Result<Report> {
        let chain = company.as_uuid();
        // What is linked after the head was read is left for the next time.
        let mut head = self.head(tx, company).await?;
        let mut until = head.as_ref().map_or(0, |it| it.seq);
        if head.is_none() && !store::links(tx, self.schema, chain, (0, i64::MAX), 1).await?.is_empty() {
            // The first links came in between, and their head with them; or it was taken away.
            head = self.head(tx, company).await?;
            until = head.as_ref().map_or(i64::MAX, |it| it.seq);
        }
        let mut walk = Walk::new();
        loop {
            let after = walk.length().1;
            let links = store::links(tx, self.schema, chain, (after, until), LINKS).await?;
            for link in &links {
                walk.step(link.seq, &link.hash, link.entry.as_ref());
            }
            if i64::try_from(links.len()).unwrap_or(i64::MAX) < LINKS {
                break;
            }
        }
        let long_ago = first_id_at(self.clock.now() - SEALED_WITHIN);
        for entry in store::loose(tx, self.schema, company, long_ago, LOOSE).await? {
            walk.loose(entry);
        }
        Ok(Report {
            entries: walk.length().0,
            problems: walk.finish(self.schema.name(), chain, head.as_ref(), &self.public_keys()),
            head,
        })
    }

    /// A company's chain after a link as lines, and at the end its head.
    pub fn export(self: Arc<Self>, pool: PgPool, claims: Claims, wanted: Wanted) -> BoxStream<'static, Result<String>> {
        let export = Export {
            log: self,
            pool,
            claims,
            company: wanted.company,
            after: wanted.after,
            format: wanted.format,
            keys: HashMap::new(),
            head: None,
            state: State::Begins,
        };
        stream::try_unfold(export, |mut export| async move {
            let lines = export.next().await?;
            Ok(lines.map(|lines| (lines, export)))
        })
        .boxed()
    }

    async fn head(&self, tx: &mut PgConnection, company: CompanyId) -> Result<Option<Head>> {
        Ok(store::heads(tx, self.schema, &[company.as_uuid()]).await?.pop())
    }

    /// Finds the keys of those who acted in these entries, where they are not known yet.
    async fn learn_keys(
        &self,
        tx: &mut PgConnection,
        company: CompanyId,
        entries: &[Entry],
        keys: &mut HashMap<Uuid, Option<DataKey>>,
    ) -> Result<()> {
        let mut unknown: Vec<_> = entries.iter().map(|it| it.actor_id).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown.retain(|it| !keys.contains_key(it));
        if unknown.is_empty() {
            return Ok(());
        }
        for (subject, sealed) in store::keys(tx, self.schema, company, &unknown).await? {
            keys.insert(subject, Some(DataKey::open(&self.keys, subject, &sealed)?));
        }
        for subject in unknown {
            keys.entry(subject).or_insert(None);
        }
        Ok(())
    }
}

/// An export under way.
struct Export {
    log: Arc<AuditLog>,
    pool: PgPool,
    claims: Claims,
    company: CompanyId,
    after: i64,
    format: Format,
    keys: HashMap<Uuid, Option<DataKey>>,
    head: Option<Head>,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Begins,
    Goes,
    Ended,
}

impl Export {
    /// The next lines, each page in a transaction of its own: what is in a chain does not change.
    async fn next(&mut self) -> Result<Option<String>> {
        if self.state == State::Ended {
            return Ok(None);
        }
        let mut lines = String::new();
        let mut tx = TenantTx::begin(&self.pool, "audit.export", &self.claims).await?;
        if self.state == State::Begins {
            self.head = self.log.head(&mut tx, self.company).await?;
            self.state = State::Goes;
            lines.push_str(self.format.header());
        }
        let until = self.head.as_ref().map_or(0, |it| it.seq);
        let chain = self.company.as_uuid();
        let links = store::links(&mut tx, self.log.schema, chain, (self.after, until), LINKS).await?;
        let is_end = links.is_empty();
        let entries: Vec<_> = links.iter().filter_map(|it| it.entry.clone()).collect();
        self.log
            .learn_keys(&mut tx, self.company, &entries, &mut self.keys)
            .await?;
        drop(tx);
        for link in links {
            self.after = link.seq;
            let line = Line::entry(link.seq, &link.hash, link.entry.map(|entry| shown(entry, &self.keys)));
            self.format.write(&mut lines, &line);
        }
        if self.after >= until || is_end {
            self.state = State::Ended;
            if let Some(head) = self.head.take() {
                self.format.write(&mut lines, &Line::Head(head));
            }
        }
        Ok(Some(lines))
    }
}

fn shown(entry: Entry, keys: &HashMap<Uuid, Option<DataKey>>) -> Shown {
    let personal = match &entry.personal {
        None => Some(Personal::default()),
        Some(sealed) => opened(&entry, sealed, keys),
    };
    Shown { entry, personal }
}

fn opened(entry: &Entry, sealed: &str, keys: &HashMap<Uuid, Option<DataKey>>) -> Option<Personal> {
    let key = keys.get(&entry.actor_id)?.as_ref()?;
    let sealed = hex::decode(sealed.strip_prefix("\\x")?).ok()?;
    serde_json::from_value(key.read(entry.id, &sealed)?).ok()
}
