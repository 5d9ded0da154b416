//! What is proposed and what accepting it makes.

use serde_json::{Value, json};
use studios_tests::{files, refusal::assert_reason, tenant::Tenant, world::World};
use tonic::Code;

use super::{RULES, asked, begin, call, refused};

async fn text_of(world: &World, it: &Tenant, document: &str) -> String {
    let method = "studios.core.v1.DocumentService/GetDocumentText";
    let body = json!({ "id": document });
    let there = |it: &Value| it["text"] != "";
    let found = world.until(method, body, &it.token, there).await;
    found["text"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_new_document_is_made_when_it_is_accepted_and_not_before() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    it.add_document(&world, "Returns", RULES).await;
    let session = begin(&world, &it, "").await;
    let content = "Write a short note for customers about returns and refunds";
    let request = asked(&world, &it, &session, "CREATE", content, &[]).await;
    let proposal = &request["proposal"];
    assert_eq!(
        (&proposal["decision"], &proposal["documentId"]),
        (&json!("AGENT_DECISION_UNSPECIFIED"), &json!("")),
        "{request}"
    );
    assert!(
        !proposal["text"].as_str().unwrap().contains("Offline model"),
        "{proposal}"
    );
    let documents = async || {
        let listed = world
            .ok(
                "studios.core.v1.DocumentService/ListDocuments",
                json!({ "studioId": it.studio }),
                &it.token,
            )
            .await;
        listed["documents"].as_array().unwrap().len()
    };
    assert_eq!(documents().await, 1);
    let accept = json!({ "id": request["id"], "title": "For customers" });
    let accepted = call(&world, &it, "AcceptProposal", accept.clone()).await;
    let made = accepted["proposal"]["madeDocumentId"].as_str().unwrap().to_owned();
    assert_eq!(accepted["proposal"]["decision"], "AGENT_DECISION_ACCEPTED");
    let again = call(&world, &it, "AcceptProposal", accept).await;
    assert_eq!(again["proposal"]["madeDocumentId"], json!(made), "once");
    assert_eq!(documents().await, 2);
    let document = world
        .ok(
            "studios.core.v1.DocumentService/GetDocument",
            json!({ "id": made }),
            &it.token,
        )
        .await;
    assert_eq!(
        (&document["title"], &document["createdBy"]),
        (&json!("For customers"), &json!(it.user))
    );
    assert_eq!(text_of(&world, &it, &made).await, proposal["text"].as_str().unwrap());
    let late = refused(&world, &it, "RejectProposal", json!({ "id": request["id"] })).await;
    assert_reason(&late, Code::FailedPrecondition, "PROPOSAL_DECIDED");
}

#[tokio::test]
async fn an_accepted_edit_is_a_new_version_and_a_stale_one_is_refused() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let paper = it
        .add_paper(&world, "returns.md", "text/markdown", RULES.as_bytes())
        .await;
    let note = it.add_document(&world, "Note", "We open at noon.\n").await;
    let session = begin(&world, &it, "").await;
    let change = "Replace \"30 days\" with \"60 days\"";
    let request = asked(&world, &it, &session, "EDIT", change, &[&paper]).await;
    let diff = request["proposal"]["diff"].as_str().unwrap();
    assert!(
        diff.contains("-Parcels may be sent back within 30 days.")
            && diff.contains("+Parcels may be sent back within 60 days."),
        "{request}"
    );
    assert_eq!(text_of(&world, &it, &paper).await, RULES, "nothing has changed yet");
    let other = asked(
        &world,
        &it,
        &session,
        "EDIT",
        "Remove \"Refunds come within a week.\"",
        &[&paper],
    )
    .await;

    let accepted = call(&world, &it, "AcceptProposal", json!({ "id": request["id"] })).await;
    let proposal = &accepted["proposal"];
    assert_eq!(
        (&proposal["decision"], &proposal["fileVersion"]),
        (&json!("AGENT_DECISION_ACCEPTED"), &json!(2)),
        "{accepted}"
    );
    let file = proposal["fileId"].as_str().unwrap();
    let bytes = files::download(&world, &it.token, file, 0, 0).await.unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), RULES.replace("30 days", "60 days"));
    let made = proposal["madeDocumentId"].as_str().unwrap();
    assert_eq!(text_of(&world, &it, made).await, RULES.replace("30 days", "60 days"));
    let stale = refused(&world, &it, "AcceptProposal", json!({ "id": other["id"] })).await;
    assert_reason(&stale, Code::FailedPrecondition, "STALE_PROPOSAL");
    let rejected = call(&world, &it, "RejectProposal", json!({ "id": other["id"] })).await;
    assert_eq!(rejected["proposal"]["decision"], "AGENT_DECISION_REJECTED");

    // A document without a file gets one, whose first version is the text before.
    let request = asked(
        &world,
        &it,
        &session,
        "EDIT",
        "Replace \"noon\" with \"nine\"",
        &[&note],
    )
    .await;
    let accepted = call(&world, &it, "AcceptProposal", json!({ "id": request["id"] })).await;
    let versions = world
        .ok(
            "studios.core.v1.FileService/ListFileVersions",
            json!({ "fileId": accepted["proposal"]["fileId"] }),
            &it.token,
        )
        .await;
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2, "{versions}");
    let made = accepted["proposal"]["madeDocumentId"].as_str().unwrap();
    assert_eq!(text_of(&world, &it, made).await, "We open at nine.\n");
}
