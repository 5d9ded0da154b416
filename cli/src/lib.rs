//! The operator's program `studios`: the embedded installation, the demo, migrations, checks, and runs from a terminal.
//!
//! Results go to stdout, as text or with `--json` as JSON lines; errors and logs go to stderr; exit codes are in [`output`].

pub mod account;
pub mod agents;
pub mod api_keys;
pub mod audit;
pub mod bench;
pub mod connections;
pub mod control;
pub mod demo;
pub mod doctor;
pub mod events;
pub mod explain;
pub mod files;
pub mod flows;
pub mod home;
pub mod invitations;
pub mod keys;
pub mod mails;
pub mod migrate;
pub mod notifications;
pub mod operator;
pub mod output;
pub mod plans;
pub mod postgres;
pub mod privacy;
pub mod quotas;
pub mod remote;
pub mod runs;
pub mod search;
pub mod settings;
pub mod snapshots;
pub mod templates;
pub mod up;
pub mod workflows;

use clap::{Parser, Subcommand};
use service_kit::{
    config::Reader,
    lifecycle::Lifecycle,
    telemetry::{self, TelemetryConfig},
};

use crate::output::Output;

/// Studios: AI-automation studios for businesses.
///
/// Exit codes: 0 well, 1 ended badly, 2 wrong usage, 3 unreachable, 4 refused, 5 not found, 6 invalid, 70 internal.
#[derive(Debug, Parser)]
#[command(name = "studios", version)]
pub struct Cli {
    /// Results as JSON, one value a line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything in one process: a private PostgreSQL (or DATABASE_URL), both services and the gateway.
    Up(up::Args),
    /// Sign up, upload a document, publish a workflow, run it and watch it, through a gateway.
    Demo(demo::Args),
    /// Bring a database up to date, all or nothing.
    Migrate(migrate::Args),
    /// Print the settings of services that run apart, such as Compose's, made from an installation's keys.
    Settings(settings::Args),
    /// The root keys that everything secret is sealed under: list them, rotate to a new one, drop an old one.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Check an installation and say what is wrong with it.
    Doctor(doctor::Args),
    /// Measure what the product reaches on this machine, and what the machine would allow.
    Bench(bench::Args),
    /// Your own account: its sessions.
    #[command(subcommand)]
    Account(account::Command),
    /// What became of the installation's mails.
    #[command(subcommand)]
    Mail(mails::Command),
    /// Workflows.
    #[command(subcommand)]
    Workflow(runs::WorkflowCommand),
    /// Snapshots of workflows, and files of them.
    #[command(subcommand)]
    Snapshot(snapshots::Command),
    /// Files of studios.
    #[command(subcommand)]
    Files(files::Command),
    /// A company's connections to outside servers.
    #[command(subcommand)]
    Connection(connections::Command),
    /// Templates: found, run, published, and the platform's catalogue.
    #[command(subcommand, visible_alias = "template")]
    Templates(templates::Command),
    /// Agent sessions.
    #[command(subcommand, visible_alias = "agent")]
    Agents(agents::Command),
    /// Learning plans.
    #[command(subcommand, visible_alias = "plan")]
    Plans(plans::Command),
    /// Flows of ActivePieces.
    #[command(subcommand)]
    Flows(flows::Command),
    /// Executions of workflows.
    #[command(subcommand)]
    Execution(runs::ExecutionCommand),
    /// What operators set for companies and plans, at core-service's own port.
    #[command(subcommand)]
    Operator(operator::Command),
    /// Invitations of people to a company.
    #[command(subcommand)]
    Invitation(invitations::Command),
    /// Keys with which machines work in a company.
    #[command(subcommand)]
    ApiKeys(api_keys::Command),
    /// Who did what in a company, and proof that nothing of it was changed.
    #[command(subcommand)]
    Audit(audit::Command),
    /// What a company is told by webhook or mail, and whether that came through.
    #[command(subcommand)]
    Notifications(notifications::Command),
    /// Archives of what is held about you or a company, and the erasure of either.
    #[command(subcommand)]
    Privacy(privacy::Command),
    /// What a studio's documents say about something.
    Search(search::Args),
    /// What a company's plan lets it use, and what it has used of that.
    Quotas(quotas::Args),
    /// Why a user or an API key may or may not see a studio or a document; exits with 1 where not.
    Explain(explain::Args),
}

/// Runs the command line and returns the process's exit code.
pub async fn run() -> u8 {
    let cli = Cli::parse();
    let output = Output { json: cli.json };
    let _telemetry = match telemetry() {
        Ok(guard) => guard,
        Err(error) => {
            output.failure(&error);
            return output::USAGE;
        }
    };
    let done = match &cli.command {
        Command::Up(args) => up::run(args, output, Lifecycle::new()).await.map(|()| true),
        Command::Demo(args) => demo::run(args, output).await.map(|outcome| outcome.completed),
        Command::Migrate(args) => migrate::command(args, output).await.map(|()| true),
        Command::Settings(args) => settings::run(args, output).map(|()| true),
        Command::Keys(command) => keys::run(command, output).await.map(|()| true),
        Command::Doctor(args) => doctor::run(args, output).await,
        Command::Bench(args) => bench::run(args, output).await.map(|()| true),
        Command::Account(command) => account::run(command, output).await.map(|()| true),
        Command::Mail(command) => mails::run(command, output).await.map(|()| true),
        Command::Workflow(command) => runs::workflow(command, output).await,
        Command::Snapshot(command) => snapshots::run(command, output).await.map(|()| true),
        Command::Files(command) => files::run(command, output).await.map(|()| true),
        Command::Connection(command) => connections::run(command, output).await,
        Command::Templates(command) => templates::run(command, output).await,
        Command::Agents(command) => agents::run(command, output).await,
        Command::Plans(command) => plans::run(command, output).await,
        Command::Flows(command) => flows::run(command, output).await.map(|()| true),
        Command::Execution(command) => runs::execution(command, output).await,
        Command::Operator(command) => operator::run(command, output).await.map(|()| true),
        Command::Invitation(command) => invitations::run(command, output).await.map(|()| true),
        Command::ApiKeys(command) => api_keys::run(command, output).await.map(|()| true),
        Command::Audit(command) => audit::run(command, output).await,
        Command::Notifications(command) => notifications::run(command, output).await.map(|()| true),
        Command::Privacy(command) => privacy::run(command, output).await.map(|()| true),
        Command::Search(args) => search::run(args, output).await.map(|()| true),
        Command::Quotas(args) => quotas::run(args, output).await.map(|()| true),
        Command::Explain(args) => explain::run(args, output).await,
    };
    match done {
        Ok(true) => output::OK,
        Ok(false) => output::FAILED,
        Err(error) => {
            output.failure(&error);
            output::exit_code(&error)
        }
    }
}

/// Logs go to stderr as `STUDIOS_LOG`, `STUDIOS_LOG_FORMAT` and `STUDIOS_OTLP_ENDPOINT` say; without them, warnings only.
fn telemetry() -> anyhow::Result<telemetry::Guard> {
    let quiet = [("log".to_owned(), "warn".to_owned())];
    let flags = if std::env::var_os("STUDIOS_LOG").is_some() {
        &[]
    } else {
        quiet.as_slice()
    };
    let mut reader = Reader::load(&["STUDIOS_"], None, flags);
    let config = TelemetryConfig::read(&mut reader);
    reader.finish()?;
    Ok(telemetry::init("studios", &config))
}
