//! SQL of the log. The two schemas have the same tables, so the statements are made for a schema by its name, which is ours.

use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgRow, types::Uuid};
use time::OffsetDateTime;

use super::{
    chain::Head,
    entry::{ActorKind, Entry, Outcome},
    reading::Filter,
};
use crate::{
    error::{Error, Result},
    ids::CompanyId,
};

/// Which schema's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// core-service's.
    Core,
    /// execution-service's.
    Execution,
}

impl Schema {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Execution => "execution",
        }
    }

    /// A statement about this schema, which it calls `@`.
    fn sql(self, text: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(text.replace('@', self.name()))
    }
}

const COLUMNS: &str =
    "l.id, l.company_id, l.created_at, l.actor_kind, l.actor_id, l.service, l.action, l.thing_kind, l.thing_id,
    l.outcome, l.trace_id, l.correlation_id, l.personal";

/// A data key's row.
pub(super) struct Subject {
    pub(super) sealed: Vec<u8>,
    /// Whether another transaction wrote it.
    pub(super) is_committed: bool,
}

/// A link with its entry.
pub(super) struct Linked {
    pub(super) seq: i64,
    pub(super) hash: Vec<u8>,
    /// None where it was removed.
    pub(super) entry: Option<Entry>,
}

pub(super) async fn append(tx: &mut PgConnection, schema: Schema, entry: &str) -> Result<()> {
    sqlx::query(
        schema.sql("insert into @.audit_log select * from jsonb_populate_record(null::@.audit_log, $1::jsonb)"),
    )
    .bind(entry)
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn subject(tx: &mut PgConnection, schema: Schema, subject: Uuid) -> Result<Option<Subject>> {
    let row = sqlx::query(schema.sql(
        "select sealed, xmin::text is distinct from pg_current_xact_id_if_assigned()::xid::text as is_committed
         from @.audit_subjects where subject = $1",
    ))
    .bind(subject)
    .fetch_optional(tx)
    .await?;
    let read = |row: PgRow| {
        Ok(Subject {
            sealed: row.try_get("sealed")?,
            is_committed: row.try_get("is_committed")?,
        })
    };
    row.map(read).transpose()
}

/// Says whether there was none.
pub(super) async fn add_subject(tx: &mut PgConnection, schema: Schema, subject: Uuid, sealed: &[u8]) -> Result<bool> {
    let done = sqlx::query(
        schema.sql("insert into @.audit_subjects (subject, sealed) values ($1, $2) on conflict (subject) do nothing"),
    )
    .bind(subject)
    .bind(sealed)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The sealed keys of those who acted in a company, for its admins.
pub(super) async fn keys(
    tx: &mut PgConnection,
    schema: Schema,
    company: CompanyId,
    subjects: &[Uuid],
) -> Result<Vec<(Uuid, Vec<u8>)>> {
    let rows = sqlx::query(schema.sql("select subject, sealed from @.audit_keys($1, $2)"))
        .bind(company.as_uuid())
        .bind(subjects)
        .fetch_all(tx)
        .await?;
    let read = |row: &PgRow| Ok((row.try_get("subject")?, row.try_get("sealed")?));
    rows.iter().map(read).collect()
}

/// A page of a company's entries, newest first.
pub(super) async fn list(
    tx: &mut PgConnection,
    schema: Schema,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Entry>> {
    let rows = sqlx::query(schema.sql(&format!(
        "select {COLUMNS} from @.audit_log l
         where l.company_id = $1 and ($2::uuid is null or l.actor_id = $2) and ($3::text is null or l.action = $3)
             and ($4::uuid is null or l.thing_id = $4) and ($5::uuid is null or l.id >= $5)
             and ($6::uuid is null or l.id < $6) and ($7::uuid is null or l.id < $7)
         order by l.id desc limit $8"
    )))
    .bind(filter.company.as_uuid())
    .bind(filter.actor)
    .bind(&filter.action)
    .bind(filter.thing)
    .bind(filter.from.map(super::entry::first_id_at))
    .bind(filter.until.map(super::entry::first_id_at))
    .bind(after)
    .bind(limit)
    .fetch_all(tx)
    .await?;
    rows.iter().map(entry).collect()
}

/// Links of a chain after one, with their entries.
pub(super) async fn links(
    tx: &mut PgConnection,
    schema: Schema,
    chain: Uuid,
    (after, until): (i64, i64),
    limit: i64,
) -> Result<Vec<Linked>> {
    let rows = sqlx::query(schema.sql(&format!(
        "select k.seq, k.hash, {COLUMNS} from @.audit_links k left join @.audit_log l on l.id = k.entry_id
         where k.chain = $1 and k.seq > $2 and k.seq <= $3 order by k.seq limit $4"
    )))
    .bind(chain)
    .bind(after)
    .bind(until)
    .bind(limit)
    .fetch_all(tx)
    .await?;
    let read = |row: &PgRow| {
        let id: Option<Uuid> = row.try_get("id")?;
        Ok(Linked {
            seq: row.try_get("seq")?,
            hash: row.try_get("hash")?,
            entry: id.map(|_| entry(row)).transpose()?,
        })
    };
    rows.iter().map(read).collect()
}

/// Entries of a company that are older than this and in no chain.
pub(super) async fn loose(
    tx: &mut PgConnection,
    schema: Schema,
    company: CompanyId,
    before: Uuid,
    limit: i64,
) -> Result<Vec<Uuid>> {
    let rows = sqlx::query_scalar(schema.sql(
        "select l.id from @.audit_log l
         where l.company_id = $1 and l.id < $2 and not exists (select from @.audit_links k where k.entry_id = l.id)
         order by l.id limit $3",
    ))
    .bind(company.as_uuid())
    .bind(before)
    .bind(limit)
    .fetch_all(tx)
    .await?;
    Ok(rows)
}

pub(super) async fn heads(tx: &mut PgConnection, schema: Schema, chains: &[Uuid]) -> Result<Vec<Head>> {
    let rows = sqlx::query(
        schema.sql("select chain, seq, hash, signed_at, key, signature from @.audit_heads where chain = any ($1)"),
    )
    .bind(chains)
    .fetch_all(tx)
    .await?;
    let read = |row: &PgRow| {
        Ok(Head {
            log: schema.name().to_owned(),
            chain: row.try_get("chain")?,
            seq: row.try_get("seq")?,
            hash: row.try_get("hash")?,
            signed_at: row.try_get("signed_at")?,
            key: row.try_get("key")?,
            signature: row.try_get("signature")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Whether this transaction is the sealer of the schema until it ends.
pub(super) async fn may_seal(tx: &mut PgConnection, schema: Schema) -> Result<bool> {
    let may = sqlx::query_scalar(schema.sql("select pg_try_advisory_xact_lock(hashtextextended('@.audit_log', 0))"))
        .fetch_one(tx)
        .await?;
    Ok(may)
}

/// Committed entries that have no link yet, oldest first.
pub(super) async fn pending(tx: &mut PgConnection, schema: Schema, limit: i64) -> Result<Vec<Entry>> {
    let rows = sqlx::query(schema.sql(&format!(
        "select {COLUMNS} from @.audit_pending p join @.audit_log l on l.id = p.entry_id order by p.entry_id limit $1"
    )))
    .bind(limit)
    .fetch_all(tx)
    .await?;
    rows.iter().map(entry).collect()
}

/// Links as the table takes them, column by column.
#[derive(Default)]
pub(super) struct NewLinks {
    pub(super) chain: Vec<Uuid>,
    pub(super) seq: Vec<i64>,
    pub(super) entry: Vec<Uuid>,
    pub(super) hash: Vec<Vec<u8>>,
}

pub(super) async fn add_links(tx: &mut PgConnection, schema: Schema, new: &NewLinks) -> Result<()> {
    sqlx::query(schema.sql(
        "insert into @.audit_links (chain, seq, entry_id, hash)
         select * from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::bytea[])",
    ))
    .bind(&new.chain)
    .bind(&new.seq)
    .bind(&new.entry)
    .bind(&new.hash)
    .execute(&mut *tx)
    .await?;
    sqlx::query(schema.sql("delete from @.audit_pending where entry_id = any ($1)"))
        .bind(&new.entry)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn set_heads(tx: &mut PgConnection, schema: Schema, heads: &[Head]) -> Result<()> {
    let chains: Vec<_> = heads.iter().map(|it| it.chain).collect();
    let seqs: Vec<_> = heads.iter().map(|it| it.seq).collect();
    let hashes: Vec<_> = heads.iter().map(|it| it.hash.as_slice()).collect();
    let times: Vec<_> = heads.iter().map(|it| it.signed_at).collect();
    let keys: Vec<_> = heads.iter().map(|it| it.key.as_slice()).collect();
    let signatures: Vec<_> = heads.iter().map(|it| it.signature.as_slice()).collect();
    sqlx::query(schema.sql(
        "insert into @.audit_heads as h (chain, seq, hash, signed_at, key, signature)
         select * from unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::timestamptz[], $5::bytea[], $6::bytea[])
         on conflict (chain) do update set seq = excluded.seq, hash = excluded.hash, signed_at = excluded.signed_at,
             key = excluded.key, signature = excluded.signature",
    ))
    .bind(&chains)
    .bind(&seqs)
    .bind(&hashes)
    .bind(&times)
    .bind(&keys)
    .bind(&signatures)
    .execute(tx)
    .await?;
    Ok(())
}

fn entry(row: &PgRow) -> Result<Entry> {
    let unknown = || Error::internal("an entry of the audit log cannot be read");
    let company: Option<Uuid> = row.try_get("company_id")?;
    let personal: Option<Vec<u8>> = row.try_get("personal")?;
    let at: OffsetDateTime = row.try_get("created_at")?;
    Ok(Entry {
        id: row.try_get("id")?,
        company_id: company.map(CompanyId::from),
        at,
        actor_kind: ActorKind::read(row.try_get("actor_kind")?).ok_or_else(unknown)?,
        actor_id: row.try_get("actor_id")?,
        service: row.try_get("service")?,
        action: row.try_get("action")?,
        thing_kind: row.try_get("thing_kind")?,
        thing_id: row.try_get("thing_id")?,
        outcome: Outcome::read(row.try_get("outcome")?).ok_or_else(unknown)?,
        trace_id: row.try_get("trace_id")?,
        correlation_id: row.try_get("correlation_id")?,
        personal: personal.map(|it| format!("\\x{}", hex::encode(it))),
    })
}
