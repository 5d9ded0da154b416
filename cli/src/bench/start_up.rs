//! From starting `studios up` in a folder to the line that says that everything serves: in an empty folder, where keys,
//! PostgreSQL's cluster and the schema are made first, and again in the same one.

use std::time::Instant;

use anyhow::{Context, Result};

use super::{
    Effort,
    peer::Peer,
    progress,
    report::{Report, median},
    rig::{file_system, fresh_dir},
};

pub(super) async fn run(mut report: Report, effort: Effort) -> Result<Report> {
    let rounds = effort.rounds(3);
    report.condition("rounds_of_which_the_median", rounds);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let dir = fresh_dir()?;
        let place = dir.path().to_str().context("the folder's name is text")?;
        first.push(up_and_down(place).await?);
        second.push(up_and_down(place).await?);
        progress(format_args!(
            "  round {round}: first {:.2} s, second {:.2} s",
            first[round - 1],
            second[round - 1]
        ));
    }
    report.condition("file_system", file_system(&std::env::temp_dir()));
    report.figure("first_up_ready_s", median(first));
    report.figure("second_up_ready_s", median(second));
    Ok(report)
}

/// Seconds until it was ready. It is gone, its PostgreSQL too, when this returns.
async fn up_and_down(dir: &str) -> Result<f64> {
    let log = std::path::Path::new(dir).with_extension("up.log");
    let began = Instant::now();
    let up = Peer::start(&["--json", "up", "--port", "0", "--dir", dir], &[], &log).await;
    let took = began.elapsed().as_secs_f64();
    // Beside the folder, which is to be as empty as a new installation's.
    let _ = std::fs::remove_file(&log);
    up?.end().await?;
    Ok(took)
}
