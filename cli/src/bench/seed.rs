//! Many users, companies and studios at once, by statements of the administrator's, and tokens for the users, signed with the
//! installation's own key: ten thousand sign-ins would take an hour of password hashing and show nothing.
//!
//! Ids are made from numbers. User `u` belongs to company `u % companies`, whose admin is the user of the same number, and
//! studio `s` to company `s % companies`.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use core_service::auth::SigningKeys;
use http::HeaderValue;
use service_kit::{
    clock::{Clock, SystemClock},
    ids::SessionId,
    token::{USER_AUDIENCE, USER_ROLE, UserClaims},
};
use uuid::Uuid;

use super::{
    definitions::LARGE_MODEL,
    rig::{PROVIDER, Rig, execute},
};

/// Longer than any run. Users' own tokens live ten minutes; the verifier asks no token how long it will live.
const TOKEN_LIFETIME: Duration = Duration::from_hours(6);
const USERS: u128 = 0x0190_0001_0000_7000_8000_0000_0000_0000;
const STUDIOS: u128 = 0x0190_0002_0000_7000_8000_0000_0000_0000;
const COMPANIES: u128 = 0x0190_0003_0000_7000_8000_0000_0000_0000;

/// How many there are of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Population {
    pub(super) companies: usize,
    pub(super) users: usize,
    pub(super) studios: usize,
}

impl Population {
    /// Makes them all, on the largest plan.
    pub(super) async fn settle(self, rig: &Rig) -> Result<()> {
        let Self {
            companies,
            users,
            studios,
        } = self;
        let id = |base: u128, number: &str| {
            let prefix = &Uuid::from_u128(base).to_string()[..24];
            format!("('{prefix}' || lpad(to_hex({number}), 12, '0'))::uuid")
        };
        let company = |number: &str| id(COMPANIES, &format!("{number} % {companies}"));
        let sql = format!(
            "begin;
             insert into core.users (id, email, full_name)
             select {user}, 'user-' || i || '@example.com', 'User ' || i from generate_series(0, {users} - 1) i;
             insert into core.companies (id, name, industry_type, contact_email, headquarters_address, plan, created_by)
             select {company_id}, 'Company ' || i, 'technology', 'office@example.com', '1 Example Street', 'enterprise', {user}
             from generate_series(0, {companies} - 1) i;
             insert into core.memberships (id, company_id, user_id, role, state)
             select {user}, {users_company}, {user}, case when i < {companies} then 'admin' else 'member' end, 'approved'
             from generate_series(0, {users} - 1) i;
             insert into core.studios (id, company_id, name, description, business_area, created_by)
             select {studio}, {users_company}, 'Studio ' || i, 'What the studio is for, in a line of text.', 'operations', {admin}
             from generate_series(0, {studios} - 1) i;
             commit;
             vacuum analyze;",
            user = id(USERS, "i"),
            company_id = id(COMPANIES, "i"),
            users_company = company("i"),
            studio = id(STUDIOS, "i"),
            admin = id(USERS, &format!("i % {companies}")),
        );
        let mut admin = rig.admin().await?;
        // VACUUM wants to be a statement of its own.
        for statement in sql.split_inclusive(';') {
            execute(&mut admin, statement).await?;
        }
        let models = format!(
            "insert into execution.models (id, company_id, name, provider, provider_model, context_length)
             values (gen_random_uuid(), null, '{PROVIDER}', '{PROVIDER}', 'stub-1', 131072),
                    (gen_random_uuid(), null, '{LARGE_MODEL}', '{PROVIDER}', '{LARGE_MODEL}', 131072)"
        );
        execute(&mut admin, models).await
    }

    /// Every user's token, as the header's value.
    pub(super) async fn tokens(self, rig: &Rig) -> Result<Vec<HeaderValue>> {
        let pool = service_kit::db::connect(&rig.database_url, 1, "studios bench").await?;
        let keys = SigningKeys::open(pool.clone(), rig.ground.home.keys.clone(), Arc::new(SystemClock)).await?;
        pool.close().await;
        let now = SystemClock.now();
        (0..self.users)
            .map(|user| {
                let token = keys.sign(&UserClaims {
                    iss: "studios".into(),
                    sub: self.user(user).parse()?,
                    aud: USER_AUDIENCE.into(),
                    exp: (now + TOKEN_LIFETIME).unix_timestamp(),
                    iat: now.unix_timestamp(),
                    session_id: Some(SessionId::generate()),
                    email: Some(format!("user-{user}@example.com")),
                    role: USER_ROLE.into(),
                    aal: None,
                })?;
                let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
                // As every client of ours sends it: never in a table that a connection shares.
                value.set_sensitive(true);
                Ok(value)
            })
            .collect()
    }

    /// A user.
    pub(super) fn user(self, user: usize) -> String {
        numbered(USERS, user % self.users)
    }

    /// A user's company.
    pub(super) fn company_of(self, user: usize) -> String {
        numbered(COMPANIES, user % self.companies)
    }

    /// One of the studios of a user's company.
    pub(super) fn studio_of(self, user: usize, choice: usize) -> String {
        let per_company = (self.studios / self.companies).max(1);
        numbered(STUDIOS, user % self.companies + choice % per_company * self.companies)
    }
}

fn numbered(base: u128, number: usize) -> String {
    Uuid::from_u128(base | u128::try_from(number).expect("a usize fits")).to_string()
}
