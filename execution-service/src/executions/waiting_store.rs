//! SQL of what waits for people, over all studios of a company.

use service_kit::{
    error::{Error, Result},
    ids::{ExecutionId, StudioId, UserId},
};
use sqlx::PgConnection;

use super::waiting::{Ask, Cursor, Filter, Place};
use crate::engine::{definition::Rank, journal::StageTry, waiting::About};

/// What waits after a place, longest waiting first: without what is in these studios, and, unless all is wanted, without what the
/// caller, who has this rank, may not decide.
pub(super) async fn list(
    tx: &mut PgConnection,
    filter: &Filter,
    rank: Rank,
    after: Option<&Cursor>,
    hidden: &[StudioId],
    limit: i64,
) -> Result<Vec<Place>> {
    let hidden: Vec<_> = hidden.iter().map(|it| it.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"select execution_id as "execution_id: ExecutionId", studio_id as "studio_id: StudioId", stage, visit, item, attempt, about,
               question, users as "users: Vec<UserId>", rank, not_users as "not_users: Vec<UserId>", required, approved, since,
               expires_at, escalated
           from execution.waiting
           where company_id = $1 and ($2::uuid is null or studio_id = $2) and studio_id <> all($3)
               and ($4::timestamptz is null or (since, execution_id, stage, item) > ($4, $5, $6, $7))
               and ($8 or (rank = 'member' or rank = 'admin' and $9 or (select execution.caller_id()) = any(users))
                   and (select execution.caller_id()) <> all(not_users))
           order by since, execution_id, stage, item
           limit $10"#,
        filter.company.as_uuid(),
        filter.studio.map(StudioId::as_uuid),
        &hidden,
        after.map(|it| it.since),
        after.map(|it| it.execution.as_uuid()),
        after.map(|it| it.stage.as_str()),
        after.map(|it| it.item),
        filter.all,
        rank == Rank::Admin,
        limit,
    )
    .fetch_all(tx)
    .await?;
    let places = rows.into_iter().map(|row| {
        Ok(Place {
            execution: row.execution_id,
            studio: row.studio_id,
            ask: Ask {
                of: StageTry {
                    stage: row.stage,
                    visit: row.visit.unsigned_abs(),
                    item: row.item.unsigned_abs(),
                    attempt: row.attempt.unsigned_abs(),
                },
                about: about(&row.about)?,
                question: row.question,
                users: row.users,
                rank: match row.rank.as_deref() {
                    Some("admin") => Some(Rank::Admin),
                    Some(_) => Some(Rank::Member),
                    None => None,
                },
                not_users: row.not_users,
                required: row.required,
                approved: row.approved,
                since: row.since,
                expires_at: row.expires_at,
                escalated: row.escalated,
                may_decide: false,
            },
        })
    });
    places.collect()
}

fn about(text: &str) -> Result<About> {
    match text {
        "output" => Ok(About::Output),
        "question" => Ok(About::Question),
        "outcome" => Ok(About::Outcome),
        other => Err(Error::internal(format!("unknown thing to decide: {other}"))),
    }
}
