//! A request for every RPC, in an order in which they can be made one after the other as their own tenant. The tenancy matrix
//! and the contract test make them.

use serde_json::{Value, json};
use tonic::Code;
use uuid::Uuid;

use crate::tenant::{PASSWORD, Tenant, summary_stage};

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
    /// The gateway, for whoever holds a signed URL; it serves the method to nobody.
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

/// What the gateway alone calls, here with a token that nobody has made.
const fn gateway(method: &'static str, body: fn(&Tenant) -> Value) -> Row {
    Row {
        method,
        door: Door::Gateway,
        reach: Reach::Resource,
        body,
        answer: Code::NotFound,
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
        "studios.core.v1.AuthService/SignOut",
        |it| json!({ "refreshToken": it.refresh_token }),
    ),
    public("studios.core.v1.AuthService/GetJwks", |_| json!({})),
    caller("studios.core.v1.UserService/GetProfile", |_| json!({})),
    caller(
        "studios.core.v1.UserService/UpdateProfile",
        |it| json!({ "user": { "id": it.user, "fullName": "Renamed User" } }),
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
    gateway(
        "studios.core.v1.TransferService/GetUpload",
        |_| json!({ "token": "e30.AAAA" }),
    ),
    gateway(
        "studios.core.v1.TransferService/WriteUpload",
        |_| json!({ "token": "e30.AAAA", "data": "aGVsbG8=" }),
    ),
    gateway(
        "studios.core.v1.TransferService/EndUpload",
        |_| json!({ "token": "e30.AAAA" }),
    ),
    gateway(
        "studios.core.v1.TransferService/ReadDownload",
        |_| json!({ "token": "e30.AAAA" }),
    ),
    service(
        "studios.core.v1.AccessService/CheckStudio",
        |it| json!({ "studioId": it.studio }),
    ),
    service(
        "studios.core.v1.AccessService/CheckCompany",
        |it| json!({ "companyId": it.company }),
    ),
    Row {
        method: "studios.core.v1.AccessService/FollowEvents",
        door: Door::ServiceAlone,
        // What it tells is of all companies.
        reach: Reach::Caller,
        body: |_| json!({}),
        answer: Code::Ok,
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
    service(
        "studios.execution.v1.ReplicaService/FollowRun",
        |it| json!({ "executionId": it.execution }),
    )
    .refused(),
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
];
