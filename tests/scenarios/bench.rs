//! The benchmarks run, and say what they say in the form that is promised. What they measure is no test's business.

use std::process::{Command, Output};

use serde_json::Value;
use studios_tests::process::program;

fn bench(arguments: &[&str]) -> Output {
    let ran = Command::new(program("studios"))
        .args(["bench", "--json"])
        .args(arguments)
        .output()
        .expect("`make test` builds it");
    assert!(ran.status.success(), "{ran:?}");
    ran
}

fn last_line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn every_benchmark_is_listed_with_what_it_measures() {
    let listed = last_line(&bench(&["list"]));
    let names: Vec<_> = listed["benches"]
        .as_array()
        .unwrap()
        .iter()
        .inspect(|it| assert!(!it["measures"].as_str().unwrap().is_empty(), "{it}"))
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    let all = [
        "migrate",
        "start-up",
        "idle",
        "engine",
        "read",
        "write",
        "users",
        "transfer",
        "provider",
        "plan-create",
        "engine-long",
        "engine-waiting",
        "scale",
        "search",
    ];
    assert_eq!(names, all);
}

#[test]
fn a_benchmarks_last_line_has_its_figures_the_machines_limits_and_the_conditions() {
    let report = last_line(&bench(&["migrate", "--quick"]));
    assert_eq!(report["name"], "migrate");
    for figure in ["migrate_s", "plan_ms", "nothing_to_do_ms"] {
        let value = report["figures"][figure].as_f64().unwrap();
        assert!(value > 0.0, "{figure}: {report}");
    }
    assert!(report["limits"]["fdatasync_ms"].as_f64().unwrap() > 0.0, "{report}");
    let conditions = &report["conditions"];
    assert_eq!(
        (
            &conditions["postgres_fsync"],
            &conditions["postgres_synchronous_commit"]
        ),
        (&"on".into(), &"on".into())
    );
    assert_eq!(conditions["quick"], true);
}

#[test]
fn the_engines_benchmark_checks_every_execution_it_made() {
    // One caller: a debug build beside everything else on the machine serves no hundreds in time.
    let report = last_line(&bench(&["engine", "--quick", "--callers", "1"]));
    assert!(
        report["conditions"]["executions_checked"].as_i64().unwrap() > 0,
        "{report}"
    );
    for figure in [
        "p50_ms_at_1",
        "executions_per_s",
        "cpu_s_per_1000",
        "commits_per_execution_at_1",
    ] {
        assert!(report["figures"][figure].as_f64().unwrap() > 0.0, "{figure}: {report}");
    }
}

#[test]
fn the_benchmark_of_long_runs_counts_the_stages_it_asked_for() {
    let report = last_line(&bench(&["engine-long", "--quick"]));
    assert!(
        report["conditions"]["executions_checked"].as_i64().unwrap() > 0,
        "{report}"
    );
    for figure in [
        "ms_per_stage_at_10",
        "ms_per_stage_at_100",
        "ms_per_stage_at_1000",
        "cpu_us_per_stage_at_1000",
        "further_stage_ms",
        "executions_8kb_per_s",
    ] {
        assert!(report["figures"][figure].is_f64(), "{figure}: {report}");
    }
}

#[test]
fn the_benchmark_beside_waiting_runs_holds_each_speed_against_the_one_without() {
    let report = last_line(&bench(&["engine-waiting", "--quick"]));
    assert!(report["conditions"]["waiting_runs"].as_i64().unwrap() > 0, "{report}");
    for figure in [
        "starts_per_s",
        "claims_per_s_waiting",
        "approvals_per_s_waiting",
        "start_ratio",
        "claim_ratio",
        "approve_ratio",
        "resident_mb",
    ] {
        assert!(report["figures"][figure].as_f64().unwrap() > 0.0, "{figure}: {report}");
    }
}

#[test]
fn the_benchmark_of_transfers_holds_both_ways_against_a_plain_program() {
    let report = last_line(&bench(&["transfer", "--quick"]));
    for figure in [
        "upload_grpc_mib_per_s",
        "upload_http_mib_per_s",
        "download_grpc_mib_per_s",
        "download_http_mib_per_s",
        "upload_share",
        "download_share",
    ] {
        assert!(report["figures"][figure].as_f64().unwrap() > 0.0, "{figure}: {report}");
    }
    assert!(report["figures"]["memory_over_rest_mb"].is_f64(), "{report}");
}

#[test]
fn the_benchmark_of_search_finds_what_answers_questions_among_the_first_five() {
    let report = last_line(&bench(&["search", "--quick"]));
    for figure in [
        "p95_ms",
        "p95_ms_two_words",
        "p95_ms_fused",
        "p95_ms_at_1_percent",
        "worst_p95_ratio",
        "pdf_of_300_pages_searchable_s",
    ] {
        assert!(report["figures"][figure].as_f64().unwrap() > 0.0, "{figure}: {report}");
    }
    for (figure, least) in [("text", 0.85), ("vector", 0.8), ("fused", 0.88)] {
        let recall = report["figures"][format!("recall_at_5_{figure}")].as_f64().unwrap();
        assert!(recall >= least, "{figure}: {report}");
    }
}
