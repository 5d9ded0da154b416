//! What waits for people, as it is listed: in an execution, and over all studios of a company.
//!
//! The rows are the worker's, written with every entry that changes what waits. They say who may decide; whoever decides is
//! judged anew by the journal ([`super::standing`]). A row shows where its caller reaches the studio, and nowhere else.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use service_kit::{
    auth::Caller,
    db::TenantTx,
    error::{Error, Result},
    ids::{CompanyId, ExecutionId, StudioId, UserId},
    page::Page,
};
use time::OffsetDateTime;

use super::waiting_store;
use crate::{
    App,
    access::{Access, Role, hidden_as},
    engine::{definition::Rank, journal::StageTry, waiting::About},
};

/// How many studios are asked about at a time.
const STUDIOS_AT_ONCE: usize = 8;

/// Something that people have to decide.
#[derive(Clone, Debug, Deserialize)]
pub struct Ask {
    /// The try that waits.
    #[serde(flatten)]
    pub of: StageTry,
    /// What is asked.
    #[serde(with = "AboutText")]
    pub about: About,
    /// The question of an approval stage; empty otherwise.
    pub question: String,
    /// Who may decide by name.
    pub users: Vec<UserId>,
    /// The least rank of those who may decide beside them; nobody where it is absent.
    pub rank: Option<Rank>,
    /// Who may not, whatever stands above.
    pub not_users: Vec<UserId>,
    /// How many must let it pass.
    pub required: i32,
    /// How many have.
    pub approved: i32,
    /// Since when it waits.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// When nobody is waited for any more.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// Whether others may decide too by now.
    pub escalated: bool,
    /// Whether the caller may decide it.
    #[serde(skip)]
    pub may_decide: bool,
}

#[derive(Deserialize)]
#[serde(remote = "About", rename_all = "snake_case")]
enum AboutText {
    Output,
    Question,
    Outcome,
}

impl Ask {
    /// Sees it as this user.
    pub(super) fn see(&mut self, access: &Access) {
        let user = access.claims.sub;
        let is_asked = self.users.contains(&user) || self.rank.is_some_and(|least| rank(access.role) >= least);
        self.may_decide = is_asked && !self.not_users.contains(&user);
    }
}

/// A role as far as deciding goes.
pub(super) const fn rank(role: Role) -> Rank {
    match role {
        Role::Admin => Rank::Admin,
        Role::Member => Rank::Member,
    }
}

/// Something that people have to decide, and where.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The execution.
    pub execution: ExecutionId,
    /// The studio it belongs to.
    pub studio: StudioId,
    /// What is asked.
    pub ask: Ask,
}

/// Which of it to list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Filter {
    /// The company.
    pub company: CompanyId,
    /// Only in this studio.
    pub studio: Option<StudioId>,
    /// Also what the caller may not decide.
    pub all: bool,
}

/// Where a page ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// Since when the last one waits.
    pub since: OffsetDateTime,
    /// Its execution.
    pub execution: ExecutionId,
    /// Its stage.
    pub stage: String,
    /// Its item.
    pub item: i32,
}

impl Place {
    pub(super) fn cursor(&self) -> Cursor {
        Cursor {
            since: self.ask.since,
            execution: self.execution,
            stage: self.ask.of.stage.clone(),
            item: i32::try_from(self.ask.of.item).unwrap_or(i32::MAX),
        }
    }
}

/// Lists what waits for people, longest waiting first: what the caller reaches, and one more than a page has where there is more.
pub(super) async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page<Cursor>) -> Result<Vec<Place>> {
    let access = enter(app, caller, filter).await?;
    let wanted = usize::try_from(page.limit()).unwrap_or(usize::MAX);
    let (mut reached, mut hidden) = (HashSet::new(), Vec::new());
    let mut found = Vec::new();
    let mut after = page.after.clone();
    // Every look but the last finds a studio that the caller does not reach, and leaves it out from then on.
    loop {
        let mut tx = TenantTx::begin(&app.pool, "executions.list_waiting", &access.claims).await?;
        let rows = waiting_store::list(
            &mut tx,
            filter,
            rank(access.role),
            after.as_ref(),
            &hidden,
            page.limit(),
        )
        .await?;
        // core-service may be asked below: no connection waits for that.
        drop(tx);
        let is_last = rows.len() < wanted;
        after = rows.last().map(Place::cursor);
        let unknown: HashSet<StudioId> = rows
            .iter()
            .map(|it| it.studio)
            .filter(|it| !reached.contains(it))
            .collect();
        for (studio, is_reached) in look(app, caller, filter.company, unknown).await? {
            if is_reached {
                reached.insert(studio);
            } else {
                hidden.push(studio);
            }
        }
        found.extend(rows.into_iter().filter(|it| reached.contains(&it.studio)));
        if is_last || found.len() >= wanted {
            break;
        }
    }
    found.truncate(wanted);
    for place in &mut found {
        place.ask.see(&access);
    }
    Ok(found)
}

/// What the caller may do in the company, or in the studio that he asks about.
async fn enter(app: &App, caller: &Caller, filter: &Filter) -> Result<Access> {
    let company = app.core.check_company(caller.user, filter.company);
    let Some(studio) = filter.studio else {
        return company.await;
    };
    let (company, access) = (company.await?, app.core.check_studio(caller.user, studio).await?);
    if access.company == company.company {
        return Ok(access);
    }
    Err(Error::not_found("studio", studio))
}

/// Which of these studios the caller reaches.
async fn look(
    app: &App,
    caller: &Caller,
    company: CompanyId,
    studios: HashSet<StudioId>,
) -> Result<Vec<(StudioId, bool)>> {
    let looks = stream::iter(studios).map(|studio| async move {
        match app
            .core
            .check_studio(caller.user, studio)
            .await
            .map_err(hidden_as("studio", studio))
        {
            Ok(access) => Ok((studio, access.company == company)),
            Err(Error::NotFound { .. }) => Ok((studio, false)),
            Err(error) => Err(error),
        }
    });
    looks.buffer_unordered(STUDIOS_AT_ONCE).try_collect().await
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use service_kit::db::Claims;

    use super::*;

    fn ask(users: &[UserId], rank: Option<&str>, not_users: &[UserId]) -> Ask {
        serde_json::from_value(json!({
            "stage": "draft", "visit": 1, "item": 0, "attempt": 2, "about": "output", "question": "",
            "users": users, "rank": rank, "not_users": not_users, "required": 2, "approved": 1,
            "since": "2026-11-28T17:41:30.123456+00:00", "expires_at": null, "escalated": false,
        }))
        .unwrap()
    }

    fn sees(ask: &Ask, user: UserId, role: Role) -> bool {
        let mut ask = ask.clone();
        ask.see(&Access {
            claims: Claims::user(user),
            company: CompanyId::generate(),
            role,
            max_snapshots: 50,
            allowance: crate::access::Allowance::default(),
        });
        ask.may_decide
    }

    #[test]
    fn a_row_is_read_as_the_database_makes_it() {
        let read = ask(&[], None, &[]);
        assert_eq!((read.of.attempt, read.about), (2, About::Output));
        assert_eq!(read.since.microsecond(), 123_456);
        assert_eq!(read.expires_at, None);
    }

    #[test]
    fn who_is_named_or_of_the_rank_may_decide_unless_he_is_ruled_out() {
        let (ada, bob) = (UserId::generate(), UserId::generate());
        let named = ask(&[ada], None, &[]);
        assert!(sees(&named, ada, Role::Member) && !sees(&named, bob, Role::Admin));
        let admins = ask(&[ada], Some("admin"), &[]);
        assert!(sees(&admins, bob, Role::Admin) && !sees(&admins, bob, Role::Member));
        assert!(sees(&admins, ada, Role::Member));
        let others = ask(&[], Some("member"), &[ada]);
        assert!(sees(&others, bob, Role::Member) && !sees(&others, ada, Role::Admin));
    }
}
