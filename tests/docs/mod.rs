//! What the documentation says is true: the README's commands run, `studios up` prints what scripts wait for, the demo ends as
//! it says.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use serde_json::Value;
use studios_tests::process::program;

const README: &str = include_str!("../../README.md");

/// A running `studios up`, as a script starts it. Dropping it ends it and its private PostgreSQL.
struct Up {
    child: Child,
    ready: Value,
    dir: Arc<tempfile::TempDir>,
}

impl Up {
    fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().expect("a folder can be made")))
    }

    fn start_in(dir: Arc<tempfile::TempDir>) -> Self {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(program("studios"))
            .args(["up", "--json", "--port", "0", "--dir"])
            .arg(dir.path())
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`make test` builds it");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let line = lines.next().expect("a line comes").expect("it is text");
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self { child, ready, dir }
    }

    fn url(&self, what: &str) -> &str {
        self.ready[what].as_str().expect("a URL")
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let told = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(told.is_ok_and(|it| it.success()), "studios up has ended by itself");
        let ended = self.child.wait().expect("it ends");
        assert!(ended.success(), "{ended}");
        assert!(self.dir.path().join("keys.json").exists());
    }
}

#[test]
fn up_prints_one_line_that_scripts_can_read_and_its_database_takes_psql() {
    let up = Up::start();
    assert_eq!(up.ready["ready"], true);
    for service in ["gateway", "core", "execution"] {
        assert!(up.url(service).starts_with("http://127.0.0.1:"), "{}", up.ready);
    }
    let query =
        "select string_agg(nspname, ' ' order by nspname) from pg_namespace where nspname in ('core', 'execution')";
    let output = Command::new("psql")
        .args([up.url("database_url"), "-Atc", query])
        .output()
        .expect("psql is installed");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "core execution",
        "{output:?}"
    );
}

#[test]
fn after_a_kill_9_up_starts_again_at_once_in_the_same_folder_with_what_was_there() {
    let mut up = Up::start();
    let register = r#"{"email":"kept@example.com","password":"a long enough password","fullName":"Kept User"}"#;
    assert_eq!(post(&up, "Register", register)["user"]["email"], "kept@example.com");
    let dir = Arc::clone(&up.dir);
    up.child.kill().expect("it is ours to kill");
    up.child.wait().expect("it ends");
    let again = Up::start_in(dir);
    let sign_in = r#"{"email":"kept@example.com","password":"a long enough password"}"#;
    assert_eq!(post(&again, "SignIn", sign_in)["user"]["email"], "kept@example.com");
    std::mem::forget(up);
}

fn post(up: &Up, method: &str, body: &str) -> Value {
    let url = format!("{}/studios.core.v1.AuthService/{method}", up.url("gateway"));
    let output = Command::new("curl")
        .args([
            "--silent",
            "--header",
            "content-type: application/json",
            "--data",
            body,
            &url,
        ])
        .output()
        .expect("curl is installed");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn the_demo_ends_with_one_line_of_json_about_the_run() {
    let up = Up::start();
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let mut briefs = Vec::new();
    for doc in [readme, Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/harbour.md")] {
        let output = Command::new(program("studios"))
            .args(["demo", "--json", "--gateway", up.url("gateway"), "--doc"])
            .arg(&doc)
            .output()
            .expect("`make test` builds it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let stdout = String::from_utf8_lossy(&output.stdout);
        let last: Value = serde_json::from_str(stdout.lines().last().expect("a line")).expect("JSON");
        assert_eq!(last["status"], "completed");
        assert_eq!(last["trace_id"].as_str().map(str::len), Some(32));
        assert_eq!(last["execution_id"].as_str().map(str::len), Some(36));
        let names: Vec<&str> = last["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["summary", "key_points", "brief"]);
        let first = &last["stages"][0];
        assert!(first["attempts"].is_u64() && first["duration_ms"].is_u64());
        for key in ["document_id", "chunk_id", "section"] {
            assert!(first["sources"][0][key].is_string(), "{first}");
        }
        briefs.push(last["brief"].as_str().unwrap().to_owned());
    }
    assert!(briefs.iter().all(|it| it.starts_with("# Brief")), "{briefs:?}");
    assert_ne!(briefs[0], briefs[1]);
    assert!(briefs[1].to_lowercase().contains("harbour"), "{}", briefs[1]);
}

#[test]
fn the_readmes_commands_run() {
    let up = Up::start();
    let path = format!(
        "{}:{}",
        program("").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let commands: Vec<&str> = README
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect();
    assert!(commands.len() >= 4, "the README has commands");
    // `make run` does not end, and `make test` runs this test: that their recipes exist and parse is what is looked at.
    let script = commands.concat().replace("make ", "make --dry-run ");
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env("PATH", &path)
        .env("GATEWAY", up.url("gateway"))
        .env_remove("DATABASE_URL")
        .output()
        .expect("bash is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for expected in [r#""accessToken":"#, "company.contact_email", "# Brief"] {
        assert!(said.contains(expected), "{expected} is missing:\n{said}");
    }
}

#[test]
fn a_failure_says_what_kind_it_was_by_its_exit_code() {
    let nothing = "http://127.0.0.1:1";
    for (arguments, code) in [
        (vec!["demo", "--gateway", nothing], 3),
        (vec!["demo", "--no-such-flag"], 2),
        (vec!["doctor", "--gateway", nothing], 1),
        (vec!["execution", "get", "x", "--gateway", nothing, "--token", "t"], 3),
        (
            vec![
                "workflow",
                "run",
                "x",
                "--gateway",
                nothing,
                "--token",
                "t",
                "--input",
                "no equals sign",
            ],
            2,
        ),
    ] {
        let output = Command::new(program("studios"))
            .args(&arguments)
            .arg("--json")
            .env_remove("DATABASE_URL")
            .output()
            .expect("`make test` builds it");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        if code != 1 {
            assert!(
                !output.stderr.is_empty() && output.stdout.is_empty(),
                "{arguments:?}: {output:?}"
            );
        }
    }
}
