//! Templates: found, run, published, and kept apart; and what the platform's catalogue gives on its samples.

use std::collections::BTreeSet;

use futures::future::join_all;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use studios_tests::{
    process::program,
    refusal::{assert_reason, fields},
    tenant::{Tenant, id, new_template},
    world::World,
};
use tonic::Code;
use uuid::Uuid;

use super::terminal::{lines, studios};

const TEMPLATES: &str = "studios.execution.v1.TemplateService";
const WORKFLOWS: &str = "studios.execution.v1.WorkflowService";
const EXECUTIONS: &str = "studios.execution.v1.ExecutionService";
const NOBODYS: &str = "01900000-0000-7000-8000-00000000dead";

pub(super) async fn call(world: &World, it: &Tenant, method: &str, body: Value) -> Value {
    world.ok(&format!("{TEMPLATES}/{method}"), body, &it.token).await
}

async fn refused(world: &World, it: &Tenant, method: &str, body: Value) -> tonic::Status {
    world.refused(&format!("{TEMPLATES}/{method}"), body, &it.token).await
}

/// A tenant with a studio, a workflow that takes a text, and a template of it.
async fn with_template(world: &World) -> Tenant {
    let mut it = Tenant::with_studio(world).await;
    it.form_workflow = it.add_form_workflow(world, "Say it").await;
    it.template = it.add_template(world, "Say it shorter", &it.form_workflow).await;
    it
}

pub(super) fn run(it: &Tenant, template: &str, inputs: &Value) -> Value {
    json!({ "templateId": template, "studioId": it.studio, "inputs": inputs, "requestId": Uuid::now_v7().to_string() })
}

/// The platform's template of this name, with its newest version.
pub(super) async fn platforms(world: &World, it: &Tenant, name: &str) -> Value {
    let body = json!({ "companyId": it.company, "owner": "TEMPLATE_OWNER_PLATFORM", "pageSize": 100 });
    let listed = call(world, it, "ListTemplates", body).await;
    let all = listed["templates"].as_array().unwrap();
    let found = all.iter().find(|it| it["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no {name}"));
    call(world, it, "GetTemplate", json!({ "id": found["id"] })).await
}

pub(super) fn has(value: &Value, part: &str) -> bool {
    value.to_string().contains(part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogue_is_searched_by_words_area_complexity_and_tag() {
    let world = World::start().await;
    let it = with_template(&world).await;
    let names = async |extra: Value| {
        let mut body = json!({ "companyId": it.company, "pageSize": 100 });
        for (key, value) in extra.as_object().unwrap() {
            body[key] = value.clone();
        }
        let listed = call(&world, &it, "ListTemplates", body).await;
        let names = listed["templates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let all = names(json!({})).await;
    assert!(all.len() >= 15 && all.is_sorted(), "{all:?}");
    assert_eq!(
        names(json!({ "text": "invoices" })).await,
        ["Read an invoice", "Triage a support mail"],
        "words count in any form"
    );
    assert_eq!(
        names(json!({ "text": "contr fla" })).await,
        ["Contract red flags"],
        "and by their beginnings"
    );
    assert!(
        names(json!({ "text": "!:& |" })).await.len() == all.len(),
        "signs are no words"
    );
    assert_eq!(
        names(json!({ "area": "TEMPLATE_AREA_FINANCE" })).await,
        ["Read an invoice"]
    );
    assert_eq!(
        names(json!({ "complexity": "TEMPLATE_COMPLEXITY_ADVANCED" })).await,
        ["Contract red flags"]
    );
    assert_eq!(names(json!({ "tag": "short" })).await, ["Say it shorter"]);
    assert_eq!(
        names(json!({ "owner": "TEMPLATE_OWNER_COMPANY" })).await,
        ["Say it shorter"]
    );
    for area in [
        "MARKETING",
        "SALES",
        "OPERATIONS",
        "CUSTOMER_SUPPORT",
        "FINANCE",
        "HR",
        "OTHER",
    ] {
        let found = names(json!({ "area": format!("TEMPLATE_AREA_{area}"), "owner": "TEMPLATE_OWNER_PLATFORM" })).await;
        assert!(!found.is_empty(), "{area}");
    }

    for order in [
        "name",
        "name desc",
        "create_time",
        "create_time desc",
        "update_time",
        "update_time desc",
    ] {
        let (mut paged, mut token) = (Vec::new(), String::new());
        loop {
            let body = json!({ "companyId": it.company, "pageSize": 4, "pageToken": token, "orderBy": order });
            let page = call(&world, &it, "ListTemplates", body).await;
            paged.extend(page["templates"].as_array().unwrap().iter().map(id));
            token = page["nextPageToken"].as_str().unwrap().to_owned();
            if token.is_empty() {
                break;
            }
        }
        let distinct: BTreeSet<_> = paged.iter().collect();
        assert_eq!((paged.len(), distinct.len()), (all.len(), all.len()), "{order}");
    }
    let wrong = json!({ "companyId": it.company, "orderBy": "area", "area": 99 });
    assert_eq!(
        fields(&refused(&world, &it, "ListTemplates", wrong).await),
        ["area", "order_by"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_are_checked_with_their_defaults_before_anything_starts() {
    let world = World::start().await;
    let it = with_template(&world).await;
    let template = call(&world, &it, "GetTemplate", json!({ "id": it.template })).await;
    let form = template["version"]["form"]["fields"].as_array().unwrap();
    let shown: Vec<_> = form
        .iter()
        .map(|it| (it["name"].as_str().unwrap(), it["widget"].as_str().unwrap()))
        .collect();
    assert_eq!(shown, [("text", "FORM_WIDGET_TEXT"), ("tone", "FORM_WIDGET_SELECT")]);
    assert_eq!(
        (&form[0]["required"], &form[0]["sample"]),
        (&json!(true), &json!("The pier is lit at night."))
    );

    let wrong = json!({ "text": "abc", "tone": "loud", "colour": 1 });
    let status = refused(&world, &it, "RunTemplate", run(&it, &it.template, &wrong)).await;
    assert_eq!(fields(&status), ["inputs.colour", "inputs.text", "inputs.tone"]);
    let status = refused(&world, &it, "RunTemplate", run(&it, &it.template, &json!({}))).await;
    assert_eq!(fields(&status), ["inputs.text"]);
    let status = refused(
        &world,
        &it,
        "RunTemplate",
        json!({ "templateId": "x", "studioId": "y", "version": "1" }),
    )
    .await;
    assert_eq!(fields(&status), ["studio_id", "template_id", "version"]);
    let shown = json!({ "studioId": it.studio, "showTemplates": true });
    let listed = world
        .ok(&format!("{WORKFLOWS}/ListWorkflows"), shown.clone(), &it.token)
        .await;
    assert_eq!(listed["workflows"].as_array().unwrap().len(), 1, "nothing was made");

    let started = call(
        &world,
        &it,
        "RunTemplate",
        run(&it, &it.template, &json!({ "text": "The pier is lit." })),
    )
    .await;
    assert_eq!(
        started["inputs"],
        json!({ "text": "The pier is lit.", "tone": "plain" })
    );
    let ended = world.finished(&id(&started), &it.token).await;
    assert!(has(&ended["outputs"], "The pier is lit."), "{ended}");

    // Its workflow is hidden and stays as it is; a copy can be edited.
    let listed = world.ok(&format!("{WORKFLOWS}/ListWorkflows"), shown, &it.token).await;
    let made = listed["workflows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["templateId"] != "")
        .unwrap();
    assert_eq!(
        (&made["templateId"], &made["templateVersion"]),
        (&json!(it.template), &json!("1.0.0"))
    );
    let usual = world
        .ok(
            &format!("{WORKFLOWS}/ListWorkflows"),
            json!({ "studioId": it.studio }),
            &it.token,
        )
        .await;
    assert_eq!(usual["workflows"].as_array().unwrap().len(), 1);
    for (method, body) in [
        (
            "UpdateWorkflow",
            json!({ "workflow": { "id": made["id"], "name": "Mine" } }),
        ),
        ("PublishWorkflow", json!({ "id": made["id"] })),
    ] {
        let status = world.refused(&format!("{WORKFLOWS}/{method}"), body, &it.token).await;
        assert_reason(&status, Code::FailedPrecondition, "WORKFLOW_RUNS_TEMPLATE");
    }
    let copy = json!({ "templateId": it.template, "studioId": it.studio, "name": "Mine", "requestId": Uuid::now_v7().to_string() });
    let copied = call(&world, &it, "CopyTemplate", copy.clone()).await;
    assert_eq!((&copied["templateId"], &copied["name"]), (&json!(""), &json!("Mine")));
    assert_eq!(call(&world, &it, "CopyTemplate", copy).await["id"], copied["id"]);
    world
        .ok(
            &format!("{WORKFLOWS}/PublishWorkflow"),
            json!({ "id": copied["id"] }),
            &it.token,
        )
        .await;

    let other = it
        .start(&world, &it.form_workflow, json!({ "text": "The pier is lit." }))
        .await;
    let of_template = json!({ "studioId": it.studio, "templateId": it.template });
    let found = world
        .ok(&format!("{EXECUTIONS}/ListExecutions"), of_template, &it.token)
        .await;
    let ids: Vec<_> = found["executions"].as_array().unwrap().iter().map(id).collect();
    assert_eq!(ids, [id(&started)], "not {other}");
    assert_eq!(found["executions"][0]["templateVersion"], "1.0.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_who_run_a_template_first_one_makes_its_workflow() {
    let world = World::start().await;
    let it = with_template(&world).await;
    let method = format!("{TEMPLATES}/RunTemplate");
    let inputs = json!({ "text": "The pier is lit at night." });
    let runs = (0..50).map(|_| world.ok(&method, run(&it, &it.template, &inputs), &it.token));
    let started = join_all(runs).await;
    let workflows: BTreeSet<_> = started.iter().map(|it| it["workflowId"].to_string()).collect();
    let executions: BTreeSet<_> = started.iter().map(id).collect();
    assert_eq!((workflows.len(), executions.len()), (1, 50));

    let body = run(&it, &it.template, &inputs);
    let (first, again) = tokio::join!(
        world.ok(&method, body.clone(), &it.token),
        world.ok(&method, body.clone(), &it.token)
    );
    assert_eq!(first["id"], again["id"], "the same key starts once");

    // Another model is another workflow; one that there is not is the field's fault.
    let model = json!({ "model": { "companyId": it.company, "name": "house", "provider": "offline",
        "providerModel": "offline-extractive-1", "contextLength": 8192, "enabled": true } });
    world
        .ok("studios.execution.v1.ModelService/CreateModel", model, &it.token)
        .await;
    let with = |model: &str| {
        let mut body = run(&it, &it.template, &inputs);
        body["model"] = json!(model);
        body
    };
    let on_house = call(&world, &it, "RunTemplate", with("house")).await;
    assert!(!workflows.contains(&on_house["workflowId"].to_string()));
    let ended = world.finished(&id(&on_house), &it.token).await;
    assert_eq!(ended["status"], "EXECUTION_STATUS_COMPLETED");
    let attempts = world
        .ok(
            &format!("{EXECUTIONS}/ListAttempts"),
            json!({ "executionId": ended["id"] }),
            &it.token,
        )
        .await;
    assert_eq!(attempts["attempts"][0]["model"], "house");
    assert_eq!(
        fields(&refused(&world, &it, "RunTemplate", with("gone")).await),
        ["model"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_grow_and_never_change_and_outlive_the_workflow_that_they_were_made_of() {
    let world = World::start().await;
    let it = with_template(&world).await;
    let first = call(&world, &it, "GetTemplate", json!({ "id": it.template })).await;
    let stage =
        json!([{ "name": "say", "llm": { "model": "offline", "prompt": "Give a short title.\n\n{{ inputs.text }}" } }]);
    let workflow = world
        .ok(
            &format!("{WORKFLOWS}/GetWorkflow"),
            json!({ "id": it.form_workflow }),
            &it.token,
        )
        .await;
    let mut draft = workflow["draft"].clone();
    draft["stages"] = stage;
    let body = json!({ "workflow": { "id": it.form_workflow, "draft": draft } });
    world.ok(&format!("{WORKFLOWS}/UpdateWorkflow"), body, &it.token).await;
    world
        .ok(
            &format!("{WORKFLOWS}/PublishWorkflow"),
            json!({ "id": it.form_workflow }),
            &it.token,
        )
        .await;

    let sample = json!({ "text": "The pier is lit at night." });
    let version = |semver: &str| {
        json!({ "templateId": it.template, "requestId": Uuid::now_v7().to_string(), "version": {
            "workflowId": it.form_workflow, "version": semver, "sampleInput": sample,
            "outputSchema": { "type": "string", "maxLength": 3 } } })
    };
    for low in ["1.0.0", "0.9.9"] {
        let status = refused(&world, &it, "PublishTemplateVersion", version(low)).await;
        assert_eq!(fields(&status), ["version.version"], "{low}");
    }
    let body = version("");
    let made = call(&world, &it, "PublishTemplateVersion", body.clone()).await;
    assert_eq!(
        (
            &made["version"],
            &call(&world, &it, "PublishTemplateVersion", body).await["id"]
        ),
        (&json!("1.1.0"), &made["id"])
    );
    let listed = call(
        &world,
        &it,
        "ListTemplateVersions",
        json!({ "templateId": it.template }),
    )
    .await;
    let versions: Vec<_> = listed["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["version"].as_str().unwrap())
        .collect();
    assert_eq!(versions, ["1.1.0", "1.0.0"]);
    let again = call(
        &world,
        &it,
        "GetTemplate",
        json!({ "id": it.template, "version": "1.0.0" }),
    )
    .await;
    assert_eq!(again["version"], first["version"]);

    // What it gives is checked: a title of three letters there is not.
    let started = call(&world, &it, "RunTemplate", run(&it, &it.template, &sample)).await;
    let ended = world.finished(&id(&started), &it.token).await;
    assert_eq!(ended["failure"]["class"], "FAILURE_CLASS_VALIDATION", "{ended}");
    assert!(has(&ended["failure"]["message"], "output schema"), "{ended}");

    world
        .ok(
            &format!("{WORKFLOWS}/DeleteWorkflow"),
            json!({ "id": it.form_workflow }),
            &it.token,
        )
        .await;
    sqlx::query("delete from execution.workflows where id = $1::uuid")
        .bind(&it.form_workflow)
        .execute(&world.admin().await)
        .await
        .unwrap();
    let mut old = run(&it, &it.template, &sample);
    old["version"] = json!("1.0.0");
    let started = call(&world, &it, "RunTemplate", old).await;
    assert_eq!(
        world.finished(&id(&started), &it.token).await["status"],
        "EXECUTION_STATUS_COMPLETED"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_companys_templates_are_its_own_and_their_makers_and_admins_to_change() {
    let world = World::start().await;
    let (it, stranger) = (with_template(&world).await, Tenant::with_studio(&world).await);
    let (maker, other) = (Tenant::user(&world).await, Tenant::user(&world).await);
    for member in [&maker, &other] {
        it.add_member(&world, member, "ROLE_MEMBER").await;
    }

    // Nobody else sees it, and it runs in no studio of theirs, nor anything of theirs in its company's.
    let listed = call(
        &world,
        &stranger,
        "ListTemplates",
        json!({ "companyId": stranger.company, "pageSize": 100 }),
    )
    .await;
    assert!(!has(&listed, &it.template) && !has(&listed, "Say it shorter"));
    let inputs = json!({ "text": "The pier is lit." });
    for (who, studio) in [(&stranger, &stranger.studio), (&stranger, &it.studio)] {
        let body = json!({ "templateId": it.template, "studioId": studio, "inputs": inputs });
        assert_eq!(refused(&world, who, "RunTemplate", body).await.code(), Code::NotFound);
        let body = json!({ "templateId": it.template, "studioId": studio });
        assert_eq!(refused(&world, who, "CopyTemplate", body).await.code(), Code::NotFound);
    }
    let platform = platforms(&world, &stranger, "Read an invoice").await;
    let sample = &platform["version"]["sampleInput"];
    let body = json!({ "templateId": platform["id"], "studioId": it.studio, "inputs": sample });
    assert_eq!(
        refused(&world, &stranger, "RunTemplate", body).await.code(),
        Code::NotFound
    );
    let status = refused(&world, &it, "DeleteTemplate", json!({ "id": platform["id"] })).await;
    assert_reason(&status, Code::PermissionDenied, "PLATFORM_TEMPLATE");

    // A member's own is his and the admins'.
    let body = new_template("A member's", &it.form_workflow);
    let own = call(&world, &maker, "CreateTemplate", body.clone()).await;
    assert_eq!(own["createdBy"], maker.user);
    let status = refused(&world, &other, "CreateTemplate", body).await;
    assert_reason(&status, Code::AlreadyExists, "TEMPLATE_NAME_TAKEN");
    let edit = |etag: &Value| json!({ "template": { "id": own["id"], "tags": ["a", "b"], "etag": etag } });
    let status = refused(&world, &other, "UpdateTemplate", edit(&own["etag"])).await;
    assert_reason(&status, Code::PermissionDenied, "ADMIN_REQUIRED");
    let changed = call(&world, &maker, "UpdateTemplate", edit(&own["etag"])).await;
    assert_eq!(changed["tags"], json!(["a", "b"]));
    let status = refused(&world, &it, "UpdateTemplate", edit(&own["etag"])).await;
    assert_reason(&status, Code::Aborted, "ETAG_MISMATCH");

    // One that is off is not run; one that is deleted is gone, and what ran stays.
    let off = |active: bool| json!({ "template": { "id": it.template, "active": active }, "updateMask": "active" });
    call(&world, &it, "UpdateTemplate", off(false)).await;
    let status = refused(&world, &it, "RunTemplate", run(&it, &it.template, &inputs)).await;
    assert_reason(&status, Code::FailedPrecondition, "TEMPLATE_INACTIVE");
    call(&world, &it, "UpdateTemplate", off(true)).await;
    let started = call(&world, &it, "RunTemplate", run(&it, &it.template, &inputs)).await;
    call(&world, &it, "DeleteTemplate", json!({ "id": it.template })).await;
    let status = refused(&world, &it, "RunTemplate", run(&it, &it.template, &inputs)).await;
    assert_eq!(status.code(), Code::NotFound);
    let ended = world.finished(&id(&started), &it.token).await;
    assert_eq!(
        (&ended["status"], &ended["templateId"]),
        (&json!("EXECUTION_STATUS_COMPLETED"), &json!(it.template))
    );
    it.add_template(&world, "Say it shorter", &it.form_workflow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_without_a_form_makes_no_template_nor_one_with_a_wrong_sample() {
    let world = World::start().await;
    let it = with_template(&world).await;
    let plain = it
        .add_workflow(
            &world,
            "Plain",
            json!([{ "name": "say", "llm": { "model": "offline", "prompt": "Say." } }]),
        )
        .await;
    let status = refused(&world, &it, "CreateTemplate", new_template("Plain", &plain)).await;
    assert_eq!(fields(&status), ["version.workflow_id"]);
    let mut bad = new_template("Bad sample", &it.form_workflow);
    bad["version"]["sampleInput"] = json!({ "text": 7, "more": 1 });
    let status = refused(&world, &it, "CreateTemplate", bad).await;
    assert_eq!(
        fields(&status),
        ["version.sample_input.more", "version.sample_input.text"]
    );
    let status = refused(&world, &it, "CreateTemplate", new_template("Nobody's", NOBODYS)).await;
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_workflow_that_runs_a_template_is_erased_like_any_other_and_made_anew() {
    let world = World::start().await;
    let it = with_template(&world).await;
    let inputs = json!({ "text": "The pier is lit at night." });
    let started = call(&world, &it, "RunTemplate", run(&it, &it.template, &inputs)).await;
    world.finished(&id(&started), &it.token).await;
    let workflow = &started["workflowId"];
    world
        .ok(
            &format!("{WORKFLOWS}/DeleteWorkflow"),
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    let again = call(&world, &it, "RunTemplate", run(&it, &it.template, &inputs)).await;
    assert_ne!(&again["workflowId"], workflow);
    let status = world
        .refused(
            &format!("{WORKFLOWS}/UndeleteWorkflow"),
            json!({ "id": workflow }),
            &it.token,
        )
        .await;
    assert_reason(&status, Code::AlreadyExists, "TEMPLATE_RUNS_ANEW");

    let admin = world.admin().await;
    sqlx::query("update execution.workflows set deleted_at = now() - interval '32 days' where id = $1::uuid")
        .bind(workflow.as_str())
        .execute(&admin)
        .await
        .unwrap();
    execution_service::workflows::erasure::erase(&admin).await.unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from execution.executions where workflow_id = $1::uuid")
        .bind(workflow.as_str())
        .fetch_one(&admin)
        .await
        .unwrap();
    assert_eq!(left, 0);
    let template = call(&world, &it, "GetTemplate", json!({ "id": it.template })).await;
    assert_eq!(template["active"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeding_again_changes_nothing_and_what_is_gone_from_the_files_is_deactivated() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let again = studios_cli::templates::seed(&world.database_url).await.unwrap();
    assert_eq!((again.made, again.renewed, again.deactivated), (0, 0, 0));
    let before = platforms(&world, &it, "Read an invoice").await;
    let admin = world.admin().await;
    for sql in [
        "update execution.template_versions v set sample_input = '{}' from execution.templates t
         where t.key = 'invoice_fields' and v.template_id = t.id",
        "insert into execution.templates (id, key, name, description, area, complexity, estimated_minutes, newest_version)
         values (gen_random_uuid(), 'gone', 'Gone', 'It is no longer there.', 'other', 'beginner', 1, '1.0.0')",
    ] {
        sqlx::query(sql).execute(&admin).await.unwrap();
    }
    let seeds = join_all((0..4).map(|_| studios_cli::templates::seed(&world.database_url))).await;
    let seeds: Vec<_> = seeds.into_iter().map(Result::unwrap).collect();
    let sum = |of: fn(&execution_service::templates::catalogue::Report) -> usize| seeds.iter().map(of).sum::<usize>();
    assert_eq!(
        (sum(|it| it.made), sum(|it| it.renewed), sum(|it| it.deactivated)),
        (0, 1, 1)
    );
    let after = platforms(&world, &it, "Read an invoice").await;
    assert_eq!(
        (&before["newestVersion"], &after["newestVersion"]),
        (&json!("1.0.0"), &json!("1.0.1"))
    );
    assert_eq!(before["version"]["sampleInput"], after["version"]["sampleInput"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_are_found_run_and_published_from_a_terminal() {
    let world = World::start().await;
    let mut it = Tenant::with_studio(&world).await;
    it.form_workflow = it.add_form_workflow(&world, "Say it").await;
    let found = studios(
        &world,
        &it,
        &["templates", "list", &it.company, "--text", "invoice", "--json"],
    )
    .await;
    let invoice = id(&lines(&found)[0]);
    let shown = studios(&world, &it, &["templates", "show", &invoice]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("Read an invoice") && shown.contains("invoice (multiline, required)"),
        "{shown}"
    );
    let run = [
        "templates",
        "run",
        &invoice,
        &it.studio,
        "--sample",
        "--watch",
        "--json",
    ];
    let ran = studios(&world, &it, &run).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    assert!(has(lines(&ran).last().unwrap(), "INV-20417"));
    let wrong = studios(&world, &it, &["templates", "run", &invoice, &it.studio]).await;
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        wrong.status.code() == Some(6) && said.contains("inputs.invoice: is required"),
        "{said}"
    );

    let publish = [
        "templates",
        "publish",
        &it.form_workflow,
        "--name",
        "Say it shorter",
        "--description",
        "Says a text in fewer words.",
        "--area",
        "other",
        "--input",
        "text=The pier is lit.",
        "--json",
    ];
    let made = studios(&world, &it, &publish).await;
    let made = lines(&made);
    let own = id(&made[0]);
    let again = [
        "templates",
        "publish",
        &it.form_workflow,
        "--template",
        &own,
        "--input",
        "text=The pier is lit.",
        "--json",
    ];
    let again = studios(&world, &it, &again).await;
    assert_eq!(lines(&again)[0]["version"], "1.1.0");
    let url = world.database_url.expose_secret();
    let mut seed = std::process::Command::new(program("studios"));
    seed.args(["templates", "seed", "--database-url", url, "--json"]);
    let seeded = tokio::task::spawn_blocking(move || seed.output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(lines(&seeded)[0]["renewed"], 0);
}
