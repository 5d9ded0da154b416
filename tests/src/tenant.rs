//! A business with one of everything, made through the public API.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{files, world::World};

/// A company with its admin and one of everything.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// The admin's access token.
    pub token: String,
    /// The admin's refresh token.
    pub refresh_token: String,
    /// The admin.
    pub user: String,
    /// His e-mail.
    pub email: String,
    /// The company.
    pub company: String,
    /// The admin's membership.
    pub membership: String,
    /// Its branch.
    pub branch: String,
    /// Its studio.
    pub studio: String,
    /// The studio's processed document.
    pub document: String,
    /// The studio's file.
    pub file: String,
    /// The company's model.
    pub model: String,
    /// The company's connection.
    pub connection: String,
    /// The studio's published workflow.
    pub workflow: String,
    /// A finished execution of it.
    pub execution: String,
    /// A snapshot of it.
    pub snapshot: String,
    /// The same as a file, in base64.
    pub snapshot_file: String,
    /// The id of its API key.
    pub api_key: String,
    /// A channel of mails, which nobody with a verified address gets.
    pub channel: String,
    /// A delivery on it that was dropped.
    pub delivery: String,
    /// The id of an open invitation.
    pub invitation: String,
    /// A published workflow that takes a text.
    pub form_workflow: String,
    /// The company's template of it.
    pub template: String,
    /// The admin's plan, which the studio's members see.
    pub plan: String,
    /// The admin's agent session.
    pub session: String,
    /// What was asked of it and is answered.
    pub request: String,
    /// An export of the company that is to be made tomorrow.
    pub privacy_request: String,
}

/// The password of every test user.
pub const PASSWORD: &str = "correct horse battery staple";
/// The secret of every test connection: what it is in, it must not be in.
pub const SECRET: &str = "canary-3f9c1b7e5d2a8046-end7";
/// The service of notifications.
pub const NOTIFICATIONS: &str = "studios.core.v1.NotificationService";
const TEXT: &str = "# Harbour rules\n\nShips report to the harbour office before they enter. The harbour office gives each ship \
a berth and a time.\n\n## Fees\n\nThe fee depends on the length of the ship. A ship of 20 metres pays 40 coins a day. Fees are paid \
before the ship leaves.\n\n## Safety\n\nOpen fire is forbidden on every pier. The pier is lit at night.\n";

impl Tenant {
    /// Makes a user, and for him a company, branch, studio, document, model, workflow and a finished execution.
    pub async fn make(world: &World) -> Self {
        let mut tenant = Self::with_studio(world).await;
        tenant.document = tenant.add_document(world, "Harbour rules", TEXT).await;
        let rules = json!({ "studioId": tenant.studio, "name": "rules.md", "mimeType": "text/markdown" });
        tenant.file = id(&files::upload(world, &tenant.token, rules, TEXT.as_bytes())
            .await
            .expect("the file is taken"));
        let model = json!({ "model": { "companyId": tenant.company, "name": "house", "provider": "offline",
            "providerModel": "offline-extractive-1", "contextLength": 8192, "enabled": true } });
        tenant.model = id(&world
            .ok("studios.execution.v1.ModelService/CreateModel", model, &tenant.token)
            .await);
        tenant.connection = tenant
            .add_connection(world, "Harbour office", "http", "http://127.0.0.1:9/")
            .await;
        tenant.workflow = tenant
            .add_workflow(world, "Summary", json!([summary_stage("offline")]))
            .await;
        tenant.execution = tenant
            .start(world, &tenant.workflow, json!({ "document_ids": [tenant.document] }))
            .await;
        world.finished(&tenant.execution, &tenant.token).await;
        tenant.snapshot = tenant.take_snapshot(world, &tenant.workflow, "Kept").await;
        let file = world
            .ok(
                "studios.execution.v1.SnapshotService/ExportSnapshot",
                json!({ "id": tenant.snapshot }),
                &tenant.token,
            )
            .await;
        tenant.snapshot_file = text(&file["content"]);
        let email = format!("{}@example.com", Uuid::now_v7().simple());
        tenant.invitation = tenant.invite(world, &email, "ROLE_MEMBER").await.0;
        tenant.api_key = tenant.add_key(world, "Harbour crane", &["*:read"]).await.0;
        let channel = json!({ "name": "On call", "kind": "NOTIFICATION_CHANNEL_KIND_EMAIL", "topics": ["NOTIFICATION_TOPIC_QUOTA_REACHED"], "enabled": true });
        tenant.channel = tenant.add_channel(world, channel).await.0;
        let test = json!({ "id": tenant.channel });
        let tested = format!("{NOTIFICATIONS}/TestNotificationChannel");
        tenant.delivery = id(&world.ok(&tested, test, &tenant.token).await);
        let dropped = |it: &Value| it["deliveries"][0]["status"] == "NOTIFICATION_DELIVERY_STATUS_DROPPED";
        let list = format!("{NOTIFICATIONS}/ListNotificationDeliveries");
        world
            .until(&list, json!({ "channelId": tenant.channel }), &tenant.token, dropped)
            .await;
        tenant.form_workflow = tenant.add_form_workflow(world, "Say it").await;
        tenant.template = tenant
            .add_template(world, "Say it shorter", &tenant.form_workflow)
            .await;
        tenant.plan = tenant.add_plan(world).await;
        (tenant.session, tenant.request) = tenant.add_session(world).await;
        tenant.privacy_request = tenant.add_waiting_export(world).await;
        tenant
    }

    /// Makes and publishes a workflow that takes a text and a tone, which has a default.
    pub async fn add_form_workflow(&self, world: &World, name: &str) -> String {
        let schema = json!({ "type": "object", "required": ["text"], "additionalProperties": false, "properties": {
            "text": { "type": "string", "minLength": 5 },
            "tone": { "type": "string", "enum": ["plain", "warm"], "default": "plain" } } });
        let stage = json!({ "name": "say", "llm": { "model": "offline", "prompt": "Summarise in a {{ inputs.tone }} tone.\n\n{{ inputs.text }}" } });
        let body = json!({ "workflow": { "studioId": self.studio, "name": name, "draft": { "stages": [stage], "inputSchema": schema } } });
        let workflow = id(&world
            .ok("studios.execution.v1.WorkflowService/CreateWorkflow", body, &self.token)
            .await);
        world
            .ok(
                "studios.execution.v1.WorkflowService/PublishWorkflow",
                json!({ "id": workflow }),
                &self.token,
            )
            .await;
        workflow
    }

    /// Begins an agent session, asks it something and waits for the answer.
    pub async fn add_session(&self, world: &World) -> (String, String) {
        let agents = "studios.execution.v1.AgentService";
        let body = json!({ "studioId": self.studio, "title": "Fees" });
        let session = id(&world.ok(&format!("{agents}/CreateSession"), body, &self.token).await);
        let body = json!({ "sessionId": session, "type": "AGENT_REQUEST_TYPE_RESEARCH", "content": "Which fee does a ship pay?" });
        let request = id(&world.ok(&format!("{agents}/CreateRequest"), body, &self.token).await);
        let answered = |it: &Value| it["status"] == "AGENT_REQUEST_STATUS_COMPLETED";
        let body = json!({ "id": request });
        world
            .until(&format!("{agents}/GetRequest"), body, &self.token, answered)
            .await;
        (session, request)
    }

    /// Has an export of the company wait for a day.
    async fn add_waiting_export(&self, world: &World) -> String {
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into core.privacy_requests (id, kind, company_id, requested_by, due_at)
             values ($1, 'export', $2::uuid, $3::uuid, now() + interval '1 day')",
        )
        .bind(id)
        .bind(&self.company)
        .bind(&self.user)
        .execute(&world.admin().await)
        .await
        .expect("the company has none");
        id.to_string()
    }

    /// Has a public plan written and waits until it is.
    pub async fn add_plan(&self, world: &World) -> String {
        let body = json!({ "studioId": self.studio, "visibility": "PLAN_VISIBILITY_PUBLIC",
            "wish": { "topic": "Mooring", "notes": "bollards, knots", "weeklyHours": 2 } });
        let plan = id(&world
            .ok("studios.execution.v1.PlanService/CreatePlan", body, &self.token)
            .await);
        let ready = |it: &Value| it["status"] == "PLAN_STATUS_READY";
        let body = json!({ "id": plan });
        world
            .until("studios.execution.v1.PlanService/GetPlan", body, &self.token, ready)
            .await;
        plan
    }

    /// Makes a template of such a workflow.
    pub async fn add_template(&self, world: &World, name: &str, workflow: &str) -> String {
        let body = new_template(name, workflow);
        id(&world
            .ok("studios.execution.v1.TemplateService/CreateTemplate", body, &self.token)
            .await)
    }

    /// Makes a user with a company, a branch and a studio, and nothing in it.
    pub async fn with_studio(world: &World) -> Self {
        let mut tenant = Self::user(world).await;
        let company = json!({ "company": { "name": "Harbour Works", "industryType": "INDUSTRY_TYPE_OTHER",
            "contactEmail": "office@example.com", "headquartersAddress": "1 Pier Road, Harbour Town" } });
        tenant.company = id(&world
            .ok("studios.core.v1.CompanyService/CreateCompany", company, &tenant.token)
            .await);
        let own = world
            .ok(
                "studios.core.v1.CompanyService/ListOwnMemberships",
                json!({}),
                &tenant.token,
            )
            .await;
        tenant.membership = id(&own["memberships"][0]);
        let branch = json!({ "branch": { "companyId": tenant.company, "name": "North pier", "address": "2 Pier Road, Harbour Town" } });
        tenant.branch = id(&world
            .ok("studios.core.v1.CompanyService/CreateBranch", branch, &tenant.token)
            .await);
        let studio = json!({ "studio": { "companyId": tenant.company, "branchId": tenant.branch, "name": "Operations studio",
            "businessArea": "BUSINESS_AREA_OPERATIONS" } });
        tenant.studio = id(&world
            .ok("studios.core.v1.StudioService/CreateStudio", studio, &tenant.token)
            .await);
        tenant
    }

    /// Makes a user who belongs to no company.
    pub async fn user(world: &World) -> Self {
        let email = format!("{}@example.com", Uuid::now_v7().simple());
        let body = json!({ "email": email, "password": PASSWORD, "fullName": "Test User" });
        let session = world
            .call("studios.core.v1.AuthService/Register", body, None)
            .await
            .expect("registers");
        Self {
            token: text(&session["accessToken"]),
            refresh_token: text(&session["refreshToken"]),
            user: text(&session["user"]["id"]),
            email,
            company: String::new(),
            membership: String::new(),
            branch: String::new(),
            studio: String::new(),
            document: String::new(),
            file: String::new(),
            model: String::new(),
            connection: String::new(),
            workflow: String::new(),
            execution: String::new(),
            snapshot: String::new(),
            snapshot_file: String::new(),
            api_key: String::new(),
            channel: String::new(),
            delivery: String::new(),
            invitation: String::new(),
            form_workflow: String::new(),
            template: String::new(),
            plan: String::new(),
            session: String::new(),
            request: String::new(),
            privacy_request: String::new(),
        }
    }

    /// Makes another user a member of the company, by its join code.
    pub async fn add_member(&self, world: &World, user: &Self, role: &str) -> String {
        let code = world
            .ok(
                "studios.core.v1.CompanyService/RotateJoinCode",
                json!({ "companyId": self.company }),
                &self.token,
            )
            .await;
        let asked = json!({ "joinCode": code["code"] });
        let membership = world
            .ok("studios.core.v1.CompanyService/JoinCompany", asked, &user.token)
            .await;
        let approved = json!({ "id": membership["id"], "role": role });
        world
            .ok(
                "studios.core.v1.CompanyService/ApproveMembership",
                approved,
                &self.token,
            )
            .await;
        id(&membership)
    }

    /// Invites an address; returns the invitation's id and what accepts it.
    pub async fn invite(&self, world: &World, email: &str, role: &str) -> (String, String) {
        let body = json!({ "invitation": { "companyId": self.company, "email": email, "role": role } });
        let made = world
            .ok("studios.core.v1.InvitationService/CreateInvitation", body, &self.token)
            .await;
        (id(&made["invitation"]), text(&made["token"]))
    }

    /// Gives the company an API key; returns its id and its text.
    pub async fn add_key(&self, world: &World, name: &str, scopes: &[&str]) -> (String, String) {
        let body = json!({ "apiKey": { "companyId": self.company, "name": name, "scopes": scopes } });
        let made = world
            .ok("studios.core.v1.ApiKeyService/CreateApiKey", body, &self.token)
            .await;
        (id(&made["apiKey"]), text(&made["key"]))
    }

    /// Gives the company a channel of notifications; returns its id and its secret.
    pub async fn add_channel(&self, world: &World, mut channel: Value) -> (String, String) {
        channel["companyId"] = json!(self.company);
        let body = json!({ "channel": channel });
        let made = world
            .ok(&format!("{NOTIFICATIONS}/CreateNotificationChannel"), body, &self.token)
            .await;
        (id(&made["channel"]), text(&made["secret"]))
    }

    /// Gives the studio a markdown document and waits until it is processed.
    pub async fn add_document(&self, world: &World, title: &str, content: &str) -> String {
        let body = json!({ "document": { "studioId": self.studio, "title": title, "mimeType": "text/markdown" }, "text": content });
        self.processed(world, body).await
    }

    /// Uploads a file to the studio, makes a document from it and waits until it is processed.
    pub async fn add_paper(&self, world: &World, name: &str, mime_type: &str, bytes: &[u8]) -> String {
        let file = json!({ "studioId": self.studio, "name": name, "mimeType": mime_type });
        let file = id(&files::upload(world, &self.token, file, bytes)
            .await
            .expect("the file is taken"));
        let body = json!({ "document": { "studioId": self.studio, "title": name }, "fileId": file });
        self.processed(world, body).await
    }

    async fn processed(&self, world: &World, body: Value) -> String {
        let document = id(&world
            .ok("studios.core.v1.DocumentService/CreateDocument", body, &self.token)
            .await);
        let done = |it: &Value| it["status"] == "PROCESSING_STATUS_COMPLETED";
        world
            .until(
                "studios.core.v1.DocumentService/GetDocument",
                json!({ "id": document }),
                &self.token,
                done,
            )
            .await;
        document
    }

    /// Makes a connection of the company with [`SECRET`].
    pub async fn add_connection(&self, world: &World, name: &str, kind: &str, base_url: &str) -> String {
        let kind = format!("CONNECTION_KIND_{}", kind.to_uppercase());
        let connection = json!({ "companyId": self.company, "name": name, "kind": kind, "baseUrl": base_url,
            "secret": SECRET, "enabled": true });
        let body = json!({ "connection": connection });
        id(&world
            .ok(
                "studios.execution.v1.ConnectionService/CreateConnection",
                body,
                &self.token,
            )
            .await)
    }

    /// Registers the stub provider's model as the company's model `stub`.
    pub async fn add_stub_model(&self, world: &World) {
        let model = json!({ "model": { "companyId": self.company, "name": "stub", "provider": "stub",
            "providerModel": "stub-1", "contextLength": 8192, "enabled": true } });
        world
            .ok("studios.execution.v1.ModelService/CreateModel", model, &self.token)
            .await;
    }

    /// Makes and publishes a workflow of these stages.
    pub async fn add_workflow(&self, world: &World, name: &str, stages: Value) -> String {
        let body = json!({ "workflow": { "studioId": self.studio, "name": name, "draft": { "stages": stages } } });
        let workflow = id(&world
            .ok("studios.execution.v1.WorkflowService/CreateWorkflow", body, &self.token)
            .await);
        world
            .ok(
                "studios.execution.v1.WorkflowService/PublishWorkflow",
                json!({ "id": workflow }),
                &self.token,
            )
            .await;
        workflow
    }

    /// Takes a snapshot of a workflow's draft and returns its id.
    pub async fn take_snapshot(&self, world: &World, workflow: &str, name: &str) -> String {
        let body = json!({ "workflowId": workflow, "name": name });
        id(&world
            .ok("studios.execution.v1.SnapshotService/CreateSnapshot", body, &self.token)
            .await)
    }

    /// Starts a workflow and returns the execution's id.
    pub async fn start(&self, world: &World, workflow: &str, inputs: Value) -> String {
        let body = json!({ "workflowId": workflow, "inputs": inputs, "requestId": Uuid::now_v7().to_string() });
        id(&world
            .ok(
                "studios.execution.v1.ExecutionService/StartExecution",
                body,
                &self.token,
            )
            .await)
    }
}

/// A request for a template of a workflow that takes a text.
pub fn new_template(name: &str, workflow: &str) -> Value {
    json!({
        "template": { "name": name, "description": "Says a text in fewer words.", "area": "TEMPLATE_AREA_OTHER",
            "complexity": "TEMPLATE_COMPLEXITY_BEGINNER", "estimatedMinutes": 2, "tags": ["short"] },
        "version": { "workflowId": workflow, "sampleInput": { "text": "The pier is lit at night." } },
    })
}

/// A stage that summarises the documents named in the inputs.
pub fn summary_stage(model: &str) -> Value {
    json!({ "name": "summary", "llm": { "model": model, "prompt": "Summarise the passages.\n\n{{ chunks }}",
        "retrieval": { "limit": 20, "documentIdsPath": "inputs.document_ids" } } })
}

/// The id of a resource.
pub fn id(resource: &Value) -> String {
    text(&resource["id"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
