//! TLS at every door: the gateway's, and between the services, which show each other certificates.

use std::{
    process::{Command, Output},
    time::Duration,
};

use serde_json::json;
use studios_tests::{
    certificates::Certificates, deployment::Deployment, process::program, tenant::Tenant, world::PATIENCE,
};
use tonic::Code;

const GET_PROFILE: &str = "studios.core.v1.UserService/GetProfile";

/// TLS everywhere; core-service and execution-service ask who calls for a certificate.
async fn deployment(certificates: &Certificates) -> Deployment {
    let file = |key, name| (key, certificates.setting(name));
    let shared = [
        file("STUDIOS_TLS_CERT", "cert.pem"),
        file("STUDIOS_TLS_KEY", "key.pem"),
        file("STUDIOS_TLS_CA", "ca.pem"),
        file("STUDIOS_TLS_CLIENT_CERT", "cert.pem"),
        file("STUDIOS_TLS_CLIENT_KEY", "key.pem"),
        file("STUDIOS_CORE_TLS_CLIENT_CA", "ca.pem"),
        file("STUDIOS_EXECUTION_TLS_CLIENT_CA", "ca.pem"),
        ("STUDIOS_TLS_RELOAD_MS", "50".to_owned()),
    ];
    let mut deployment = Deployment::start(&shared, &[]).await;
    deployment.tls = certificates.client();
    deployment
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap()
}

/// Asks curl for a page that believes the authority of this file; returns the body if it was answered with 200.
async fn curl(url: &str, ca: &str, more: &[&str]) -> Option<String> {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--fail", "--max-time", "20", "--cacert", ca])
        .args(more)
        .arg(url);
    let output = run(command).await;
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tls_everywhere_a_run_completes_and_only_who_belongs_there_is_served() {
    let certificates = Certificates::make();
    let deployment = deployment(&certificates).await;
    let world = deployment.world().await;
    let it = Tenant::make(&world).await;
    let body = json!({ "workflowId": it.workflow, "inputs": { "document_ids": [it.document] } });
    let started = world
        .ok("studios.execution.v1.ExecutionService/StartExecution", body, &it.token)
        .await;
    let ended = world.finished(started["id"].as_str().unwrap(), &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED", "{ended}");

    let (ca, gateway) = (certificates.setting("ca.pem"), world.url(""));
    assert!(gateway.starts_with("https://"));
    let call = [
        "--json",
        "{}",
        "--header",
        &format!("authorization: Bearer {}", it.token),
    ];
    for version in ["--http1.1", "--http2"] {
        let answer = curl(&world.url(GET_PROFILE), &ca, &[&[version], call.as_slice()].concat()).await;
        assert!(answer.is_some_and(|it| it.contains('@')), "{version}");
        assert!(
            curl(&world.url("readyz"), &ca, &[version]).await.is_some(),
            "both services are well"
        );
    }
    let strange = Certificates::make().setting("ca.pem");
    assert_eq!(curl(&world.url("healthz"), &strange, &[]).await, None);
    assert_eq!(
        curl(&world.url("healthz").replace("https", "http"), &ca, &[]).await,
        None
    );

    // Who shows no certificate gets no answer from a service, whatever token he has.
    let mut stranger = deployment;
    stranger.tls = service_kit::client::ClientTls::default();
    let refused = stranger.world().await.refused(GET_PROFILE, json!({}), &it.token).await;
    assert!(
        matches!(refused.code(), Code::Unavailable | Code::Unknown),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_terminal_speaks_tls_with_the_authority_that_it_is_given() {
    let certificates = Certificates::make();
    let deployment = deployment(&certificates).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    let (gateway, ca) = (world.url(""), certificates.setting("ca.pem"));
    let list = ["execution", "list", &it.studio, "--token", &it.token];
    for arguments in [["doctor"].as_slice(), &list] {
        let studios = |ca: Option<&str>| {
            let mut command = Command::new(program("studios"));
            command.env_clear().args(arguments).args(["--gateway", &gateway]);
            command.args(ca.map(|ca| ["--ca", ca]).into_iter().flatten());
            run(command)
        };
        let output = studios(Some(&ca)).await;
        assert!(output.status.success(), "{output:?}");
        assert!(
            !studios(None).await.status.success(),
            "nobody told it to believe that authority"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let (before, after) = (Certificates::make(), Certificates::make());
    let deployment = deployment(&before).await;
    let health = deployment.gateway.url().join("healthz").unwrap().to_string();
    let [old, new] = [&before, &after].map(|it| it.setting("ca.pem"));
    assert!(curl(&health, &old, &[]).await.is_some());
    assert!(curl(&health, &new, &[]).await.is_none());

    after.issue(before.path("").as_path());
    let renewed = async {
        while curl(&health, &new, &[]).await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.expect("it is renewed");
}
