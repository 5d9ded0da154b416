//! What the live database's catalogue must say for tenants to be apart, as rules over it. Each is proved able to fail: a
//! statement that breaks it, in a transaction that is rolled back, must make the rule name what was made. What stands outside
//! of a rule does so by its name and with a reason, and only while it has to.

mod rules;

use secrecy::ExposeSecret;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use studios_tests::{call, cluster::TestCluster};

use self::rules::{RULES, Rule};

async fn connect() -> PgConnection {
    let url = TestCluster::get().await.database().await;
    PgConnection::connect(url.expose_secret()).await.unwrap()
}

/// What the rule has to say of the database: faults that are no exceptions, and exceptions that are no faults.
async fn verdict(rule: &Rule, connection: &mut PgConnection) -> Vec<String> {
    let found: Vec<String> = sqlx::query_scalar(rule.faults).fetch_all(connection).await.unwrap();
    let excused = |fault: &String| rule.exceptions.iter().any(|(name, _)| name == fault);
    let idle = rule.exceptions.iter().map(|(name, _)| (*name).to_owned());
    let idle = idle
        .filter(|name| !found.contains(name))
        .map(|name| format!("{name}: an exception that is not needed"))
        .collect::<Vec<_>>();
    found.into_iter().filter(|fault| !excused(fault)).chain(idle).collect()
}

#[tokio::test]
async fn the_live_catalogue_breaks_no_rule() {
    breaks_no_rule(&mut connect().await).await;
}

#[tokio::test]
async fn the_catalogue_of_a_newer_postgresql_with_pgvector_breaks_no_rule() {
    let url = TestCluster::newer().await.database().await;
    let mut admin = PgConnection::connect(url.expose_secret()).await.unwrap();
    breaks_no_rule(&mut admin).await;
}

async fn breaks_no_rule(admin: &mut PgConnection) {
    let mut broken = Vec::new();
    for rule in RULES {
        for fault in verdict(rule, admin).await {
            broken.push(format!("{}: {fault}", rule.says));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[tokio::test]
async fn every_rule_of_the_catalogue_names_what_breaks_it() {
    let mut admin = connect().await;
    for rule in RULES {
        assert!(
            !rule.offences.is_empty(),
            "{}: nothing shows that it can fail",
            rule.says
        );
        for (offence, named) in rule.offences {
            let mut tx = admin.begin().await.unwrap();
            sqlx::raw_sql(*offence).execute(&mut *tx).await.unwrap();
            let found = verdict(rule, &mut tx).await;
            assert!(
                found.iter().any(|it| it.starts_with(named)),
                "{}: {offence} went unseen: {found:?}",
                rule.says
            );
            tx.rollback().await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_exception_of_the_catalogue_that_is_not_needed_is_named() {
    let mut admin = connect().await;
    for (mended, named) in [
        (
            "alter table core.plans enable row level security, force row level security;
             create policy owner on core.plans to studios_owner using (true)",
            "core.plans: an exception",
        ),
        (
            "drop policy read on execution.instances",
            "execution.instances read: an exception",
        ),
        (
            "alter table execution.template_versions drop constraint template_versions_template_id_fkey",
            "execution.template_versions template_versions_template_id_fkey: an exception",
        ),
        (
            "revoke execute on function core.touch() from public",
            "core.touch() EXECUTE to public: an exception",
        ),
        (
            "revoke delete on execution.journal from studios_engine",
            "execution.journal DELETE to studios_engine: an exception",
        ),
    ] {
        let mut tx = admin.begin().await.unwrap();
        sqlx::raw_sql(mended).execute(&mut *tx).await.unwrap();
        let mut found = Vec::new();
        for rule in RULES {
            found.extend(verdict(rule, &mut tx).await);
        }
        assert!(
            found.len() == 1 && found[0].starts_with(named),
            "{mended}: expected {named}, got {found:?}"
        );
        tx.rollback().await.unwrap();
    }
}

/// A list of the API: the table that it reads, the columns that its caller always narrows it by, and the column of each filter
/// whose name is another. A filter without a column narrows what an index has found, for the reason beside it.
struct List {
    method: &'static str,
    table: &'static str,
    scope: &'static [&'static str],
    columns: &'static [(&'static str, Option<&'static str>)],
}

const fn list(method: &'static str, table: &'static str, scope: &'static [&'static str]) -> List {
    List {
        method,
        table,
        scope,
        columns: &[],
    }
}

const LISTS: &[List] = &[
    list(
        "AgentService/ListSessions",
        "execution.agent_sessions",
        &["company_id", "studio_id", "owner_id"],
    ),
    list("AgentService/ListRequests", "execution.agent_requests", &["company_id"]),
    list("AccountService/ListSessions", "core.sessions", &["user_id"]),
    list("ApiKeyService/ListApiKeys", "core.api_keys", &[]),
    List {
        // The time of an entry is in its id.
        columns: &[("start_time", Some("id")), ("end_time", Some("id"))],
        ..list("AuditService/ListAuditEntries", "core.audit_log", &["company_id"])
    },
    List {
        columns: &[("start_time", Some("id")), ("end_time", Some("id"))],
        ..list(
            "ExecutionAuditService/ListAuditEntries",
            "execution.audit_log",
            &["company_id"],
        )
    },
    list("CompanyService/ListCompanies", "core.companies", &[]),
    list("CompanyService/ListBranches", "core.branches", &[]),
    list("CompanyService/ListMemberships", "core.memberships", &["company_id"]),
    list("CompanyService/ListOwnMemberships", "core.memberships", &[]),
    list("CompanyService/ListPlans", "core.plans", &[]),
    List {
        // Only together with its file, of which there are few documents.
        columns: &[("file_version", None)],
        ..list(
            "DocumentService/ListDocuments",
            "core.documents",
            &["company_id", "studio_id"],
        )
    },
    list("DocumentService/ListChunks", "core.chunks", &[]),
    List {
        // Names are compared without case and deleted ones are few: both are looked for among the studio's.
        columns: &[("name_prefix", None), ("show_deleted", None)],
        ..list("FileService/ListFiles", "core.files", &["company_id", "studio_id"])
    },
    list("FileService/ListFileVersions", "core.file_versions", &[]),
    list("InvitationService/ListInvitations", "core.invitations", &[]),
    list(
        "NotificationService/ListNotificationChannels",
        "core.notification_channels",
        &[],
    ),
    list(
        "NotificationService/ListNotificationDeliveries",
        "core.notification_deliveries",
        &["company_id", "channel_id"],
    ),
    list("PrivacyService/ListPrivacyRequests", "core.privacy_requests", &[]),
    List {
        columns: &[("show_deleted", None)],
        ..list("StudioService/ListStudios", "core.studios", &["company_id"])
    },
    list(
        "ConnectionService/ListConnections",
        "execution.connections",
        &["company_id"],
    ),
    List {
        columns: &[
            ("statuses", Some("status")),
            ("create_time_from", Some("id")),
            ("create_time_before", Some("id")),
            // Looked up among the studio's workflows.
            ("template_id", None),
        ],
        ..list(
            "ExecutionService/ListExecutions",
            "execution.executions",
            &["company_id", "studio_id"],
        )
    },
    list("ExecutionService/ListAttempts", "execution.journal", &["execution_id"]),
    // Read from the execution itself.
    List {
        columns: &[("execution_id", Some("id"))],
        ..list("ExecutionService/ListExecutionFiles", "execution.executions", &[])
    },
    List {
        columns: &[("all", None)],
        ..list("ExecutionService/ListWaiting", "execution.waiting", &["company_id"])
    },
    list("ModelService/ListModels", "execution.models", &["company_id"]),
    List {
        // The flows themselves are the other server's.
        columns: &[("connection_id", Some("id")), ("name", None), ("status", None)],
        ..list("FlowService/ListFlows", "execution.connections", &[])
    },
    list("FlowService/ListFlowRuns", "execution.flow_runs", &[]),
    List {
        // The status is derived from the attempts, of which each plan has a few.
        columns: &[("own", Some("owner_id")), ("status", None)],
        ..list("PlanService/ListPlans", "execution.plans", &["company_id", "studio_id"])
    },
    list(
        "PlanService/ListPlanAttempts",
        "execution.plan_attempts",
        &["company_id"],
    ),
    List {
        columns: &[("own", Some("created_by")), ("show_automatic", None)],
        ..list(
            "SnapshotService/ListSnapshots",
            "execution.snapshots",
            &["company_id", "studio_id"],
        )
    },
    List {
        // The words' index is over an expression; those that are switched off are few.
        columns: &[
            ("text", None),
            ("tag", Some("tags")),
            ("owner", Some("company_id")),
            ("show_inactive", None),
            ("order_by", None),
        ],
        ..list("TemplateService/ListTemplates", "execution.templates", &["company_id"])
    },
    list(
        "TemplateService/ListTemplateVersions",
        "execution.template_versions",
        &[],
    ),
    List {
        // Parts of names and what is in metadata are looked for among the studio's, of which a plan bounds the number.
        columns: &[
            ("show_deleted", None),
            ("name_contains", None),
            ("tag", None),
            ("only_published", None),
            ("order_by", None),
            ("show_templates", None),
        ],
        ..list(
            "WorkflowService/ListWorkflows",
            "execution.workflows",
            &["company_id", "studio_id"],
        )
    },
    list(
        "WorkflowService/ListWorkflowVersions",
        "execution.workflow_versions",
        &["company_id"],
    ),
];

/// Whether an index of the table has the column behind nothing but what the list is always narrowed by.
async fn is_indexed(admin: &mut PgConnection, list: &List, column: &str) -> bool {
    let mut columns: Vec<Vec<String>> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select array(select coalesce(pg_get_indexdef(i.indexrelid, k, true), '') from generate_series(1, i.indnkeyatts) k)
         from pg_index i where i.indrelid = '{}'::regclass and i.indisvalid",
        list.table
    )))
    .fetch_all(admin)
    .await
    .unwrap();
    columns.retain(|index| {
        let place = index.iter().position(|it| it == column);
        place.is_some_and(|place| index[..place].iter().all(|it| list.scope.contains(&it.as_str())))
    });
    !columns.is_empty()
}

/// Filters of the list that no index serves, and what is not known of it.
async fn unindexed(admin: &mut PgConnection, list: &List, full_name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for field in call::method(full_name).input().fields() {
        let name = field.name().to_owned();
        if ["page_size", "page_token"].contains(&name.as_str()) {
            continue;
        }
        let column = match list.columns.iter().find(|(it, _)| *it == name) {
            Some((_, None)) => continue,
            Some((_, Some(column))) => (*column).to_owned(),
            None => name.clone(),
        };
        if !is_indexed(admin, list, &column).await {
            faults.push(format!(
                "{full_name}.{name}: no index of {} serves {column}",
                list.table
            ));
        }
    }
    faults
}

#[tokio::test]
async fn every_filter_of_a_list_has_an_index() {
    let mut admin = connect().await;
    let mut faults = Vec::new();
    let mut known = 0;
    for full_name in call::methods() {
        if !full_name.contains("/List") {
            continue;
        }
        let Some(list) = LISTS.iter().find(|it| full_name.ends_with(&format!(".{}", it.method))) else {
            faults.push(format!("{full_name}: which table it reads is not said here"));
            continue;
        };
        known += 1;
        faults.extend(unindexed(&mut admin, list, &full_name).await);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(
        known,
        LISTS.len(),
        "a list is named here that the contracts do not have"
    );
}

#[tokio::test]
async fn a_filter_that_loses_its_index_is_named() {
    let mut admin = connect().await;
    let list = LISTS.iter().find(|it| it.table == "core.memberships").unwrap();
    let mut tx = admin.begin().await.unwrap();
    sqlx::raw_sql("drop index core.memberships_state")
        .execute(&mut *tx)
        .await
        .unwrap();
    let found = unindexed(&mut tx, list, &format!("studios.core.v1.{}", list.method)).await;
    assert!(found.len() == 1 && found[0].contains(".state: "), "{found:?}");
    tx.rollback().await.unwrap();
}
