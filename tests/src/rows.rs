//! A request for every RPC, in an order in which they can be made one after the other as their own tenant. The tenancy matrix
//! and the contract test make them.

use serde_json::{Value, json};
use tonic::Code;
use uuid::Uuid;

use crate::tenant::{PASSWORD, Tenant, new_template, summary_stage};

/// Who may knock.
#[derive(Debug, Clone, Copy)]
pub enum Door {
    /// Everybody, without a token.
    Public,
    /// Users, and services acting for a user.
    Member,
    /// Services acting for a user.
    Service,
    /// Services acting for nobody.
    ServiceAlone,
    /// Operators.
    Operator,
    /// The gateway itself; the request carries its right.
    Gateway,
}

/// What an RPC reaches.
#[derive(Debug, Clone, Copy)]
pub enum Reach {
    /// The thing its request names: another tenant's is NOT_FOUND.
    Resource,
    /// What is the caller's own, or nobody's.
    Caller,
}

/// An RPC with a request for a tenant's thing.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// `package.Service/Method`.
    pub method: &'static str,
    /// Who may knock.
    pub door: Door,
    /// What it reaches.
    pub reach: Reach,
    /// The request for this tenant's thing.
    pub body: fn(&Tenant) -> Value,
    /// What its own tenant is answered.
    pub answer: Code,
}

impl Row {
    /// The state that the requests before leave a thing in refuses this one.
    const fn refused(mut self) -> Self {
        self.answer = Code::FailedPrecondition;
        self
    }

    /// What it shows opens nothing.
    const fn unauthenticated(mut self) -> Self {
        self.answer = Code::Unauthenticated;
        self
    }

    /// What it names is nobody's.
    const fn unknown(mut self) -> Self {
        self.answer = Code::NotFound;
        self
    }
}

const fn row(method: &'static str, body: fn(&Tenant) -> Value) -> Row {
    Row {
        method,
        door: Door::Member,
        reach: Reach::Resource,
        body,
        answer: Code::Ok,
    }
}

const fn caller(method: &'static str, body: fn(&Tenant) -> Value) -> Row {
    Row {
        method,
        door: Door::Member,
        reach: Reach::Caller,
        body,
        answer: Code::Ok,
    }
}

const fn public(method: &'static str, body: fn(&Tenant) -> Value) -> Row {
    Row {
        method,
        door: Door::Public,
        reach: Reach::Caller,
        body,
        answer: Code::Ok,
    }
}

const fn service(method: &'static str, body: fn(&Tenant) -> Value) -> Row {
    Row {
        method,
        door: Door::Service,
        reach: Reach::Resource,
        body,
        answer: Code::Ok,
    }
}

const fn operator(method: &'static str, body: fn(&Tenant) -> Value) -> Row {
    Row {
        method,
        door: Door::Operator,
        reach: Reach::Caller,
        body,
        answer: Code::Ok,
    }
}

const fn gateway(method: &'static str, body: fn(&Tenant) -> Value) -> Row {
    Row {
        method,
        door: Door::Gateway,
        reach: Reach::Caller,
        body,
        answer: Code::Ok,
    }
}

/// Every RPC.
pub const ROWS: &[Row] = &[
    public(
        "studios.core.v1.AuthService/Register",
        |_| json!({ "email": format!("{}@example.com", Uuid::now_v7().simple()), "password": PASSWORD, "fullName": "New User" }),
    ),
    public(
        "studios.core.v1.AuthService/SignIn",
        |it| json!({ "email": it.email, "password": PASSWORD }),
    ),
    public(
        "studios.core.v1.AuthService/Refresh",
        |it| json!({ "refreshToken": it.refresh_token }),
    ),
    public(
        "studios.core.v1.AuthService/RequestPasswordReset",
        |it| json!({ "email": it.email }),
    ),
    // Tokens come by mail; this one is none.
    public("studios.core.v1.AuthService/ConfirmEmail", |_| json!({ "token": "none" })).unauthenticated(),
    public(
        "studios.core.v1.AuthService/ResetPassword",
        |_| json!({ "token": "none", "newPassword": PASSWORD }),
    )
    .unauthenticated(),
    public("studios.core.v1.AuthService/GetJwks", |_| json!({})),
    caller("studios.core.v1.UserService/GetProfile", |_| json!({})),
    caller(
        "studios.core.v1.UserService/UpdateProfile",
        |it| json!({ "user": { "id": it.user, "fullName": "Renamed User" } }),
    ),
    caller("studios.core.v1.AccountService/SendVerification", |_| json!({})),
    caller(
        "studios.core.v1.AccountService/ChangePassword",
        |_| json!({ "currentPassword": PASSWORD, "newPassword": PASSWORD }),
    ),
    caller("studios.core.v1.AccountService/ChangeEmail", |_| {
        json!({ "password": PASSWORD, "newEmail": format!("{}@example.com", Uuid::now_v7().simple()) })
    }),
    caller("studios.core.v1.AccountService/ListSessions", |_| json!({})),
    caller(
        "studios.core.v1.AccountService/RevokeSession",
        |_| json!({ "id": Uuid::now_v7().to_string() }),
    )
    .unknown(),
    caller("studios.core.v1.AccountService/RevokeOtherSessions", |_| json!({})),
    caller(
        "studios.core.v1.AccountService/EnrolTotp",
        |_| json!({ "password": PASSWORD }),
    ),
    // What is none of six digits is never the app's.
    Row {
        answer: Code::InvalidArgument,
        ..caller(
            "studios.core.v1.AccountService/ConfirmTotp",
            |_| json!({ "code": "no code" }),
        )
    },
    caller(
        "studios.core.v1.AccountService/DisableTotp",
        |_| json!({ "password": PASSWORD }),
    ),
    caller("studios.core.v1.CompanyService/ListPlans", |_| json!({})),
    caller("studios.core.v1.CompanyService/ListCompanies", |_| json!({})),
    caller("studios.core.v1.CompanyService/CreateCompany", |it| {
        json!({ "company": { "id": it.company, "name": format!("Company {}", Uuid::now_v7()), "industryType": "INDUSTRY_TYPE_RETAIL",
            "contactEmail": "office@example.com", "headquartersAddress": "3 Pier Road, Harbour Town" } })
    }),
    row(
        "studios.core.v1.CompanyService/GetCompany",
        |it| json!({ "id": it.company }),
    ),
    row(
        "studios.core.v1.CompanyService/UpdateCompany",
        |it| json!({ "company": { "id": it.company, "name": "Renamed Works" } }),
    ),
    row(
        "studios.core.v1.CompanyService/ListMemberships",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.core.v1.CompanyService/ExplainAccess",
        |it| json!({ "companyId": it.company, "userId": it.user, "studioId": it.studio }),
    ),
    row(
        "studios.core.v1.CompanyService/RotateJoinCode",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.core.v1.CompanyService/GetJoinCode",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.core.v1.CompanyService/DeleteJoinCode",
        |it| json!({ "companyId": it.company }),
    ),
    // A code opens the door to whoever has it; this one is nobody's.
    caller(
        "studios.core.v1.CompanyService/JoinCompany",
        |_| json!({ "joinCode": "0000-0000-0000-0000" }),
    )
    .unknown(),
    caller("studios.core.v1.CompanyService/ListOwnMemberships", |_| json!({})),
    row(
        "studios.core.v1.CompanyService/ApproveMembership",
        |it| json!({ "id": it.membership }),
    )
    .refused(),
    row(
        "studios.core.v1.CompanyService/RejectMembership",
        |it| json!({ "id": it.membership }),
    )
    .refused(),
    row(
        "studios.core.v1.CompanyService/UpdateMembership",
        |it| json!({ "membership": { "id": it.membership, "role": "ROLE_ADMIN" } }),
    ),
    row(
        "studios.core.v1.CompanyService/RemoveMembership",
        |it| json!({ "id": it.membership }),
    )
    .refused(),
    row(
        "studios.core.v1.CompanyService/CreateBranch",
        |it| json!({ "branch": { "companyId": it.company, "name": format!("Branch {}", Uuid::now_v7().simple()), "address": "4 Pier Road, Harbour Town" } }),
    ),
    row(
        "studios.core.v1.CompanyService/GetBranch",
        |it| json!({ "id": it.branch }),
    ),
    row(
        "studios.core.v1.CompanyService/ListBranches",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.core.v1.CompanyService/UpdateBranch",
        |it| json!({ "branch": { "id": it.branch, "name": "South pier" } }),
    ),
    row("studios.core.v1.InvitationService/CreateInvitation", |it| {
        let email = format!("{}@example.com", Uuid::now_v7().simple());
        json!({ "invitation": { "companyId": it.company, "email": email } })
    }),
    row(
        "studios.core.v1.InvitationService/ListInvitations",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.core.v1.InvitationService/RevokeInvitation",
        |it| json!({ "id": it.invitation }),
    ),
    // Like a join code.
    caller(
        "studios.core.v1.InvitationService/AcceptInvitation",
        |_| json!({ "token": "0".repeat(40) }),
    )
    .unknown(),
    row("studios.core.v1.ApiKeyService/CreateApiKey", |it| {
        json!({ "apiKey": { "companyId": it.company, "name": format!("Key {}", Uuid::now_v7().simple()), "scopes": ["*:read"] } })
    }),
    row(
        "studios.core.v1.ApiKeyService/ListApiKeys",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.core.v1.ApiKeyService/RevokeApiKey",
        |it| json!({ "id": it.api_key }),
    ),
    row("studios.core.v1.NotificationService/CreateNotificationChannel", |it| {
        let name = format!("Channel {}", Uuid::now_v7().simple());
        json!({ "channel": { "companyId": it.company, "name": name, "kind": "NOTIFICATION_CHANNEL_KIND_WEBHOOK",
            "url": "https://hooks.example/studios", "topics": ["NOTIFICATION_TOPIC_SECURITY_EVENT"] } })
    }),
    row(
        "studios.core.v1.NotificationService/GetNotificationChannel",
        |it| json!({ "id": it.channel }),
    ),
    row(
        "studios.core.v1.NotificationService/ListNotificationChannels",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.core.v1.NotificationService/UpdateNotificationChannel",
        |it| json!({ "channel": { "id": it.channel, "name": format!("Channel {}", Uuid::now_v7().simple()) } }),
    ),
    row(
        "studios.core.v1.NotificationService/RotateNotificationSecret",
        |it| json!({ "id": it.channel }),
    )
    .refused(),
    row(
        "studios.core.v1.NotificationService/TestNotificationChannel",
        |it| json!({ "id": it.channel }),
    ),
    row(
        "studios.core.v1.NotificationService/ListNotificationDeliveries",
        |it| json!({ "channelId": it.channel }),
    ),
    row(
        "studios.core.v1.NotificationService/RedeliverNotification",
        |it| json!({ "id": it.delivery }),
    ),
    row(
        "studios.core.v1.NotificationService/DeleteNotificationChannel",
        |it| json!({ "id": it.channel }),
    ),
    row(
        "studios.core.v1.PrivacyService/GetPrivacyRequest",
        |it| json!({ "id": it.privacy_request }),
    ),
    row(
        "studios.core.v1.PrivacyService/ListPrivacyRequests",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.core.v1.PrivacyService/DownloadExport",
        |it| json!({ "id": it.privacy_request }),
    )
    .refused(),
    row(
        "studios.core.v1.PrivacyService/CreateExportUrl",
        |it| json!({ "id": it.privacy_request }),
    )
    .refused(),
    row(
        "studios.core.v1.PrivacyService/CancelPrivacyRequest",
        |it| json!({ "id": it.privacy_request }),
    ),
    row(
        "studios.core.v1.PrivacyService/RequestCompanyExport",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.core.v1.PrivacyService/RequestCompanyErasure",
        |it| json!({ "companyId": it.company, "confirmName": "Renamed Works" }),
    ),
    caller("studios.core.v1.PrivacyService/RequestUserExport", |_| json!({})),
    // He is the only admin of a company made meanwhile.
    row(
        "studios.core.v1.PrivacyService/RequestUserErasure",
        |it| json!({ "confirmUserId": it.user }),
    )
    .refused(),
    row(
        "studios.core.v1.AuditService/ListAuditEntries",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.core.v1.AuditService/ExportAuditLog",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.core.v1.AuditService/VerifyAuditLog",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.core.v1.StudioService/CreateStudio",
        |it| json!({ "studio": { "companyId": it.company, "name": format!("Studio {}", Uuid::now_v7().simple()), "businessArea": "BUSINESS_AREA_HR" } }),
    ),
    row(
        "studios.core.v1.StudioService/GetStudio",
        |it| json!({ "id": it.studio }),
    ),
    row(
        "studios.core.v1.StudioService/ListStudios",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.core.v1.StudioService/UpdateStudio",
        |it| json!({ "studio": { "id": it.studio, "description": "Everything about berths." } }),
    ),
    row(
        "studios.core.v1.DocumentService/CreateDocument",
        |it| json!({ "document": { "studioId": it.studio, "title": "Note", "mimeType": "text/plain" }, "text": "The pier is lit at night." }),
    ),
    row(
        "studios.core.v1.DocumentService/GetDocument",
        |it| json!({ "id": it.document }),
    ),
    row(
        "studios.core.v1.DocumentService/GetDocumentText",
        |it| json!({ "id": it.document }),
    ),
    row(
        "studios.core.v1.DocumentService/ListDocuments",
        |it| json!({ "studioId": it.studio }),
    ),
    row(
        "studios.core.v1.DocumentService/ListChunks",
        |it| json!({ "documentId": it.document }),
    ),
    row(
        "studios.core.v1.DocumentService/SearchChunks",
        |it| json!({ "studioId": it.studio, "query": "harbour" }),
    ),
    row(
        "studios.core.v1.DocumentService/UpdateDocument",
        |it| json!({ "document": { "id": it.document, "tags": ["berths"] } }),
    ),
    row(
        "studios.core.v1.DocumentService/ReprocessDocument",
        |it| json!({ "id": it.document }),
    ),
    row("studios.core.v1.FileService/UploadFile", |it| {
        json!({ "file": { "studioId": it.studio, "name": "note.txt", "mimeType": "text/plain", "sizeBytes": "5" }, "data": "aGVsbG8=" })
    }),
    row("studios.core.v1.FileService/CreateUpload", |it| {
        json!({ "file": { "studioId": it.studio, "name": "note.txt", "mimeType": "text/plain", "sizeBytes": "5" } })
    }),
    row(
        "studios.core.v1.FileService/GetFile",
        |it| json!({ "id": it.file }),
    ),
    row(
        "studios.core.v1.FileService/ListFiles",
        |it| json!({ "studioId": it.studio }),
    ),
    row(
        "studios.core.v1.FileService/ListFileVersions",
        |it| json!({ "fileId": it.file }),
    ),
    row(
        "studios.core.v1.FileService/DownloadFile",
        |it| json!({ "id": it.file }),
    ),
    row(
        "studios.core.v1.FileService/CreateDownloadUrl",
        |it| json!({ "id": it.file }),
    ),
    row(
        "studios.core.v1.FileService/UpdateFile",
        |it| json!({ "file": { "id": it.file, "name": "renamed.txt" } }),
    ),
    row(
        "studios.core.v1.FileService/CleanUpFiles",
        |it| json!({ "studioId": it.studio, "leastBytes": "1", "dryRun": true }),
    ),
    // A token opens the door to whoever has it; this one nobody has made.
    gateway(
        "studios.core.v1.TransferService/GetUpload",
        |_| json!({ "token": "e30.AAAA" }),
    )
    .unknown(),
    gateway(
        "studios.core.v1.TransferService/WriteUpload",
        |_| json!({ "token": "e30.AAAA", "data": "aGVsbG8=" }),
    )
    .unknown(),
    gateway(
        "studios.core.v1.TransferService/EndUpload",
        |_| json!({ "token": "e30.AAAA" }),
    )
    .unknown(),
    gateway(
        "studios.core.v1.TransferService/ReadDownload",
        |_| json!({ "token": "e30.AAAA" }),
    )
    .unknown(),
    service(
        "studios.core.v1.AccessService/CheckStudio",
        |it| json!({ "studioId": it.studio }),
    ),
    service(
        "studios.core.v1.AccessService/CheckCompany",
        |it| json!({ "companyId": it.company }),
    ),
    Row {
        method: "studios.core.v1.AccessService/CheckApiKey",
        door: Door::ServiceAlone,
        reach: Reach::Caller,
        body: |_| json!({ "hashes": ["AAAA"] }),
        answer: Code::NotFound,
    },
    Row {
        method: "studios.core.v1.AccessService/FollowEvents",
        door: Door::ServiceAlone,
        // What it tells is of all companies.
        reach: Reach::Caller,
        body: |_| json!({}),
        answer: Code::Ok,
    },
    Row {
        method: "studios.core.v1.NoticeService/ReportNotices",
        door: Door::ServiceAlone,
        // What it tells is of all companies.
        reach: Reach::Caller,
        body: |_| json!({}),
        answer: Code::Ok,
    },
    // They hand out and take what is all companies'; a service alone may ask.
    Row {
        method: "studios.core.v1.EmbeddingService/ClaimChunks",
        door: Door::ServiceAlone,
        reach: Reach::Caller,
        body: |it| json!({ "models": [{ "companyId": it.company, "model": "none/none" }], "limit": 1 }),
        answer: Code::Ok,
    },
    Row {
        method: "studios.core.v1.EmbeddingService/StoreVectors",
        door: Door::ServiceAlone,
        reach: Reach::Caller,
        body: |it| json!({ "documentId": it.document, "model": "none/none" }),
        answer: Code::Ok,
    },
    // They hand out what is asked for of everybody, and take what is done of it.
    Row {
        method: "studios.core.v1.PrivacyWorkService/ClaimPrivacyWork",
        door: Door::ServiceAlone,
        reach: Reach::Caller,
        body: |_| json!({}),
        answer: Code::Ok,
    },
    Row {
        method: "studios.core.v1.PrivacyWorkService/SubmitExport",
        door: Door::ServiceAlone,
        reach: Reach::Caller,
        body: |_| json!({ "id": Uuid::now_v7().to_string(), "last": true }),
        answer: Code::NotFound,
    },
    Row {
        method: "studios.core.v1.PrivacyWorkService/ReportErasure",
        door: Door::ServiceAlone,
        reach: Reach::Caller,
        body: |_| json!({ "id": Uuid::now_v7().to_string(), "done": true }),
        answer: Code::FailedPrecondition,
    },
    operator(
        "studios.core.v1.OperatorService/GetCompanyForOperator",
        |it| json!({ "companyId": it.company }),
    ),
    operator(
        "studios.core.v1.OperatorService/SetCompanyPlan",
        |it| json!({ "companyId": it.company, "plan": "pro" }),
    ),
    operator(
        "studios.core.v1.OperatorService/SetSubscription",
        |it| json!({ "companyId": it.company, "subscription": { "status": "SUBSCRIPTION_STATUS_ACTIVE", "renews": true } }),
    ),
    operator(
        "studios.core.v1.OperatorService/SuspendCompany",
        |it| json!({ "companyId": it.company, "reason": "a test" }),
    ),
    operator(
        "studios.core.v1.OperatorService/ResumeCompany",
        |it| json!({ "companyId": it.company }),
    ),
    operator("studios.core.v1.OperatorService/UpdatePlan", |_| {
        json!({ "plan": { "code": "enterprise", "displayName": "Enterprise", "limits": { "executionsPerMonth": "5000000",
            "concurrentExecutions": 1000, "storageBytes": "10995116277760", "tokensPerMonth": "20000000000",
            "costMicrosPerMonth": "50000000000", "members": 10000, "studios": 5000 } } })
    }),
    operator(
        "studios.core.v1.OperatorService/SetUserLimits",
        |it| json!({ "userId": it.user, "maxSnapshots": 60 }),
    ),
    row("studios.execution.v1.ConnectionService/CreateConnection", |it| {
        let name = format!("connection {}", Uuid::now_v7());
        json!({ "connection": { "companyId": it.company, "name": name, "kind": "CONNECTION_KIND_OPENAI",
            "baseUrl": "https://models.example/v1", "secret": "s", "enabled": true } })
    }),
    row(
        "studios.execution.v1.ConnectionService/GetConnection",
        |it| json!({ "id": it.connection }),
    ),
    row(
        "studios.execution.v1.ConnectionService/ListConnections",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.execution.v1.ConnectionService/UpdateConnection",
        |it| json!({ "connection": { "id": it.connection, "options": { "header": "x-key" } } }),
    ),
    row(
        "studios.execution.v1.ConnectionService/TestConnection",
        |it| json!({ "id": it.connection }),
    ),
    // Whose token this would be, nobody has configured.
    Row {
        method: "studios.core.v1.AccessService/ResolveIdentity",
        door: Door::ServiceAlone,
        reach: Reach::Caller,
        body: |_| json!({ "issuer": "https://nobody.example", "subject": "ada" }),
        answer: Code::Unauthenticated,
    },
    row("studios.execution.v1.ModelService/CreateModel", |it| {
        let name = format!("model {}", Uuid::now_v7());
        json!({ "model": { "companyId": it.company, "name": name, "provider": "offline", "providerModel": name, "contextLength": 4096 } })
    }),
    row(
        "studios.execution.v1.ModelService/GetModel",
        |it| json!({ "id": it.model }),
    ),
    row(
        "studios.execution.v1.ModelService/ListModels",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.execution.v1.ModelService/UpdateModel",
        |it| json!({ "model": { "id": it.model, "contextLength": 16384 } }),
    ),
    row(
        "studios.execution.v1.ExecutionAuditService/ListAuditEntries",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.execution.v1.ExecutionAuditService/ExportAuditLog",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.execution.v1.ExecutionAuditService/VerifyAuditLog",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.execution.v1.WorkflowService/CreateWorkflow",
        |it| json!({ "workflow": { "studioId": it.studio, "name": format!("Workflow {}", Uuid::now_v7()), "draft": { "stages": [summary_stage("offline")] } } }),
    ),
    row(
        "studios.execution.v1.WorkflowService/GetWorkflow",
        |it| json!({ "id": it.workflow }),
    ),
    row(
        "studios.execution.v1.WorkflowService/ListWorkflows",
        |it| json!({ "studioId": it.studio }),
    ),
    row(
        "studios.execution.v1.WorkflowService/UpdateWorkflow",
        |it| json!({ "workflow": { "id": it.workflow, "description": "Reads." } }),
    ),
    row(
        "studios.execution.v1.WorkflowService/ValidateWorkflow",
        |it| json!({ "id": it.workflow }),
    ),
    row(
        "studios.execution.v1.WorkflowService/PublishWorkflow",
        |it| json!({ "id": it.workflow }),
    ),
    row(
        "studios.execution.v1.WorkflowService/GetWorkflowVersion",
        |it| json!({ "workflowId": it.workflow }),
    ),
    row(
        "studios.execution.v1.WorkflowService/ListWorkflowVersions",
        |it| json!({ "workflowId": it.workflow }),
    ),
    row(
        "studios.execution.v1.WorkflowService/DiffWorkflowVersions",
        |it| json!({ "workflowId": it.workflow, "fromNumber": 1, "toDraft": {} }),
    ),
    row(
        "studios.execution.v1.WorkflowService/RollBackWorkflow",
        |it| json!({ "id": it.workflow, "number": 1 }),
    ),
    row(
        "studios.execution.v1.SnapshotService/CreateSnapshot",
        |it| json!({ "workflowId": it.workflow, "name": "Another", "keepOnDelete": true }),
    ),
    row(
        "studios.execution.v1.SnapshotService/GetSnapshot",
        |it| json!({ "id": it.snapshot }),
    ),
    row(
        "studios.execution.v1.SnapshotService/ListSnapshots",
        |it| json!({ "studioId": it.studio, "own": true }),
    ),
    row(
        "studios.execution.v1.SnapshotService/UpdateSnapshot",
        |it| json!({ "snapshot": { "id": it.snapshot, "description": "As it was." } }),
    ),
    row(
        "studios.execution.v1.SnapshotService/RestoreSnapshot",
        |it| json!({ "id": it.snapshot, "newWorkflow": { "name": format!("Restored {}", Uuid::now_v7()) } }),
    ),
    row(
        "studios.execution.v1.SnapshotService/CompareSnapshots",
        |it| json!({ "fromId": it.snapshot, "toWorkflowId": it.workflow }),
    ),
    row(
        "studios.execution.v1.SnapshotService/ExportSnapshot",
        |it| json!({ "id": it.snapshot }),
    ),
    row(
        "studios.execution.v1.SnapshotService/ImportSnapshot",
        |it| json!({ "studioId": it.studio, "content": it.snapshot_file }),
    ),
    row(
        "studios.execution.v1.TemplateService/ListTemplates",
        |it| json!({ "companyId": it.company, "owner": "TEMPLATE_OWNER_COMPANY" }),
    ),
    row(
        "studios.execution.v1.TemplateService/GetTemplate",
        |it| json!({ "id": it.template }),
    ),
    row(
        "studios.execution.v1.TemplateService/ListTemplateVersions",
        |it| json!({ "templateId": it.template }),
    ),
    row(
        "studios.execution.v1.TemplateService/RunTemplate",
        |it| json!({ "templateId": it.template, "studioId": it.studio, "inputs": { "text": "The pier is lit." }, "requestId": Uuid::now_v7().to_string() }),
    ),
    row(
        "studios.execution.v1.TemplateService/CreateTemplate",
        |it| new_template(&format!("Template {}", Uuid::now_v7()), &it.form_workflow),
    ),
    row(
        "studios.execution.v1.TemplateService/PublishTemplateVersion",
        |it| json!({ "templateId": it.template, "version": { "workflowId": it.form_workflow, "sampleInput": { "text": "The pier is lit." } } }),
    ),
    row(
        "studios.execution.v1.TemplateService/UpdateTemplate",
        |it| json!({ "template": { "id": it.template, "description": "Says a text in very few words." } }),
    ),
    row(
        "studios.execution.v1.TemplateService/CopyTemplate",
        |it| json!({ "templateId": it.template, "studioId": it.studio, "name": format!("Copy {}", Uuid::now_v7()) }),
    ),
    row(
        "studios.execution.v1.TemplateService/DeleteTemplate",
        |it| json!({ "id": it.template }),
    ),
    row(
        "studios.execution.v1.PlanService/CreatePlan",
        |it| json!({ "studioId": it.studio, "wish": { "topic": "Tides", "weeklyHours": 1 } }),
    ),
    row(
        "studios.execution.v1.PlanService/GetPlan",
        |it| json!({ "id": it.plan }),
    ),
    row(
        "studios.execution.v1.PlanService/ListPlans",
        |it| json!({ "studioId": it.studio }),
    ),
    row(
        "studios.execution.v1.PlanService/ListPlanAttempts",
        |it| json!({ "planId": it.plan }),
    ),
    row(
        "studios.execution.v1.PlanService/WatchPlan",
        |it| json!({ "id": it.plan }),
    ),
    row(
        "studios.execution.v1.PlanService/MarkPlanTask",
        |it| json!({ "planId": it.plan, "module": 1, "task": 1, "done": true }),
    ),
    row(
        "studios.execution.v1.PlanService/UpdatePlan",
        |it| json!({ "plan": { "id": it.plan, "visibility": "PLAN_VISIBILITY_PRIVATE" } }),
    ),
    // It is ready.
    row(
        "studios.execution.v1.PlanService/RetryPlan",
        |it| json!({ "id": it.plan }),
    )
    .refused(),
    row(
        "studios.execution.v1.PlanService/RegeneratePlan",
        |it| json!({ "id": it.plan }),
    ),
    row(
        "studios.execution.v1.AgentService/CreateSession",
        |it| json!({ "studioId": it.studio, "title": "Tides" }),
    ),
    row(
        "studios.execution.v1.AgentService/GetSession",
        |it| json!({ "id": it.session }),
    ),
    row(
        "studios.execution.v1.AgentService/ListSessions",
        |it| json!({ "studioId": it.studio }),
    ),
    row(
        "studios.execution.v1.AgentService/UpdateSession",
        |it| json!({ "session": { "id": it.session, "title": "Fees of ships" } }),
    ),
    row(
        "studios.execution.v1.AgentService/GetRequest",
        |it| json!({ "id": it.request }),
    ),
    row(
        "studios.execution.v1.AgentService/ListRequests",
        |it| json!({ "sessionId": it.session }),
    ),
    row(
        "studios.execution.v1.AgentService/WatchRequest",
        |it| json!({ "id": it.request }),
    ),
    // It is completed, and proposes nothing.
    row(
        "studios.execution.v1.AgentService/CancelRequest",
        |it| json!({ "id": it.request }),
    )
    .refused(),
    row(
        "studios.execution.v1.AgentService/RetryRequest",
        |it| json!({ "id": it.request }),
    )
    .refused(),
    row(
        "studios.execution.v1.AgentService/AcceptProposal",
        |it| json!({ "id": it.request }),
    )
    .refused(),
    row(
        "studios.execution.v1.AgentService/RejectProposal",
        |it| json!({ "id": it.request }),
    )
    .refused(),
    row(
        "studios.execution.v1.AgentService/SetFeedback",
        |it| json!({ "id": it.request, "feedback": { "rating": "AGENT_RATING_UP" } }),
    ),
    row(
        "studios.execution.v1.AgentService/ExportSession",
        |it| json!({ "id": it.session }),
    ),
    row(
        "studios.execution.v1.AgentService/CreateRequest",
        |it| json!({ "sessionId": it.session, "type": "AGENT_REQUEST_TYPE_RESEARCH", "content": "Is the pier lit?" }),
    ),
    row(
        "studios.execution.v1.ExecutionService/GetQuotas",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.execution.v1.ExecutionService/GetExecution",
        |it| json!({ "id": it.execution }),
    ),
    row(
        "studios.execution.v1.ExecutionService/ListExecutions",
        |it| json!({ "studioId": it.studio }),
    ),
    row(
        "studios.execution.v1.ExecutionService/ListAttempts",
        |it| json!({ "executionId": it.execution }),
    ),
    row(
        "studios.execution.v1.ExecutionService/ListExecutionFiles",
        |it| json!({ "executionId": it.execution }),
    ),
    row(
        "studios.execution.v1.ExecutionService/WaitExecution",
        |it| json!({ "id": it.execution, "timeout": "1s" }),
    ),
    row(
        "studios.execution.v1.ExecutionService/WatchExecution",
        |it| json!({ "id": it.execution }),
    ),
    row(
        "studios.execution.v1.ExecutionService/StartExecution",
        |it| json!({ "workflowId": it.workflow, "inputs": { "document_ids": [it.document] }, "requestId": Uuid::now_v7().to_string() }),
    ),
    row(
        "studios.execution.v1.ExecutionService/CancelExecution",
        |it| json!({ "id": it.execution }),
    )
    .refused(),
    row(
        "studios.execution.v1.ExecutionService/DecideAttempt",
        |it| json!({ "executionId": it.execution, "stage": "summary", "visit": 1, "attempt": 1, "decision": "DECISION_PASS" }),
    )
    .refused(),
    row(
        "studios.execution.v1.ExecutionService/DelegateDecision",
        |it| json!({ "executionId": it.execution, "attempt": { "stage": "summary", "visit": 1, "attempt": 1 }, "toUserId": it.user }),
    )
    .refused(),
    row(
        "studios.execution.v1.ExecutionService/PauseExecution",
        |it| json!({ "id": it.execution }),
    )
    .refused(),
    row(
        "studios.execution.v1.ExecutionService/ResumeExecution",
        |it| json!({ "id": it.execution }),
    )
    .refused(),
    row(
        "studios.execution.v1.ExecutionService/SendSignal",
        |it| json!({ "executionId": it.execution, "name": "go", "payload": { "n": 1 } }),
    )
    .refused(),
    row(
        "studios.execution.v1.ExecutionService/RetryExecution",
        |it| json!({ "id": it.execution, "requestId": Uuid::now_v7().to_string() }),
    )
    .refused(),
    row(
        "studios.execution.v1.ExecutionService/ForkExecution",
        |it| json!({ "id": it.execution, "stage": "summary", "requestId": Uuid::now_v7().to_string() }),
    ),
    row(
        "studios.execution.v1.ExecutionService/RestartExecution",
        |it| json!({ "id": it.execution, "requestId": Uuid::now_v7().to_string() }),
    ),
    row(
        "studios.execution.v1.ExecutionService/ControlExecutions",
        |it| json!({ "studioId": it.studio, "action": "CONTROL_ACTION_RETRY", "dryRun": true }),
    ),
    row(
        "studios.execution.v1.ExecutionService/ListWaiting",
        |it| json!({ "companyId": it.company }),
    ),
    row(
        "studios.execution.v1.ExecutionService/ExplainExecution",
        |it| json!({ "id": it.execution }),
    ),
    row(
        "studios.execution.v1.ExecutionService/TestStage",
        |it| json!({ "workflowId": it.workflow, "stage": "summary", "inputs": { "document_ids": [it.document] } }),
    ),
    row(
        "studios.execution.v1.ExecutionService/DryRunWorkflow",
        |it| json!({ "workflowId": it.workflow, "outputs": { "summary": ["Ships report."] } }),
    ),
    row(
        "studios.execution.v1.FlowService/ListFlows",
        |it| json!({ "connectionId": it.connection }),
    )
    .refused(),
    row(
        "studios.execution.v1.FlowService/ImportFlow",
        |it| json!({ "connectionId": it.connection, "flowId": "Obm4LgAFBZlmoo2Aq1vXI", "studioId": it.studio }),
    )
    .refused(),
    row(
        "studios.execution.v1.FlowService/ListFlowRuns",
        |it| json!({ "executionId": it.execution }),
    ),
    gateway("studios.execution.v1.FlowCallbackService/TakeCallback", |_| json!({ "token": "forged" })),
    service(
        "studios.execution.v1.ReplicaService/FollowRun",
        |it| json!({ "executionId": it.execution }),
    )
    .refused(),
    // Nothing is written of it.
    service(
        "studios.execution.v1.ReplicaService/FollowPlan",
        |it| json!({ "planId": it.plan }),
    )
    .refused(),
    row(
        "studios.execution.v1.AgentService/DeleteSession",
        |it| json!({ "id": it.session }),
    ),
    row(
        "studios.execution.v1.PlanService/DeletePlan",
        |it| json!({ "id": it.plan }),
    ),
    row(
        "studios.execution.v1.SnapshotService/DeleteSnapshot",
        |it| json!({ "id": it.snapshot }),
    ),
    row(
        "studios.execution.v1.WorkflowService/DeleteWorkflow",
        |it| json!({ "id": it.workflow }),
    ),
    row(
        "studios.execution.v1.WorkflowService/UndeleteWorkflow",
        |it| json!({ "id": it.workflow }),
    ),
    row(
        "studios.execution.v1.ConnectionService/DeleteConnection",
        |it| json!({ "id": it.connection }),
    ),
    row(
        "studios.execution.v1.ModelService/DeleteModel",
        |it| json!({ "id": it.model }),
    ),
    row(
        "studios.core.v1.DocumentService/DeleteDocument",
        |it| json!({ "id": it.document }),
    ),
    row(
        "studios.core.v1.FileService/DeleteFile",
        |it| json!({ "id": it.file }),
    ),
    row(
        "studios.core.v1.FileService/UndeleteFile",
        |it| json!({ "id": it.file }),
    ),
    row(
        "studios.core.v1.StudioService/DeleteStudio",
        |it| json!({ "id": it.studio }),
    ),
    row(
        "studios.core.v1.StudioService/UndeleteStudio",
        |it| json!({ "id": it.studio }),
    ),
    row(
        "studios.core.v1.CompanyService/DeleteBranch",
        |it| json!({ "id": it.branch }),
    )
    .refused(),
    // The last one: it ends the session that the others call with.
    public(
        "studios.core.v1.AuthService/SignOut",
        |it| json!({ "refreshToken": it.refresh_token }),
    ),
];
