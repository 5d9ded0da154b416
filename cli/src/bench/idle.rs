//! What an installation does and holds when nobody calls: transactions on its PostgreSQL, CPU, memory.

use std::time::Duration;

use anyhow::Result;
use sqlx::PgConnection;

use super::{
    Effort, cpu,
    report::Report,
    rig::{Rig, writing_transactions},
};

/// Backends tell their statistics up to ten seconds late; after this long what came before is told.
const SETTLE: Duration = Duration::from_secs(11);

pub(super) async fn run(mut report: Report, effort: Effort) -> Result<Report> {
    let rig = Rig::start(&mut report, false, &[]).await?;
    let processes = rig.processes().await?;
    let mut admin = rig.ground.admin("postgres").await?;
    let length = effort.length(20);
    report.condition("seconds", length.as_secs_f64());
    report.condition(
        "transactions",
        "commits and rollbacks of all databases, autovacuum's among them, less those that count",
    );
    tokio::time::sleep(if effort.quick { Duration::ZERO } else { SETTLE }).await;

    let cpu_before = processes.cpu()?;
    let written_before = writing_transactions(&mut admin).await?;
    let before = transactions(&mut admin).await?;
    tokio::time::sleep(length).await;
    // The first count and the look at transaction ids after it are of this program.
    let counted = transactions(&mut admin).await? - before - 1.0;
    let written = writing_transactions(&mut admin).await? - written_before;
    let used = processes.cpu()? - cpu_before;

    let seconds = length.as_secs_f64();
    report.figure("transactions_per_s", counted.max(0.0) / seconds);
    report.figure("writing_transactions_per_s", written / seconds);
    report.figure("resident_mb", cpu::resident_mb(processes.service)?);
    report.figure("cpu_percent", used.service / seconds * 100.0);
    report.figure("postgres_cpu_percent", used.postgres / seconds * 100.0);
    Ok(report)
}

async fn transactions(admin: &mut PgConnection) -> Result<f64> {
    let count: i64 = sqlx::query_scalar("select sum(xact_commit + xact_rollback)::bigint from pg_stat_database")
        .fetch_one(admin)
        .await?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a benchmark's server makes no 2^52 transactions"
    )]
    Ok(count as f64)
}
