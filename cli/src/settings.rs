//! The settings of services that run apart, made from an installation's keys: what `deploy/compose.yaml` is given.

use std::path::PathBuf;

use anyhow::{Context, Result};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use url::Url;

use crate::{
    home::Home,
    migrate::{LOGIN_ROLES, RolePasswords},
    output::Output,
};

/// Which installation, and where its database is.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The folder of the keys, which are made where they are missing: the same folder always gives the same settings.
    #[arg(long, default_value = ".studios")]
    pub dir: PathBuf,
    /// The database as the services reach it, host:port/name.
    #[arg(long, default_value = "postgres:5432/studios")]
    pub database: String,
    /// The administrator's name; his password is derived from the keys, like those of the services' roles.
    #[arg(long, default_value = "postgres")]
    pub admin: String,
}

/// Prints the settings as lines of an environment file, or as one JSON object. They are secrets.
pub fn run(args: &Args, output: Output) -> Result<()> {
    let settings = settings(args)?;
    let lines: Vec<String> = settings.iter().map(|(key, value)| format!("{key}='{value}'")).collect();
    output.result(lines.join("\n"), || {
        let map: Map<_, _> = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Value::from(value.clone())))
            .collect();
        map.into()
    });
    Ok(())
}

/// The settings by their variables.
pub fn settings(args: &Args) -> Result<Vec<(&'static str, String)>> {
    let home = Home::open(&args.dir)?;
    let password = home.administrator_password().expose_secret().to_owned();
    let mut admin = Url::parse(&format!("postgres://{}", args.database)).context("--database is not host:port/name")?;
    let set = admin
        .set_username(&args.admin)
        .and_then(|()| admin.set_password(Some(&password)));
    set.ok().context("--database is not host:port/name")?;
    let admin = SecretString::from(String::from(admin));
    let passwords = RolePasswords::derive(&home.keys);
    let mut settings = vec![
        ("POSTGRES_PASSWORD", password),
        ("DATABASE_URL", admin.expose_secret().to_owned()),
        ("STUDIOS_KEY_RING", home.key_ring.expose_secret().to_owned()),
        ("STUDIOS_CORE_PEERS", home.execution_service_jwk()?),
        (
            "STUDIOS_EXECUTION_SERVICE_KEY",
            home.execution_service_key.expose_secret().to_owned(),
        ),
    ];
    let variables = [
        "STUDIOS_CORE_DATABASE_URL",
        "STUDIOS_CORE_WORKER_DATABASE_URL",
        "STUDIOS_EXECUTION_DATABASE_URL",
        "STUDIOS_EXECUTION_ENGINE_DATABASE_URL",
    ];
    for (variable, role) in variables.into_iter().zip(LOGIN_ROLES) {
        settings.push((variable, passwords.url(&admin, role)?.expose_secret().to_owned()));
    }
    Ok(settings)
}
