//! SQL of invitations.

use service_kit::{
    error::{Error, Result, constraint},
    ids::{CompanyId, InvitationId, MembershipId, UserId},
    page::Page,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Invitation, NewInvitation, Outcome};
use crate::{companies::memberships::Role, contact::Email};

pub(super) async fn insert(
    tx: &mut PgConnection,
    id: InvitationId,
    new: &NewInvitation,
    hash: [u8; 32],
    expires_at: OffsetDateTime,
    by: UserId,
) -> Result<()> {
    sqlx::query!(
        "insert into core.invitations (id, company_id, email, role, token_hash, expires_at, invited_by)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id.as_uuid(),
        new.company.as_uuid(),
        new.email.as_str(),
        new.role as Role,
        &hash[..],
        expires_at,
        by.as_uuid(),
    )
    .execute(tx)
    .await
    .map_err(|error| match constraint(&error) {
        Some("invitations_open") => Error::AlreadyExists {
            reason: "ALREADY_INVITED",
            message: "there is an open invitation to this address; take it back first".into(),
        },
        _ => error.into(),
    })?;
    Ok(())
}

/// Ends an invitation to the same address that ran out.
pub(super) async fn end_expired(tx: &mut PgConnection, new: &NewInvitation, now: OffsetDateTime) -> Result<()> {
    sqlx::query!(
        "update core.invitations set revoked_at = expires_at
         where company_id = $1 and email = $2 and accepted_at is null and revoked_at is null and expires_at <= $3",
        new.company.as_uuid(),
        new.email.as_str(),
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The company's name, and that of one of its members.
pub(super) async fn names(tx: &mut PgConnection, company: CompanyId, user: UserId) -> Result<(String, String)> {
    let row = sqlx::query!(
        "select c.name, u.full_name from core.companies c cross join core.users u where c.id = $1 and u.id = $2",
        company.as_uuid(),
        user.as_uuid(),
    )
    .fetch_one(tx)
    .await?;
    Ok((row.name, row.full_name))
}

pub(super) async fn find(tx: &mut PgConnection, id: InvitationId) -> Result<Option<Invitation>> {
    let invitation = sqlx::query_as!(
        Invitation,
        r#"select id as "id: InvitationId", company_id as "company: CompanyId", email as "email: Email", role as "role: Role",
                  expires_at, accepted_at, revoked_at, invited_by as "invited_by: UserId", created_at
           from core.invitations where id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(tx)
    .await?;
    Ok(invitation)
}

pub(super) async fn list(
    tx: &mut PgConnection,
    company: CompanyId,
    page: &Page<InvitationId>,
) -> Result<Vec<Invitation>> {
    let invitations = sqlx::query_as!(
        Invitation,
        r#"select id as "id: InvitationId", company_id as "company: CompanyId", email as "email: Email", role as "role: Role",
                  expires_at, accepted_at, revoked_at, invited_by as "invited_by: UserId", created_at
           from core.invitations
           where company_id = $1 and ($2::uuid is null or id < $2)
           order by id desc limit $3"#,
        company.as_uuid(),
        page.after.map(InvitationId::as_uuid),
        page.limit(),
    )
    .fetch_all(tx)
    .await?;
    Ok(invitations)
}

/// Says whether it was open.
pub(super) async fn revoke(tx: &mut PgConnection, id: InvitationId, at: OffsetDateTime) -> Result<bool> {
    let done = sqlx::query!(
        "update core.invitations set revoked_at = $2 where id = $1 and accepted_at is null and revoked_at is null",
        id.as_uuid(),
        at,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Accepts an invitation for the caller, where it is his.
pub(super) async fn accept(
    tx: &mut PgConnection,
    hash: [u8; 32],
    membership: MembershipId,
) -> Result<(Outcome, Option<CompanyId>)> {
    let row = sqlx::query!(
        r#"select outcome as "outcome!: Outcome", company as "company: CompanyId" from core.accept_invitation($1, $2)"#,
        &hash[..],
        membership.as_uuid(),
    )
    .fetch_one(tx)
    .await?;
    Ok((row.outcome, row.company))
}
