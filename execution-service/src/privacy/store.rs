//! SQL of exports and erasures, for the engine's role.

use futures::{StreamExt, stream::BoxStream};
use serde::Serialize;
use serde_json::Value;
use service_kit::{
    error::Result,
    ids::{CompanyId, UserId},
};
use sqlx::PgConnection;

use super::Subject;

/// A row as an archive has it.
#[derive(Serialize)]
pub(super) struct Exported {
    kind: Option<String>,
    data: Option<Value>,
}

/// Lets the transaction's statements take as long as all rows of a large company do.
pub(super) async fn allow_long(tx: &mut PgConnection) -> Result<()> {
    sqlx::query!("set local statement_timeout = '30min'")
        .execute(tx)
        .await?;
    Ok(())
}

/// Everything in this schema that is the subject's.
pub(super) fn exported(tx: &mut PgConnection, subject: Subject) -> BoxStream<'_, sqlx::Result<Exported>> {
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
            "select kind, data from execution.export_user($1)",
            user.as_uuid(),
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

pub(super) async fn erase_user(tx: &mut PgConnection, user: UserId) -> Result<i64> {
    let erased = sqlx::query_scalar!(r#"select execution.erase_user_rows($1) as "erased!""#, user.as_uuid());
    Ok(erased.fetch_one(tx).await?)
}
