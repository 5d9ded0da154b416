//! Everything works through a transaction pooler.

use std::process::Command;

use serde_json::Value;
use studios_tests::{deployment::Deployment, process::program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_runs_through_a_transaction_pooler() {
    let (deployment, pooler) = Deployment::through_a_pooler().await;
    let world = deployment.world().await;
    // Again and again, and at the same time, so that server connections change hands.
    let demo = || {
        let gateway = world.url("");
        tokio::task::spawn_blocking(move || {
            Command::new(program("studios"))
                .args(["demo", "--json", "--gateway", &gateway])
                .output()
        })
    };
    let demos: Vec<_> = (0..6).map(|_| demo()).collect();
    for ran in demos {
        let ran = ran.await.unwrap().expect("`make test` builds it");
        assert_eq!(
            ran.status.code(),
            Some(0),
            "{}\n{}\n{:?}",
            String::from_utf8_lossy(&ran.stderr),
            pooler.log(),
            deployment.core.log()
        );
        let told = String::from_utf8(ran.stdout).unwrap();
        let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        assert_eq!(told["status"], "completed");
    }
    let logs = [deployment.core.log(), deployment.execution.as_ref().unwrap().log()].concat();
    let troubles: Vec<_> = logs
        .iter()
        .filter(|line| line.contains("prepared statement") || line.contains("\"level\":\"ERROR\""))
        .collect();
    assert!(troubles.is_empty(), "{troubles:#?}");
}
