//! Operators: what they set, through which door alone, and that every call of theirs is recorded.

use serde_json::{Value, json};
use studios_tests::{
    refusal::assert_reason,
    tenant::{Tenant, id},
    world::World,
};
use tonic::Code;

const OPERATORS: &str = "studios.core.v1.OperatorService";
const GET_COMPANY: &str = "studios.core.v1.CompanyService/GetCompany";
const LIST_WORKFLOWS: &str = "studios.execution.v1.WorkflowService/ListWorkflows";

async fn operate(world: &World, method: &str, body: Value) -> Value {
    world
        .ok(&format!("{OPERATORS}/{method}"), body, &world.operator_token())
        .await
}

#[tokio::test]
async fn operators_tokens_open_the_operators_service_at_its_own_port_and_nothing_else() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let method = format!("{OPERATORS}/GetCompanyForOperator");
    let body = json!({ "companyId": it.company });
    let (_, key) = it.add_key(&world, "Crane", &["*:*"]).await;
    for token in [
        it.token.clone(),
        key,
        world.service_token(Some(&it.user)),
        world.service_token(None),
    ] {
        let refused = world.refused(&method, body.clone(), &token).await;
        assert_reason(&refused, Code::Unauthenticated, "OPERATOR_TOKEN_REQUIRED");
    }
    for method in [
        GET_COMPANY,
        "studios.core.v1.AccessService/CheckCompany",
        LIST_WORKFLOWS,
    ] {
        let refused = world
            .call(method, json!({}), Some(&world.operator_token()))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{method}");
    }
    let relayed = reqwest::Client::new()
        .post(world.url(&method))
        .bearer_auth(world.operator_token())
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(relayed.status(), 501, "the gateway does not know it");
}

#[tokio::test]
async fn an_operator_sets_plan_and_subscription_and_both_are_felt() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let studio =
        |name: &str| json!({ "studio": { "companyId": it.company, "name": name, "businessArea": "BUSINESS_AREA_HR" } });
    let create = "studios.core.v1.StudioService/CreateStudio";
    for name in ["Second", "Third studio"] {
        world.ok(create, studio(name), &it.token).await;
    }
    let full = world.refused(create, studio("Fourth"), &it.token).await;
    assert_reason(&full, Code::ResourceExhausted, "STUDIO_QUOTA_EXCEEDED");
    let company = operate(
        &world,
        "SetCompanyPlan",
        json!({ "companyId": it.company, "plan": "pro" }),
    )
    .await;
    assert_eq!((&company["plan"], id(&company)), (&json!("pro"), it.company.clone()));
    world.ok(create, studio("Fourth"), &it.token).await;
    let unknown = json!({ "companyId": it.company, "plan": "gold" });
    let unknown = world
        .refused(&format!("{OPERATORS}/SetCompanyPlan"), unknown, &world.operator_token())
        .await;
    assert_eq!(unknown.code(), Code::InvalidArgument);

    let subscription = json!({ "status": "SUBSCRIPTION_STATUS_CANCELLED", "periodStartTime": "2026-01-01T00:00:00Z",
        "periodEndTime": "2027-01-01T00:00:00Z", "renews": false, "suspended": false });
    let body = json!({ "companyId": it.company, "subscription": subscription });
    operate(&world, "SetSubscription", body).await;
    let seen = world.ok(GET_COMPANY, json!({ "id": it.company }), &it.token).await;
    assert_eq!(seen["subscription"], subscription);
    let told = world
        .ok(
            "studios.core.v1.AccessService/CheckCompany",
            json!({ "companyId": it.company }),
            &world.service_token(Some(&it.user)),
        )
        .await;
    assert_eq!(
        (&told["subscription"], &told["plan"]["code"]),
        (&subscription, &json!("pro"))
    );
    let limits = json!({ "userId": it.user, "maxSnapshots": 3 });
    assert_eq!(operate(&world, "SetUserLimits", limits).await["maxSnapshots"], 3);
}

#[tokio::test]
async fn in_a_suspended_company_nothing_is_reached_until_it_goes_on() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    let (_, key) = it.add_key(&world, "Crane", &["*:read"]).await;
    let note = json!({ "document": { "studioId": it.studio, "title": "For all", "mimeType": "text/plain",
        "accessLevel": "ACCESS_LEVEL_COMPANY" }, "text": "The pier is lit at night." });
    let note = world
        .ok("studios.core.v1.DocumentService/CreateDocument", note, &it.token)
        .await;
    let calls = [
        (
            "studios.core.v1.DocumentService/GetDocument",
            json!({ "id": note["id"] }),
        ),
        ("studios.core.v1.StudioService/GetStudio", json!({ "id": it.studio })),
        (
            "studios.core.v1.DocumentService/ListDocuments",
            json!({ "studioId": it.studio }),
        ),
        (
            "studios.core.v1.CompanyService/ListMemberships",
            json!({ "companyId": it.company }),
        ),
        (LIST_WORKFLOWS, json!({ "studioId": it.studio })),
    ];
    for (method, body) in &calls {
        world.ok(method, body.clone(), &it.token).await;
    }
    let suspend = json!({ "companyId": it.company, "reason": "an unpaid bill" });
    let company = operate(&world, "SuspendCompany", suspend).await;
    assert_eq!(company["subscription"]["suspended"], true);
    for (method, body) in &calls {
        let begun = std::time::Instant::now();
        for token in [&it.token, &key] {
            while world.call(method, body.clone(), Some(token)).await.is_ok() {
                assert!(begun.elapsed().as_millis() < 1000, "{method} is still answered");
            }
            let refused = world.refused(method, body.clone(), token).await;
            assert_eq!(refused.code(), Code::NotFound, "{method}");
        }
    }
    let own = world.ok(GET_COMPANY, json!({ "id": it.company }), &it.token).await;
    assert_eq!(own["subscription"]["suspended"], true, "its members are told");

    operate(&world, "ResumeCompany", json!({ "companyId": it.company })).await;
    for (method, body) in &calls {
        let body = body.clone();
        let asked = async {
            while world.call(method, body.clone(), Some(&it.token)).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), asked)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn every_call_of_an_operators_is_in_the_log_of_the_company() {
    let world = World::start().await;
    let it = Tenant::with_studio(&world).await;
    operate(&world, "GetCompanyForOperator", json!({ "companyId": it.company })).await;
    operate(
        &world,
        "SuspendCompany",
        json!({ "companyId": it.company, "reason": "a look" }),
    )
    .await;
    operate(&world, "ResumeCompany", json!({ "companyId": it.company })).await;
    let body = json!({ "companyId": it.company, "pageSize": 3 });
    let log = world
        .ok("studios.core.v1.AuditService/ListAuditEntries", body.clone(), &it.token)
        .await;
    let entries = log["entries"].as_array().unwrap();
    let actions: Vec<_> = entries.iter().map(|it| it["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "OperatorService.ResumeCompany",
            "OperatorService.SuspendCompany",
            "OperatorService.GetCompanyForOperator"
        ]
    );
    for entry in entries {
        assert_eq!(entry["actorKind"], "AUDIT_ACTOR_KIND_OPERATOR");
        assert_eq!(entry["details"]["operator"], "harbour-master");
    }
    assert_eq!(entries[1]["details"]["reason"], "a look");
}
