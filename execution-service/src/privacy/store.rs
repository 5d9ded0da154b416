//! SQL of exports and erasures, for the engine's role.

use futures::{StreamExt, stream::BoxStream};
use serde::Serialize;
use serde_json::Value;
use service_kit::{
    error::Result,
    ids::{CompanyId, UserId},
};
use sqlx::{PgConnection, types::Uuid};

use super::Subject;

/// A row as an archive has it.
#[derive(Serialize)]
pub(super) struct Exported {
    pub(super) kind: Option<String>,
    pub(super) data: Option<Value>,
}

/// Lets the transaction's statements take as long as all rows of a large company do.
pub(super) async fn allow_long(tx: &mut PgConnection) -> Result<()> {
    sqlx::query!("set local statement_timeout = '2h'").execute(tx).await?;
    Ok(())
}

/// Everything in this schema that is the subject's; of a user's own what is in these companies.
pub(super) fn exported<'a>(
    tx: &'a mut PgConnection,
    subject: Subject,
    places: &'a [Uuid],
) -> BoxStream<'a, sqlx::Result<Exported>> {
    match subject {
        Subject::Company(company) => sqlx::query_as!(
            Exported,
            "select kind, data from execution.export_company($1)",
            company.as_uuid(),
        )
        .fetch(tx)
        .boxed(),
        Subject::User(user) => sqlx::query_as!(
            Exported,
            "select kind, data from execution.export_user($1, $2)",
            user.as_uuid(),
            places,
        )
        .fetch(tx)
        .boxed(),
    }
}

/// Erases rows of a company's, at most so many of each table; nothing is left at 0.
pub(super) async fn erase_company(tx: &mut PgConnection, company: CompanyId, most: i32) -> Result<i64> {
    let erased = sqlx::query_scalar!(
        r#"select execution.erase_company_rows($1, $2) as "erased!""#,
        company.as_uuid(),
        most,
    );
    Ok(erased.fetch_one(tx).await?)
}

/// Erases what is a user's alone, at most so many of each table; nothing is left at 0.
pub(super) async fn erase_user(tx: &mut PgConnection, user: UserId, most: i32) -> Result<i64> {
    let erased = sqlx::query_scalar!(
        r#"select execution.erase_user_rows($1, $2) as "erased!""#,
        user.as_uuid(),
        most,
    );
    Ok(erased.fetch_one(tx).await?)
}
