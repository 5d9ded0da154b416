//! SQL of users.

use futures::future::BoxFuture;
use serde_json::{Map, Value};
use service_kit::{
    error::Result,
    gather::{Answer, Owner},
    ids::UserId,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{Profile, SavedPrompt, Subscription, User};
use crate::contact::Email;

struct Row {
    id: UserId,
    email: Option<String>,
    full_name: String,
    preferences: Json<Map<String, Value>>,
    saved_prompts: Json<Vec<SavedPrompt>>,
    max_snapshots: i32,
    plan: String,
    subscription: Subscription,
    last_sign_in_at: Option<OffsetDateTime>,
    revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<Row> for User {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            email: row.email,
            profile: Profile {
                full_name: row.full_name,
                preferences: row.preferences.0,
                saved_prompts: row.saved_prompts.0,
            },
            max_snapshots: row.max_snapshots,
            plan: row.plan,
            subscription: row.subscription,
            last_sign_in_at: row.last_sign_in_at,
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

pub(crate) async fn insert(tx: &mut PgConnection, id: UserId, email: &Email, full_name: &str) -> Result<()> {
    sqlx::query!(
        "insert into core.users (id, email, full_name) values ($1, $2, $3)",
        id.as_uuid(),
        email.as_str(),
        full_name,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Holds the row until the end of the transaction, so that what is read next stays true.
pub(super) async fn lock(tx: &mut PgConnection, id: UserId) -> Result<()> {
    sqlx::query!("select from core.users where id = $1 for update", id.as_uuid())
        .execute(tx)
        .await?;
    Ok(())
}

pub(crate) async fn find(tx: &mut PgConnection, id: UserId) -> Result<Option<User>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: UserId", email, full_name, preferences as "preferences: Json<Map<String, Value>>",
                  saved_prompts as "saved_prompts: Json<Vec<SavedPrompt>>", max_snapshots, plan,
                  subscription_status as "subscription: Subscription", last_sign_in_at, revision, created_at, updated_at
           from core.users where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(User::from))
}

/// Reads profiles for many callers; see [`gather_reads`](super::gather_reads).
pub(super) fn find_each<'c>(
    connection: &'c mut PgConnection,
    claims: &'c [String],
    ids: &'c [UserId],
) -> BoxFuture<'c, sqlx::Result<Vec<Answer<User>>>> {
    Box::pin(async move {
        let ids: Vec<_> = ids.iter().map(|it| it.as_uuid()).collect();
        let rows = sqlx::query!(
            r#"select item as "item!", seen_claims as "seen_claims!", id as "id!: UserId", email,
                      full_name as "full_name!", preferences as "preferences!: Json<Map<String, Value>>",
                      saved_prompts as "saved_prompts!: Json<Vec<SavedPrompt>>", max_snapshots as "max_snapshots!",
                      plan as "plan!", subscription_status as "subscription!: Subscription", last_sign_in_at,
                      revision as "revision!", created_at as "created_at!", updated_at as "updated_at!"
               from core.get_users($1, $2)"#,
            claims,
            &ids,
        )
        .fetch_all(connection)
        .await?;
        let answers = rows.into_iter().map(|row| Answer {
            item: row.item,
            owner: Owner::Claims(row.seen_claims),
            row: User {
                id: row.id,
                email: row.email,
                profile: Profile {
                    full_name: row.full_name,
                    preferences: row.preferences.0,
                    saved_prompts: row.saved_prompts.0,
                },
                max_snapshots: row.max_snapshots,
                plan: row.plan,
                subscription: row.subscription,
                last_sign_in_at: row.last_sign_in_at,
                revision: row.revision,
                created_at: row.created_at,
                updated_at: row.updated_at,
            },
        });
        Ok(answers.collect())
    })
}

pub(super) async fn update(tx: &mut PgConnection, id: UserId, profile: &Profile) -> Result<()> {
    sqlx::query!(
        "update core.users set full_name = $2, preferences = $3, saved_prompts = $4 where id = $1",
        id.as_uuid(),
        profile.full_name,
        Json(&profile.preferences) as _,
        Json(&profile.saved_prompts) as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(crate) async fn signed_in(tx: &mut PgConnection, id: UserId, at: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "update core.users set last_sign_in_at = $2 where id = $1",
        id.as_uuid(),
        at
    )
    .execute(tx)
    .await?;
    Ok(())
}
