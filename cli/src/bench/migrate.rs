//! `studios migrate` as an operator runs it, in a process of its own: over an empty database, over one that is up to date,
//! and for its plan alone.

use std::time::Instant;

use anyhow::{Result, ensure};
use secrecy::ExposeSecret;

use super::{
    Effort, peer, progress,
    report::{Report, median},
    rig::Ground,
};

pub(super) async fn run(mut report: Report, effort: Effort) -> Result<Report> {
    let ground = Ground::make().await?;
    ground.describe(&mut report).await?;
    let rounds = effort.rounds(5);
    report.condition("rounds_of_which_the_median", rounds);
    report.condition("first", "the server's first database: the login roles are made too");
    let log = ground.log("migrate");
    let (mut fresh, mut planned, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let mut migrations = 0;
    for round in 1..=rounds {
        let url = ground.database(&format!("fresh_{round}")).await?;
        let environment = [
            ("DATABASE_URL", url.expose_secret().to_owned()),
            ("STUDIOS_KEY_RING", ground.home.key_ring.expose_secret().to_owned()),
        ];
        let timed = async |arguments: &[&str]| {
            let began = Instant::now();
            let done = peer::finish(arguments, &environment, &log).await?;
            let applied = done["applied"].as_array().map_or(0, Vec::len);
            anyhow::Ok((began.elapsed().as_secs_f64(), applied))
        };
        let (seconds, applied) = timed(&["--json", "migrate"]).await?;
        ensure!(applied > 0, "nothing was applied to an empty database");
        migrations = applied;
        fresh.push(seconds);
        planned.push(timed(&["--json", "migrate", "--plan"]).await?.0 * 1000.0);
        let (seconds, applied) = timed(&["--json", "migrate"]).await?;
        ensure!(applied == 0, "{applied} migrations were applied twice");
        again.push(seconds * 1000.0);
        progress(format_args!("  round {round}: {:.2} s", fresh[round - 1]));
    }
    report.figure("migrate_first_s", fresh[0]);
    report.figure("migrate_s", median(fresh));
    report.figure("plan_ms", median(planned));
    report.figure("nothing_to_do_ms", median(again));
    report.condition("migrations", migrations);
    Ok(report)
}
