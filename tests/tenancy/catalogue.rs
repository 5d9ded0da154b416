//! What the live database's catalogue must say for tenants to be apart, as rules over it. Each is proved able to fail: a
//! statement that breaks it, in a transaction that is rolled back, must make the rule name what was made.

use secrecy::ExposeSecret;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use studios_tests::{call, cluster::TestCluster};

/// A query for faults, each a line that begins with the name of what is wrong.
struct Rule {
    /// What must hold.
    says: &'static str,
    faults: &'static str,
    /// Statements that break it, with what the fault must name.
    offences: &'static [(&'static str, &'static str)],
}

const RULES: &[Rule] = &[
    Rule {
        says: "row level security is on for every table, and its owner is held to it",
        // Plans are public, and migrations are nobody's.
        faults: "select c.oid::regclass::text from pg_class c
            where c.relnamespace in ('core'::regnamespace, 'execution'::regnamespace) and c.relkind in ('r', 'p')
            and not (c.relrowsecurity and c.relforcerowsecurity)
            and c.oid::regclass::text not in ('core.plans', 'core.applied_migrations', 'execution.applied_migrations')",
        offences: &[
            ("create table core.bare (company_id uuid)", "core.bare"),
            ("alter table core.studios no force row level security", "core.studios"),
        ],
    },
    Rule {
        says: "every table with row level security has a policy",
        faults: "select c.oid::regclass::text from pg_class c
            where c.relnamespace in ('core'::regnamespace, 'execution'::regnamespace) and c.relkind in ('r', 'p')
            and c.relrowsecurity and not c.relispartition
            and not exists (select from pg_policy p where p.polrelid = c.oid)",
        offences: &[(
            "create table core.mute (company_id uuid); alter table core.mute enable row level security, force row level security",
            "core.mute",
        )],
    },
    Rule {
        says: "no policy opens a table to all tenants' callers",
        // Signing keys, rates and instances are no tenant's; what is to be sealed is a bare id that nobody else can read.
        faults: "select p.polrelid::regclass || ' ' || p.polname from pg_policy p join pg_class c on c.oid = p.polrelid
            where c.relnamespace in ('core'::regnamespace, 'execution'::regnamespace) and p.polpermissive
            and p.polroles && array[0, 'studios_core'::regrole, 'studios_execution'::regrole]::oid[]
            and 'true' in (pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
            and (p.polrelid::regclass::text, p.polname) not in (('core.signing_keys', 'service'), ('core.rate_limits', 'count'),
                ('core.audit_pending', 'append'), ('execution.audit_pending', 'append'), ('execution.instances', 'read'))",
        offences: &[
            ("create policy wide on core.studios for select to studios_core using (true)", "core.studios wide"),
            ("create policy wide on execution.workflows using (true)", "execution.workflows wide"),
        ],
    },
    Rule {
        says: "a foreign key to a tenant's row carries the tenant",
        // The platform's own rows have no company: a key without it may stand beside one with it.
        faults: "select f.conrelid::regclass || ' ' || f.conname from pg_constraint f
            join pg_attribute t on t.attrelid = f.confrelid and t.attname = 'company_id' and not t.attisdropped
            where f.contype = 'f' and f.conparentid = 0
            and f.connamespace in ('core'::regnamespace, 'execution'::regnamespace)
            and not exists (
                select from pg_constraint g
                join pg_attribute o on o.attrelid = g.conrelid and o.attname = 'company_id' and not o.attisdropped
                where g.contype = 'f' and g.conrelid = f.conrelid and g.confrelid = f.confrelid and g.conkey @> f.conkey
                and array_position(g.conkey, o.attnum) = array_position(g.confkey, t.attnum))",
        offences: &[
            (
                "create table core.notes (id uuid primary key, company_id uuid, studio_id uuid references core.studios (id))",
                "core.notes",
            ),
            (
                "create table execution.marks (workflow_id uuid, owner uuid,
                 foreign key (owner, workflow_id) references execution.workflows (company_id, id))",
                "execution.marks",
            ),
        ],
    },
    Rule {
        says: "a function that runs as its owner has a fixed, empty search path",
        faults: "select p.oid::regprocedure::text from pg_proc p
            where p.pronamespace in ('core'::regnamespace, 'execution'::regnamespace) and p.prosecdef
            and not coalesce(p.proconfig, '{}') @> array['search_path=\"\"']",
        offences: &[
            (
                "create function core.loose() returns int language sql security definer as 'select 1'",
                "core.loose()",
            ),
            (
                "create function core.led() returns int language sql security definer set search_path = public as 'select 1'",
                "core.led()",
            ),
        ],
    },
    Rule {
        says: "a view reads with its reader's eyes",
        faults: "select c.oid::regclass::text from pg_class c
            where c.relnamespace in ('core'::regnamespace, 'execution'::regnamespace)
            and (c.relkind = 'm' or c.relkind = 'v' and not coalesce(c.reloptions, '{}') @> '{security_invoker=true}')",
        offences: &[
            ("create view core.everybody as select id from core.users", "core.everybody"),
            ("create materialized view core.copied as select id from core.users", "core.copied"),
        ],
    },
    Rule {
        says: "nothing is granted but to the schema's own services",
        faults: "select g.thing || ' ' || g.privilege || ' to ' || case when g.grantee = 0 then 'public' else g.grantee::regrole::text end
            from (
                select n.oid as schema, n.nspname::text as thing, a.grantee, a.privilege_type as privilege
                from pg_namespace n, aclexplode(n.nspacl) a
                union all
                select c.relnamespace, c.oid::regclass::text, a.grantee, a.privilege_type
                from pg_class c, aclexplode(c.relacl) a
                union all
                select c.relnamespace, c.oid::regclass || '.' || t.attname, a.grantee, a.privilege_type
                from pg_attribute t join pg_class c on c.oid = t.attrelid, aclexplode(t.attacl) a
                union all
                select p.pronamespace, p.oid::regprocedure::text, a.grantee, a.privilege_type
                from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                where p.prosecdef or a.grantee <> 0
            ) g
            where g.grantee <> 'studios_owner'::regrole
            and (g.schema = 'core'::regnamespace and g.grantee not in ('studios_core'::regrole, 'studios_core_worker'::regrole)
                or g.schema = 'execution'::regnamespace
                    and g.grantee not in ('studios_execution'::regrole, 'studios_engine'::regrole))",
        offences: &[
            ("grant usage on schema core to studios_execution", "core USAGE to studios_execution"),
            ("grant select on core.users to public", "core.users SELECT to public"),
            ("grant select (email) on core.users to studios_engine", "core.users.email SELECT to studios_engine"),
            (
                "create function core.free() returns int language sql security definer set search_path = '' as 'select 1'",
                "core.free() EXECUTE to public",
            ),
        ],
    },
    Rule {
        says: "no service may do to a schema or a table what is its owner's to do, nor pass on what it may",
        faults: "select g.thing || ' ' || g.privilege || ' to ' || g.grantee::regrole from (
                select n.oid as schema, n.nspname::text as thing, a.* from pg_namespace n, aclexplode(n.nspacl) a
                union all
                select c.relnamespace, c.oid::regclass::text, a.* from pg_class c, aclexplode(c.relacl) a
            ) g (schema, thing, grantor, grantee, privilege, grantable)
            where g.schema in ('core'::regnamespace, 'execution'::regnamespace) and g.grantee <> 'studios_owner'::regrole
            and (g.grantable or g.privilege in ('CREATE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN'))",
        offences: &[
            ("grant create on schema core to studios_core", "core CREATE to studios_core"),
            ("grant truncate on core.studios to studios_core_worker", "core.studios TRUNCATE to studios_core_worker"),
            (
                "grant select on execution.journal to studios_engine with grant option",
                "execution.journal SELECT to studios_engine",
            ),
        ],
    },
    Rule {
        says: "what answers tenants' calls cannot move a row to another tenant, nor forge its maker or its revision",
        faults: "select c.oid::regclass || '.' || t.attname || ' UPDATE to ' || a.grantee::regrole
            from pg_class c join pg_attribute t on t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped,
                lateral (select * from aclexplode(c.relacl) union all select * from aclexplode(t.attacl)) a
            where c.relnamespace in ('core'::regnamespace, 'execution'::regnamespace)
            and a.privilege_type = 'UPDATE' and a.grantee in ('studios_core'::regrole, 'studios_execution'::regrole)
            and t.attname in ('id', 'company_id', 'studio_id', 'user_id', 'owner_id', 'created_by', 'created_at', 'revision')",
        offences: &[
            ("grant update (company_id) on core.studios to studios_core", "core.studios.company_id UPDATE"),
            ("grant update on execution.models to studios_execution", "execution.models.company_id UPDATE"),
        ],
    },
    Rule {
        says: "what is written once is never changed",
        faults: "select c.oid::regclass || ' UPDATE to ' || a.grantee::regrole
            from pg_class c, lateral (
                select * from aclexplode(c.relacl)
                union all select x.* from pg_attribute t, aclexplode(t.attacl) x where t.attrelid = c.oid) a
            where c.oid::regclass::text in ('core.audit_log', 'core.audit_links', 'execution.audit_log', 'execution.audit_links',
                'execution.journal', 'execution.workflow_versions', 'execution.template_versions', 'core.document_texts')
            and a.privilege_type = 'UPDATE' and a.grantee <> 'studios_owner'::regrole",
        offences: &[
            ("grant update (action) on core.audit_log to studios_core_worker", "core.audit_log UPDATE"),
            ("grant update on execution.journal to studios_engine", "execution.journal UPDATE"),
        ],
    },
    Rule {
        says: "no login role owns a thing or goes round the policies",
        faults: "select r.rolname::text from pg_roles r
            where r.rolname in ('studios_core', 'studios_core_worker', 'studios_execution', 'studios_engine')
            and (r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolcreatedb or r.rolreplication
                or exists (select from pg_class c where c.relowner = r.oid)
                or exists (select from pg_proc p where p.proowner = r.oid)
                or exists (select from pg_auth_members m where m.member = r.oid))",
        offences: &[("grant studios_owner to studios_core", "studios_core")],
    },
    Rule {
        says: "every foreign key has an index",
        faults: "select f.conrelid::regclass || ' ' || f.conname from pg_constraint f
            where f.contype = 'f' and f.conparentid = 0
            and f.connamespace in ('core'::regnamespace, 'execution'::regnamespace)
            and not exists (select from pg_index i where i.indrelid = f.conrelid
                and (select array_agg(k order by k) from unnest(f.conkey) k)
                  = (select array_agg(k order by k) from unnest((i.indkey::int2[])[0:cardinality(f.conkey) - 1]) k))",
        offences: &[(
            "create table core.pointing (company_id uuid references core.companies (id))",
            "core.pointing",
        )],
    },
];

async fn connect() -> PgConnection {
    let url = TestCluster::get().await.database().await;
    PgConnection::connect(url.expose_secret()).await.unwrap()
}

async fn faults(rule: &Rule, connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(rule.faults).fetch_all(connection).await.unwrap()
}

#[tokio::test]
async fn the_live_catalogue_breaks_no_rule() {
    let mut admin = connect().await;
    let mut broken = Vec::new();
    for rule in RULES {
        for fault in faults(rule, &mut admin).await {
            broken.push(format!("{}: {fault}", rule.says));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[tokio::test]
async fn every_rule_of_the_catalogue_names_what_breaks_it() {
    let mut admin = connect().await;
    for rule in RULES {
        for (offence, named) in rule.offences {
            let mut tx = admin.begin().await.unwrap();
            sqlx::raw_sql(*offence).execute(&mut *tx).await.unwrap();
            let found = faults(rule, &mut tx).await;
            assert!(
                found.iter().any(|it| it.starts_with(named)),
                "{}: {offence} went unseen: {found:?}",
                rule.says
            );
            tx.rollback().await.unwrap();
        }
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
    list(
        "DocumentService/ListDocuments",
        "core.documents",
        &["company_id", "studio_id"],
    ),
    list("DocumentService/ListChunks", "core.chunks", &[]),
    List {
        // Names are compared without case and deleted ones are few: both are looked for among the studio's.
        columns: &[("name_prefix", None), ("show_deleted", None)],
        ..list("FileService/ListFiles", "core.files", &["company_id", "studio_id"])
    },
    list("FileService/ListFileVersions", "core.file_versions", &[]),
    list("InvitationService/ListInvitations", "core.invitations", &[]),
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
