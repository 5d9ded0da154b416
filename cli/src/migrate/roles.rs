//! The roles that the services sign in with: they own nothing and cannot bypass row level security.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context, Result};
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};
use service_kit::keys::KeyRing;
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};

/// The owner of the schemas; nobody signs in as it.
pub(crate) const OWNER: &str = "studios_owner";

/// The services' login roles.
pub const LOGIN_ROLES: [&str; 4] = [
    "studios_core",
    "studios_core_worker",
    "studios_execution",
    "studios_engine",
];

/// What holds in every transaction of theirs, so that it need not be sent with each connection.
const ROLE_SETTINGS: [(&str, &str); 3] = [
    ("statement_timeout", "15s"),
    ("idle_in_transaction_session_timeout", "30s"),
    ("jit", "off"),
];

/// The engine's statements are prepared once and kept, perhaps over tables that were empty then: they look rows up by key.
const ENGINE_SETTINGS: [(&str, &str); 2] = [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")];

/// The login roles' passwords.
#[derive(Debug, Clone)]
pub struct RolePasswords(pub(super) BTreeMap<&'static str, SecretString>);

impl RolePasswords {
    /// Passwords that derive from the key ring: the same ring always gives the same ones.
    pub fn derive(keys: &KeyRing) -> Self {
        let derived = |role: &&'static str| (*role, hex::encode(keys.derive(&format!("database-role/{role}"))).into());
        Self(LOGIN_ROLES.iter().map(derived).collect())
    }

    /// The URL of `database_url`'s database for a login role.
    pub fn url(&self, database_url: &SecretString, role: &str) -> Result<SecretString> {
        let mut url = url::Url::parse(database_url.expose_secret())
            .ok()
            .context("the database URL does not parse")?;
        let password = self
            .0
            .get(role)
            .with_context(|| format!("{role} is not a login role"))?;
        let set = url
            .set_username(role)
            .and_then(|()| url.set_password(Some(password.expose_secret())));
        set.ok().context("the database URL cannot carry a user")?;
        Ok(String::from(url).into())
    }
}

/// Makes the owner and the login roles that are missing or not as they must be. A role that is well and signs in with its
/// password is left alone: roles belong to the whole cluster, where other databases' runs would collide.
pub(super) async fn make(tx: &mut PgConnection, database_url: &SecretString, passwords: &RolePasswords) -> Result<()> {
    let mut sql = format!(
        "do $$ begin
             if not exists (select from pg_roles where rolname = '{OWNER}') then create role {OWNER} nologin; end if;
             if not pg_has_role(current_user, '{OWNER}', 'member') then grant {OWNER} to current_user; end if;
         end $$;"
    );
    for (role, password) in &passwords.0 {
        if is_well(tx, role).await?
            && PgConnection::connect(passwords.url(database_url, role)?.expose_secret())
                .await
                .is_ok()
        {
            continue;
        }
        write!(
            sql,
            "do $$ begin
                 if not exists (select from pg_roles where rolname = '{role}') then create role {role}; end if;
             end $$;
             alter role {role} login nosuperuser nocreatedb nocreaterole nobypassrls noreplication password '{}';",
            scram_verifier(password)?
        )?;
        for (setting, value) in settings(role) {
            write!(sql, "alter role {role} set {setting} = '{value}';")?;
        }
    }
    raw_sql(AssertSqlSafe(sql)).execute(tx).await?;
    Ok(())
}

fn settings(role: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let own: &[_] = if role == "studios_engine" {
        &ENGINE_SETTINGS
    } else {
        &[]
    };
    ROLE_SETTINGS.iter().chain(own).copied()
}

async fn is_well(tx: &mut PgConnection, role: &str) -> Result<bool> {
    let settings: Vec<String> = settings(role)
        .map(|(setting, value)| format!("{setting}={value}"))
        .collect();
    let well = sqlx::query_scalar(
        "select exists (select from pg_roles where rolname = $1 and rolcanlogin and not rolsuper and not rolcreaterole
             and not rolcreatedb and not rolbypassrls and not rolreplication and rolconfig @> $2)",
    );
    Ok(well.bind(role).bind(settings).fetch_one(tx).await?)
}

/// What PostgreSQL keeps of a password (RFC 5803), so that the password itself reaches no statement and no log.
fn scram_verifier(password: &SecretString) -> Result<String> {
    const ROUNDS: u32 = 4096;
    let mut salt = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut salt).ok().context("no randomness")?;
    let mut salted = [0_u8; 32];
    let rounds = std::num::NonZeroU32::new(ROUNDS).context("rounds are not zero")?;
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        &salt,
        password.expose_secret().as_bytes(),
        &mut salted,
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let stored = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server = hmac::sign(&key, b"Server Key");
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    Ok(format!(
        "SCRAM-SHA-256${ROUNDS}:{}${}:{}",
        encode(&salt),
        encode(stored.as_ref()),
        encode(server.as_ref())
    ))
}
