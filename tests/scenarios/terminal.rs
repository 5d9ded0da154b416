//! Workflows run and watched from a terminal.

use std::process::{Command, Output};

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use studios_tests::{
    mail::mail,
    process::program,
    tenant::{PASSWORD, Tenant},
    world::World,
};

const PIER: &str = "The pier is lit at night. Ships report to the harbour office.";

pub(super) async fn studios(world: &World, it: &Tenant, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("studios"));
    command
        .args(arguments)
        .args(["--gateway", &world.url("")])
        .env("STUDIOS_TOKEN", &it.token);
    tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .expect("`make test` builds it")
}

pub(super) fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_is_run_watched_listed_and_asked_for_from_a_terminal() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let stage = json!({ "name": "say", "llm": { "model": "offline", "prompt": "{{ text }}" },
        "inputMapping": { "text": "inputs.text" } });
    let workflow = it.add_workflow(&world, "Say", json!([stage])).await;
    let input = format!("text={PIER}");
    let run = ["workflow", "run", &workflow, "--input", &input, "--watch", "--json"];
    let ran = studios(&world, &it, &run).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let told = lines(&ran);
    let ended = told.last().unwrap();
    assert_eq!(
        (&ended["status"], &ended["inputs"]["text"]),
        (&json!("EXECUTION_STATUS_COMPLETED"), &json!(PIER))
    );
    assert!(told.iter().any(|it| it["attemptRecorded"]["attempt"]["stage"] == "say"));

    let id = ended["id"].as_str().unwrap();
    let watched = studios(&world, &it, &["execution", "watch", id]).await;
    assert_eq!(watched.status.code(), Some(0), "{watched:?}");
    assert!(
        String::from_utf8_lossy(&watched.stdout).contains("completed"),
        "{watched:?}"
    );
    let listed = studios(&world, &it, &["execution", "list", &it.studio, "--json"]).await;
    assert_eq!(lines(&listed)[0]["id"], id);
    let got = studios(&world, &it, &["execution", "get", id, "--json"]).await;
    assert_eq!(lines(&got)[0]["id"], id);

    for (arguments, code, said) in [
        (vec!["execution", "get", "not an id"], 6, "id"),
        (
            vec!["execution", "get", "01900000-0000-7000-8000-00000000dead"],
            5,
            "NotFound",
        ),
        (vec!["execution", "cancel", id], 6, "EXECUTION_ENDED"),
        (vec!["execution", "get", id, "--token", "wrong"], 4, "TOKEN_INVALID"),
    ] {
        let refused = studios(&world, &it, &[arguments.as_slice(), &["--json"]].concat()).await;
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(
            stderr.contains(said) && refused.stdout.is_empty(),
            "{arguments:?}: {stderr}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_person_is_decided_from_a_terminal() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let stage = json!({ "name": "say", "llm": { "model": "offline", "prompt": PIER }, "validation": { "manual": {} }, "retryLimit": 1 });
    let workflow = it.add_workflow(&world, "Say", json!([stage])).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    let waits_for = async |attempt: i64| {
        let get = "studios.execution.v1.ExecutionService/GetExecution";
        world
            .until(get, json!({ "id": execution }), &it.token, |it| {
                it["waitingFor"]["attempt"] == attempt
            })
            .await
    };
    waits_for(1).await;
    let decide = ["execution", "decide", &execution];
    for (wrong, code) in [
        (vec!["--pass", "--fail"], 2),
        (vec![], 2),
        (vec!["--pass", "--stage", "other"], 1),
    ] {
        let refused = studios(&world, &it, &[&decide[..], &wrong].concat()).await;
        assert_eq!(refused.status.code(), Some(code), "{wrong:?}: {refused:?}");
    }
    let notes = ["--fail", "--notes", "Shorter.", "--stage", "say", "--json"];
    let failed = studios(&world, &it, &[&decide[..], &notes].concat()).await;
    assert_eq!(
        (failed.status.code(), &lines(&failed)[0]["id"]),
        (Some(0), &json!(execution)),
        "{failed:?}"
    );
    waits_for(2).await;
    let got = studios(&world, &it, &["execution", "get", &execution]).await;
    assert!(
        String::from_utf8_lossy(&got.stdout).contains("say waits for a decision"),
        "{got:?}"
    );
    let passed = studios(&world, &it, &[&decide[..], &["--pass"]].concat()).await;
    assert_eq!(passed.status.code(), Some(0), "{passed:?}");
    let watched = studios(&world, &it, &["execution", "watch", &execution]).await;
    assert_eq!(watched.status.code(), Some(0), "{watched:?}");
    let told = String::from_utf8_lossy(&watched.stdout).into_owned();
    for said in [
        "waits for a decision:",
        &format!("studios execution decide {execution} --pass | --fail"),
        &format!("attempt 1 refused by {}: Shorter.", it.user),
        &format!("attempt 2 let pass by {}", it.user),
        "completed",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
    let late = studios(&world, &it, &[&decide[..], &["--pass"]].concat()).await;
    assert_eq!(late.status.code(), Some(1), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_controlled_and_begun_again_from_a_terminal() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let gate = json!({ "name": "gate", "wait": { "signal": "go" } });
    let say = json!({ "name": "say", "llm": { "model": "offline", "prompt": PIER }, "validation": { "manual": {} } });
    let workflow = it.add_workflow(&world, "Gated", json!([gate, say])).await;
    let execution = it.start(&world, &workflow, json!({})).await;
    let ran = async |arguments: &[&str]| {
        let ran = studios(&world, &it, &[arguments, &["--json"]].concat()).await;
        assert_eq!(ran.status.code(), Some(0), "{arguments:?}: {ran:?}");
        lines(&ran)
    };
    let once = async |done: fn(&Value) -> bool| {
        let get = "studios.execution.v1.ExecutionService/GetExecution";
        world.until(get, json!({ "id": execution }), &it.token, done).await
    };
    ran(&["execution", "pause", &execution, "--reason", "lunch"]).await;
    once(|it| !it["paused"].is_null()).await;
    let shown = studios(&world, &it, &["execution", "show", &execution]).await;
    assert!(
        String::from_utf8_lossy(&shown.stdout).contains("on hold: lunch"),
        "{shown:?}"
    );
    let explained = ran(&["execution", "explain", &execution]).await;
    assert_eq!(explained[0]["reasons"][0]["kind"], "WAIT_REASON_KIND_PAUSED");
    ran(&["execution", "resume", &execution]).await;
    ran(&["execution", "signal", &execution, "go", "--payload", "{\"n\": 1}"]).await;
    once(|it| it["waitingFor"]["stage"] == "say").await;
    let waiting = ran(&["execution", "waiting", &it.company]).await;
    assert_eq!(waiting[0]["executionId"], execution);
    let told = studios(&world, &it, &["execution", "waiting", &it.company]).await;
    assert!(String::from_utf8_lossy(&told.stdout).contains("yours"), "{told:?}");

    let dry = ran(&["execution", "each", "cancel", &it.studio, "--dry-run"]).await;
    assert_eq!(dry[0]["outcome"], "CONTROL_OUTCOME_WOULD_BE_DONE");
    let each = ran(&["execution", "each", "cancel", &it.studio, "--workflow", &workflow]).await;
    assert_eq!(each[0]["outcome"], "CONTROL_OUTCOME_DONE");
    world.finished(&execution, &it.token).await;
    let retried = ran(&["execution", "retry", &execution]).await;
    assert_eq!(retried[0]["sourceId"], execution);
    let forked = ran(&["execution", "fork", &execution, "--stage", "say"]).await;
    assert_eq!(forked[0]["currentStage"], "say");
    let restarted = ran(&["execution", "restart", &execution, "--input", "x=1"]).await;
    assert_eq!(restarted[0]["inputs"], json!({ "x": 1.0 }));
    let id = forked[0]["id"].as_str().unwrap();
    let get = "studios.execution.v1.ExecutionService/GetExecution";
    world
        .until(get, json!({ "id": id }), &it.token, |it| !it["waitingFor"].is_null())
        .await;
    ran(&["execution", "decide", id, "--pass", "--notes", "fine"]).await;
    world.finished(id, &it.token).await;

    for (arguments, code, said) in [
        (vec!["execution", "resume", id], 6, "EXECUTION_ENDED"),
        (vec!["execution", "retry", id], 6, "NOT_RETRIABLE"),
        (vec!["execution", "delegate", id, &it.user], 1, "waits for no decision"),
        (vec!["execution", "signal", &execution, "a b"], 6, "name"),
    ] {
        let refused = studios(&world, &it, &[arguments.as_slice(), &["--json"]].concat()).await;
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_fails_is_a_failed_command() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let stage = json!({ "name": "say", "llm": { "model": "offline", "prompt": PIER },
        "validation": { "regex": { "pattern": "never in the text" } } });
    let workflow = it.add_workflow(&world, "Say", json!([stage])).await;
    let ran = studios(&world, &it, &["workflow", "run", &workflow, "--watch"]).await;
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stdout).contains("failed"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_and_snapshots_are_worked_with_from_a_terminal() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let say = |prompt: &str| json!([{ "name": "say", "llm": { "model": "offline", "prompt": prompt } }]);
    let workflow = it.add_workflow(&world, "Say", say("One.")).await;
    let update = json!({ "workflow": { "id": workflow, "draft": { "stages": say("Two.") } } });
    world
        .ok("studios.execution.v1.WorkflowService/UpdateWorkflow", update, &it.token)
        .await;
    let told = async |arguments: &[&str]| {
        let output = studios(&world, &it, arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        output
    };
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();

    let listed = told(&[
        "workflow",
        "list",
        &it.studio,
        "--name",
        "say",
        "--order-by",
        "name desc",
        "--json",
    ])
    .await;
    assert_eq!(lines(&listed)[0]["id"], workflow);
    let shown = text(&told(&["workflow", "show", &workflow]).await);
    assert!(
        shown.contains("version 1, edited") && shown.contains("1  say"),
        "{shown}"
    );
    let diff = text(&told(&["workflow", "diff", &workflow, "--from", "1"]).await);
    assert_eq!(
        diff,
        "~ stage say\n  - llm.prompt: \"One.\"\n  + llm.prompt: \"Two.\"\n"
    );
    let taken = told(&["snapshot", "create", &workflow, "Mine", "--keep", "--json"]).await;
    let snapshot = lines(&taken)[0]["id"].as_str().unwrap().to_owned();
    let back = text(&told(&["workflow", "rollback", &workflow, "--to", "1", "--draft-only"]).await);
    assert!(back.contains("the draft before it is the snapshot"), "{back}");
    let versions = told(&["workflow", "versions", &workflow, "--json"]).await;
    assert_eq!(lines(&versions).len(), 1);

    let compare = ["snapshot", "compare", &snapshot, "--draft-of", &workflow];
    assert!(text(&told(&compare).await).contains("+ llm.prompt: \"One.\""));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.json");
    let file = file.to_str().unwrap();
    told(&["snapshot", "export", &snapshot, "--out", file]).await;
    let import = told(&["snapshot", "import", &it.studio, file, "--name", "Theirs", "--json"]).await;
    assert_eq!(lines(&import)[0]["snapshot"]["name"], "Theirs");
    let restore = told(&["snapshot", "restore", &snapshot, "--new", "Say again", "--json"]).await;
    assert_eq!(lines(&restore)[0]["workflow"]["name"], "Say again");
    let listed = told(&["snapshot", "list", &it.studio, "--own", "--json"]).await;
    assert_eq!(lines(&listed).len(), 2);
    told(&["snapshot", "delete", &snapshot]).await;
    let gone = studios(&world, &it, &["snapshot", "show", &snapshot]).await;
    assert_eq!(gone.status.code(), Some(5), "{gone:?}");
    told(&["workflow", "delete", &workflow]).await;
    told(&["workflow", "undelete", &workflow]).await;
    let both = studios(&world, &it, &["snapshot", "restore", &snapshot, "--new", "x", "--over"]).await;
    assert_eq!(both.status.code(), Some(2), "{both:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_go_up_and_down_and_are_cleaned_up_from_a_terminal() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("pier.md"), PIER).unwrap();
    let up = studios(
        &world,
        &it,
        &["files", "upload", &it.studio, &path("pier.md"), "--json"],
    )
    .await;
    assert_eq!(up.status.code(), Some(0), "{up:?}");
    let file = lines(&up).remove(0);
    assert_eq!(
        (&file["name"], &file["mimeType"]),
        (&json!("pier.md"), &json!("text/markdown"))
    );
    let id = file["id"].as_str().unwrap();
    let down = studios(&world, &it, &["files", "download", id, &path("copy.md")]).await;
    assert_eq!(down.status.code(), Some(0), "{down:?}");
    assert_eq!(std::fs::read_to_string(path("copy.md")).unwrap(), PIER);
    let printed = studios(&world, &it, &["files", "download", id, "-"]).await;
    assert_eq!(printed.stdout, PIER.as_bytes());
    let url = studios(&world, &it, &["files", "url", id]).await;
    let url = String::from_utf8(url.stdout).unwrap();
    assert_eq!(reqwest::get(url.trim()).await.unwrap().text().await.unwrap(), PIER);

    let clean = ["files", "cleanup", &it.studio, "--least-bytes", "10"];
    let listed = async |more: &[&str]| {
        let list = [&["files", "list", &it.studio, "--json"], more].concat();
        lines(&studios(&world, &it, &list).await).len()
    };
    let dry = studios(&world, &it, &[&clean[..], &["--dry-run"]].concat()).await;
    assert!(String::from_utf8_lossy(&dry.stdout).contains("1 files"), "{dry:?}");
    assert_eq!(listed(&[]).await, 1);
    let cleaned = studios(&world, &it, &clean).await;
    assert_eq!(cleaned.status.code(), Some(0), "{cleaned:?}");
    assert_eq!((listed(&[]).await, listed(&["--deleted"]).await), (0, 1));
    let back = studios(&world, &it, &["files", "undelete", id]).await;
    assert_eq!(back.status.code(), Some(0), "{back:?}");
    assert_eq!(listed(&[]).await, 1);
    let none = studios(&world, &it, &["files", "cleanup", &it.studio]).await;
    assert_eq!(none.status.code(), Some(2), "a clean-up has a condition: {none:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_searched_from_a_terminal() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let document = it.add_document(&world, "Pier", PIER).await;
    let text = studios(&world, &it, &["files", "text", &document]).await;
    assert_eq!(text.stdout, PIER.as_bytes(), "{text:?}");
    let text = lines(&studios(&world, &it, &["files", "text", &document, "--json"]).await);
    assert_eq!(text[0]["sizeBytes"], json!(PIER.len().to_string()));
    let found = studios(&world, &it, &["search", &it.studio, "harbuor office", "--any"]).await;
    assert_eq!(found.status.code(), Some(0), "{found:?}");
    let told = String::from_utf8(found.stdout).unwrap();
    assert!(
        told.starts_with("also looked for: harbour office\n\n[1] Pier\n"),
        "{told}"
    );
    assert!(told.contains("*harbour* *office*"), "{told}");
    let none = studios(
        &world,
        &it,
        &["search", &it.studio, "zeppelin", "--tag", "none", "--json"],
    )
    .await;
    assert_eq!(lines(&none)[0]["results"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_listed_and_ended_and_mails_looked_up_from_a_terminal() {
    let world = World::start().await;
    let it = Tenant::user(&world).await;
    let sign_in = json!({ "email": it.email, "password": PASSWORD });
    for _ in 0..2 {
        let method = "studios.core.v1.AuthService/SignIn";
        world.call(method, sign_in.clone(), None).await.unwrap();
    }
    let listed = lines(&studios(&world, &it, &["account", "sessions", "--json"]).await);
    let others: Vec<_> = listed.iter().filter(|it| it["current"] == false).collect();
    assert_eq!((listed.len(), others.len()), (3, 2));
    let one = others[0]["id"].as_str().unwrap();
    let ended = studios(&world, &it, &["account", "revoke", one, "--json"]).await;
    assert_eq!(lines(&ended)[0]["ended"], one);
    let ended = studios(&world, &it, &["account", "revoke", "--others"]).await;
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "1 other session ended\n");
    let wrong = studios(&world, &it, &["account", "revoke"]).await;
    assert_eq!(wrong.status.code(), Some(2));

    mail(&world, &it.email, "Confirm your e-mail address").await;
    let mut list = Command::new(program("studios"));
    list.args(["mail", "list", "--json"])
        .env("DATABASE_URL", world.database_url.expose_secret());
    let listed = tokio::task::spawn_blocking(move || list.output())
        .await
        .unwrap()
        .unwrap();
    let mails = lines(&listed);
    assert_eq!((mails.len(), &mails[0]["kind"]), (1, &json!("verification")));
    assert!(!String::from_utf8_lossy(&listed.stdout).contains(&it.email));
}
