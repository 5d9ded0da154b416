//! What each caller must get of an RPC, from what the RPC is: who may knock, what its request names, whether it only looks, and
//! whose business its service is. No RPC is named here where its service and its verb say it.

use serde_json::Value;
use service_kit::methods;
use studios_tests::{
    rows::{Door, Reach, Row},
    tenant::Tenant,
};
use tonic::{Code, Status};

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The admin of another company.
    OtherTenant,
    /// The same with a signature that is not one.
    Forger,
    /// Without a token.
    Nobody,
    /// A service for the admin of another company.
    ServiceForOther,
    /// A service for itself.
    ServiceForNobody,
    /// An operator.
    Operator,
    /// Who was an admin of this company.
    Inactive,
    /// A member of this company who is narrowed to a branch in which nothing is.
    Narrowed,
    /// Another company's API key with every scope.
    OthersKey,
    /// This company's key that may look at everything.
    KeyWithScope,
    /// This company's key that may look at models.
    KeyWithoutScope,
}

impl Who {
    /// Whose calls change nothing of the tenant's.
    pub(super) const OUTSIDE: [Self; 9] = [
        Self::OtherTenant,
        Self::Forger,
        Self::Nobody,
        Self::ServiceForOther,
        Self::ServiceForNobody,
        Self::Operator,
        Self::Inactive,
        Self::Narrowed,
        Self::OthersKey,
    ];
    /// Who gets in a part of the way.
    pub(super) const INSIDE: [Self; 2] = [Self::KeyWithScope, Self::KeyWithoutScope];
}

/// What must come of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expected {
    /// An error with this code.
    Refused(Code),
    /// PERMISSION_DENIED, or NOT_FOUND where even that would tell too much.
    Forbidden,
    /// Any answer that holds no id of the tenant's.
    NothingOf,
    /// Any answer that holds no id of what is in the tenant's studios.
    NothingIn,
    /// What the tenant's admin gets.
    Same(Code),
}

impl Expected {
    pub(super) fn is_met_by(self, got: &Result<Value, Status>, tenant: &Tenant) -> bool {
        let code = got.as_ref().map_or_else(Status::code, |_| Code::Ok);
        let holds = |ids: &[&String]| got.as_ref().is_ok_and(|answer| mentions(answer, ids));
        match self {
            Self::Refused(expected) | Self::Same(expected) => code == expected,
            Self::Forbidden => matches!(code, Code::PermissionDenied | Code::NotFound),
            Self::NothingOf => {
                !holds(&inside(tenant)) && !holds(&[&tenant.user, &tenant.company, &tenant.branch, &tenant.template])
            }
            Self::NothingIn => !holds(&inside(tenant)),
        }
    }
}

/// An RPC as the rules see it.
pub(super) struct Rpc {
    service: &'static str,
    method: &'static str,
    door: Door,
    reach: Reach,
    answer: Code,
    reads: bool,
    /// Whether its request names something that is in a studio.
    in_studio: bool,
}

/// Services about people, about keys, and for services and operators: no key may use them, whatever its scopes.
const CLOSED_TO_KEYS: [&str; 8] = [
    "AccountService",
    "ApiKeyService",
    "AuditService",
    "ExecutionAuditService",
    "InvitationService",
    "NotificationService",
    "PrivacyService",
    "UserService",
];

/// Services that are the admins' business altogether.
const ADMINS: [&str; 6] = [
    "ApiKeyService",
    "AuditService",
    "ExecutionAuditService",
    "InvitationService",
    "NotificationService",
    "PrivacyService",
];
/// Services in which members look and admins change.
const ADMINS_CHANGE: [&str; 3] = ["CompanyService", "ConnectionService", "ModelService"];
/// Looking that is as good as changing: at what lets people in, at why they are, at what a secret opens, and a clean-up.
const ADMINS_TOO: [&str; 4] = ["GetJoinCode", "ExplainAccess", "TestConnection", "CleanUpFiles"];
/// What whoever made a thing does with it and nobody else; the tenant's admin has made all of it.
const OWNERS: [&str; 16] = [
    "ListPlanAttempts",
    "MarkPlanTask",
    "RegeneratePlan",
    "RetryPlan",
    "GetSession",
    "UpdateSession",
    "ExportSession",
    "CreateRequest",
    "GetRequest",
    "ListRequests",
    "WatchRequest",
    "CancelRequest",
    "RetryRequest",
    "SetFeedback",
    "AcceptProposal",
    "RejectProposal",
];
/// Verbs that end or bring back a thing, which its maker and admins may; the tenant's admin has made all of it.
const MAKERS: [&str; 2] = ["Delete", "Undelete"];
/// Services whose things their makers and admins alone change.
const MAKERS_CHANGE: [&str; 5] = [
    "DocumentService",
    "FileService",
    "PlanService",
    "SnapshotService",
    "TemplateService",
];

impl Rpc {
    pub(super) fn of(row: &'static Row, body: &Value, tenant: &Tenant) -> Self {
        let (service, method) = methods::parts(row.method);
        Self {
            service: service.rsplit('.').next().unwrap(),
            method,
            door: row.door,
            reach: row.reach,
            answer: row.answer,
            reads: methods::reads(row.method),
            in_studio: mentions(body, &inside(tenant)),
        }
    }

    /// What this caller must get; none where there is nothing that he must not.
    pub(super) fn expected(&self, who: Who) -> Option<Expected> {
        Some(match (self.door, who) {
            (Door::Public | Door::Gateway, _)
            | (Door::Operator, Who::Operator)
            // What it may ask for itself is its own pass's.
            | (Door::ServiceAlone, Who::ServiceForNobody) => return None,
            (Door::Service | Door::Member, Who::ServiceForOther) | (Door::Member, Who::OtherTenant) => self.of_others(),
            (Door::Member, Who::Inactive) => match self.reach {
                Reach::Resource => Expected::Refused(Code::NotFound),
                Reach::Caller => Expected::NothingIn,
            },
            (Door::Member, Who::Narrowed) => return self.of_the_narrowed(),
            (Door::Member, Who::OthersKey | Who::KeyWithScope | Who::KeyWithoutScope) => self.of_a_key(who),
            (Door::Member, Who::Nobody | Who::Forger | Who::ServiceForNobody | Who::Operator)
            | (Door::Service | Door::ServiceAlone | Door::Operator, _) => Expected::Refused(Code::Unauthenticated),
        })
    }

    /// What a member of the company must get who is narrowed to nothing.
    pub(super) fn of_a_member(&self) -> Expected {
        if self.is_admins() {
            Expected::Forbidden
        } else {
            Expected::Same(self.answer)
        }
    }

    fn of_others(&self) -> Expected {
        match self.reach {
            Reach::Resource => Expected::Refused(Code::NotFound),
            Reach::Caller => Expected::NothingOf,
        }
    }

    /// What is in a studio of another branch is not there for him; of what is the company's he sees what members see.
    fn of_the_narrowed(&self) -> Option<Expected> {
        match self.reach {
            _ if self.is_admins() => Some(Expected::Forbidden),
            Reach::Resource if self.in_studio => Some(Expected::Refused(Code::NotFound)),
            Reach::Caller => Some(Expected::NothingIn),
            // What members change of the company's is theirs to change.
            Reach::Resource => self.reads.then_some(Expected::NothingIn),
        }
    }

    fn of_a_key(&self, who: Who) -> Expected {
        let is_closed = CLOSED_TO_KEYS.contains(&self.service) || (self.service == "CompanyService" && !self.reads);
        let is_scoped = match who {
            Who::OthersKey => true,
            Who::KeyWithScope => self.reads,
            _ => self.reads && self.service == "ModelService",
        };
        if is_closed || !is_scoped {
            return Expected::Refused(Code::PermissionDenied);
        }
        if who == Who::OthersKey {
            return self.of_others();
        }
        self.of_a_member()
    }

    fn is_admins(&self) -> bool {
        if matches!(self.reach, Reach::Caller) {
            return false;
        }
        let verb = |list: &[&str]| list.iter().any(|it| self.method.starts_with(it));
        ADMINS.contains(&self.service)
            || (ADMINS_CHANGE.contains(&self.service) && !self.reads)
            || ADMINS_TOO.contains(&self.method)
            || OWNERS.contains(&self.method)
            || verb(&MAKERS)
            || (MAKERS_CHANGE.contains(&self.service) && verb(&["Update", "Publish"]))
    }
}

/// What is in the tenant's studios.
fn inside(tenant: &Tenant) -> [&String; 10] {
    [
        &tenant.studio,
        &tenant.document,
        &tenant.file,
        &tenant.workflow,
        &tenant.form_workflow,
        &tenant.execution,
        &tenant.snapshot,
        &tenant.plan,
        &tenant.session,
        &tenant.request,
    ]
}

fn mentions(value: &Value, ids: &[&String]) -> bool {
    let text = value.to_string();
    ids.iter().any(|id| text.contains(id.as_str()))
}
