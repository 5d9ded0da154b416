//! kill -9 of the execution-service while an agent answers, and while what it proposes is accepted.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgPool;
use studios_tests::{
    deployment::Deployment,
    locks::{hold, until_held},
    model::{Model, Reply},
    tenant::{Tenant, id},
    world::{PATIENCE, World},
};
use tokio::time::timeout;

const AGENTS: &str = "studios.execution.v1.AgentService";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_a_crash_cut_is_taken_over_and_ends_once() {
    let model = Model::start(|n, _| {
        let reply = Reply::text("# A note\n\nThe pier is lit at night.");
        reply.after(if n == 0 {
            Duration::from_hours(1)
        } else {
            Duration::ZERO
        })
    })
    .await;
    let mut deployment = Deployment::start(&[], &model.settings()).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    it.add_stub_model(&world).await;
    let session = json!({ "studioId": it.studio, "model": "stub" });
    let session = id(&world.ok(&format!("{AGENTS}/CreateSession"), session, &it.token).await);
    let asked = json!({ "sessionId": session, "type": "AGENT_REQUEST_TYPE_CREATE", "content": "Write a note" });
    let request = id(&world
        .ok(&format!("{AGENTS}/CreateRequest"), asked.clone(), &it.token)
        .await);
    timeout(PATIENCE, model.until_in_flight(1))
        .await
        .expect("the model is asked");
    deployment.lose_execution().await;
    let world = world.moved(&deployment.execution_url());
    let has_ended = |it: &Value| !it["endTime"].is_null();
    let get = format!("{AGENTS}/GetRequest");
    let ended = world.until(&get, json!({ "id": request }), &it.token, has_ended).await;
    assert_eq!(
        (&ended["status"], &ended["attempts"], &ended["proposal"]["title"]),
        (&json!("AGENT_REQUEST_STATUS_COMPLETED"), &json!(1), &json!("A note")),
        "{ended}"
    );
    assert_eq!(model.calls().len(), 2, "it is asked once more, and no more");
    let next = id(&world.ok(&format!("{AGENTS}/CreateRequest"), asked, &it.token).await);
    let next = world.until(&get, json!({ "id": next }), &it.token, has_ended).await;
    assert_eq!(
        (&next["status"], &next["number"]),
        (&json!("AGENT_REQUEST_STATUS_COMPLETED"), &json!(2))
    );
}

/// Asks an agent for something and returns the request, with what it proposes.
async fn proposed(world: &World, it: &Tenant, mut asked: Value) -> Value {
    let session = json!({ "studioId": it.studio });
    let session = world.ok(&format!("{AGENTS}/CreateSession"), session, &it.token).await;
    asked["sessionId"] = session["id"].clone();
    let request = id(&world.ok(&format!("{AGENTS}/CreateRequest"), asked, &it.token).await);
    let has_ended = |it: &Value| !it["endTime"].is_null();
    let get = format!("{AGENTS}/GetRequest");
    let ended = world.until(&get, json!({ "id": request }), &it.token, has_ended).await;
    assert!(ended["proposal"].is_object(), "{ended}");
    ended
}

/// Waits until somebody is about to accept something.
async fn until_accepting(admin: &PgPool) {
    let waits = async {
        loop {
            let found = "select exists (select from execution.agent_proposals where decision = 'accepting')";
            if sqlx::query_scalar(found)
                .fetch_one(admin)
                .await
                .expect("the database answers")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waits).await.expect("it is accepted");
}

/// Accepts what is proposed, and kills the execution-service when it has had core-service make it, before that is noted.
async fn cut_while_accepting(
    deployment: &mut Deployment,
    world: World,
    it: &Tenant,
    (admin, accept): (&PgPool, Value),
) -> World {
    // Before anything is made it reads the document that is replaced, or makes one.
    let documents = hold(admin, "core.documents").await;
    let (accepting, noted) = tokio::join!(
        async {
            let method = format!("{AGENTS}/AcceptProposal");
            timeout(PATIENCE, world.call(&method, accept, Some(&it.token))).await
        },
        async {
            until_accepting(admin).await;
            let proposals = hold(admin, "execution.agent_proposals").await;
            documents.rollback().await.expect("the database answers");
            until_held(admin, "execution.agent_proposals").await;
            deployment.crash_execution();
            proposals
        },
    );
    let answer = accepting.expect("it is cut off");
    assert!(answer.is_err(), "{answer:?}");
    noted.rollback().await.expect("the database answers");
    world.moved(&deployment.execution_url())
}

async fn accepted(world: &World, it: &Tenant, accept: Value) -> Value {
    let accepted = world.ok(&format!("{AGENTS}/AcceptProposal"), accept, &it.token).await;
    assert_eq!(
        accepted["proposal"]["decision"], "AGENT_DECISION_ACCEPTED",
        "{accepted}"
    );
    accepted["proposal"].clone()
}

/// The files of the company, their versions, and its documents.
async fn count(admin: &PgPool, it: &Tenant) -> (i64, i64, i64) {
    let count = "select (select count(*) from core.files where company_id = $1::uuid),
        (select count(*) from core.file_versions where company_id = $1::uuid),
        (select count(*) from core.documents where company_id = $1::uuid)";
    let counted = sqlx::query_as(count).bind(&it.company).fetch_one(admin).await;
    counted.expect("the database answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_for_a_proposal_is_there_once_when_a_kill_cut_its_acceptance() {
    let mut deployment = Deployment::start(&[], &[]).await;
    let world = deployment.world().await;
    let it = Tenant::with_studio(&world).await;
    let admin = world.admin().await;
    let edit = |document: &str| json!({ "type": "AGENT_REQUEST_TYPE_EDIT", "content": "Replace \"noon\" with \"nine\"", "documentIds": [document] });

    // A document with a file gets one new version of it.
    let text = "# Hours\n\nWe open at noon.\n";
    let paper = it.add_paper(&world, "hours.md", "text/markdown", text.as_bytes()).await;
    let request = proposed(&world, &it, edit(&paper)).await;
    assert_eq!(count(&admin, &it).await, (1, 1, 1));
    let accept = json!({ "id": request["id"] });
    let world = cut_while_accepting(&mut deployment, world, &it, (&admin, accept.clone())).await;
    assert_eq!(
        count(&admin, &it).await,
        (1, 2, 1),
        "the version is there, and nobody knows of it"
    );
    let proposal = accepted(&world, &it, accept).await;
    assert_eq!(proposal["fileVersion"], 2);
    assert_eq!(
        count(&admin, &it).await,
        (1, 2, 1),
        "and the document has taken the old one's place"
    );

    // One without a file gets one file with two versions.
    let note = it.add_document(&world, "Note", text).await;
    let request = proposed(&world, &it, edit(&note)).await;
    let accept = json!({ "id": request["id"] });
    let world = cut_while_accepting(&mut deployment, world, &it, (&admin, accept.clone())).await;
    assert_eq!(count(&admin, &it).await, (2, 4, 2));
    let proposal = accepted(&world, &it, accept).await;
    assert_eq!(proposal["fileVersion"], 2);
    assert_eq!(count(&admin, &it).await, (2, 4, 2));

    // A new document is made once, under whatever title it is accepted again.
    let asked = json!({ "type": "AGENT_REQUEST_TYPE_CREATE", "content": "Write a note about the hours" });
    let request = proposed(&world, &it, asked).await;
    let accept = json!({ "id": request["id"], "title": "Opening hours" });
    let world = cut_while_accepting(&mut deployment, world, &it, (&admin, accept)).await;
    assert_eq!(count(&admin, &it).await, (2, 4, 3));
    let accept = json!({ "id": request["id"], "title": "When we are open" });
    let proposal = accepted(&world, &it, accept).await;
    assert_eq!(count(&admin, &it).await, (2, 4, 3));
    let made = json!({ "id": proposal["madeDocumentId"] });
    let made = world
        .ok("studios.core.v1.DocumentService/GetDocument", made, &it.token)
        .await;
    assert_eq!(made["title"], "When we are open");
}
