//! The rules that the live database's catalogue keeps, what stands outside of each and why, and what breaks it.

/// A query for faults, each a line that begins with the name of what is wrong.
pub(super) struct Rule {
    /// What must hold.
    pub(super) says: &'static str,
    pub(super) faults: &'static str,
    /// Faults that are meant to be, whole as the query names them, with the reason.
    pub(super) exceptions: &'static [(&'static str, &'static str)],
    /// Statements that break it, with what the fault must name.
    pub(super) offences: &'static [(&'static str, &'static str)],
}

const CLAIMS: &str = "says what the caller's own claims say; policies of every role ask it";
const TRIGGER: &str = "runs as a trigger alone and changes nothing but the row at hand";
const PURE: &str = "computes from its arguments and the clock, and reads no table";

pub(super) const RULES: &[Rule] = &[
    Rule {
        says: "row level security is on for every table, and its owner is held to it",
        faults: "select c.oid::regclass::text from pg_class c
            where c.relnamespace in ('core'::regnamespace, 'execution'::regnamespace) and c.relkind in ('r', 'p')
            and not (c.relrowsecurity and c.relforcerowsecurity)",
        exceptions: &[
            ("core.plans", "what the plans allow is public"),
            ("core.applied_migrations", "no tenant's, and granted to nobody"),
            ("execution.applied_migrations", "no tenant's, and granted to nobody"),
        ],
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
        exceptions: &[],
        offences: &[(
            "create table core.mute (company_id uuid); alter table core.mute enable row level security, force row level security",
            "core.mute",
        )],
    },
    Rule {
        says: "no policy opens a table to all tenants' callers",
        faults: "select p.polrelid::regclass || ' ' || p.polname from pg_policy p join pg_class c on c.oid = p.polrelid
            where c.relnamespace in ('core'::regnamespace, 'execution'::regnamespace) and p.polpermissive
            and p.polroles && array[0, 'studios_core'::regrole, 'studios_execution'::regrole]::oid[]
            and 'true' in (pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))",
        exceptions: &[
            ("core.signing_keys service", "the installation's keys, which sign every tenant's tokens"),
            ("core.rate_limits count", "counted before anybody is known, under keyed hashes"),
            ("core.audit_pending append", "bare ids, which the sealer alone can read"),
            ("execution.audit_pending append", "bare ids, which the sealer alone can read"),
            ("execution.instances read", "the installation's own processes"),
        ],
        offences: &[
            ("create policy wide on core.studios for select to studios_core using (true)", "core.studios wide"),
            ("create policy wide on execution.workflows using (true)", "execution.workflows wide"),
        ],
    },
    Rule {
        says: "a function that looks something up keeps its plan, which one of SQL does not that cannot be put in place",
        faults: "select p.oid::regprocedure::text from pg_proc p
            where p.pronamespace in ('core'::regnamespace, 'execution'::regnamespace)
            and p.prolang = (select l.oid from pg_language l where l.lanname = 'sql')
            and (p.prosecdef or p.proconfig is not null) and p.provolatile <> 'i'",
        exceptions: &[],
        offences: &[(
            "create function core.slow(studio uuid) returns text language sql stable security definer set search_path = ''
                 as 'select s.name from core.studios s where s.id = studio'",
            "core.slow(uuid)",
        )],
    },
    Rule {
        says: "a foreign key to a tenant's row carries the tenant",
        faults: "select f.conrelid::regclass || ' ' || f.conname from pg_constraint f
            join pg_attribute t on t.attrelid = f.confrelid and t.attname = 'company_id' and not t.attisdropped
            where f.contype = 'f' and f.conparentid = 0
            and f.connamespace in ('core'::regnamespace, 'execution'::regnamespace)
            and not exists (
                select from generate_subscripts(f.conkey, 1) i
                join pg_attribute o on o.attrelid = f.conrelid and o.attnum = f.conkey[i] and o.attname = 'company_id'
                where f.confkey[i] = t.attnum)",
        exceptions: &[
            ("execution.template_versions template_versions_template_id_fkey", "the platform's templates have no company; the key beside it, which has, holds those of companies"),
        ],
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
        exceptions: &[],
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
        exceptions: &[],
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
            ) g
            where g.grantee <> 'studios_owner'::regrole
            and (g.schema = 'core'::regnamespace and g.grantee not in ('studios_core'::regrole, 'studios_core_worker'::regrole)
                or g.schema = 'execution'::regnamespace
                    and g.grantee not in ('studios_execution'::regrole, 'studios_engine'::regrole))",
        exceptions: &[
            ("core.caller_id() EXECUTE to public", CLAIMS),
            ("execution.caller_id() EXECUTE to public", CLAIMS),
            ("execution.caller_company() EXECUTE to public", CLAIMS),
            ("execution.caller_studio() EXECUTE to public", CLAIMS),
            ("execution.caller_is_admin() EXECUTE to public", CLAIMS),
            ("core.touch() EXECUTE to public", TRIGGER),
            ("core.touch_time() EXECUTE to public", TRIGGER),
            ("execution.touch() EXECUTE to public", TRIGGER),
            ("execution.touch_time() EXECUTE to public", TRIGGER),
            ("execution.is_erasable(timestamp with time zone) EXECUTE to public", PURE),
            ("execution.uuid7_floor(timestamp with time zone) EXECUTE to public", PURE),
            ("execution.template_words(text,text,text[]) EXECUTE to public", PURE),
            ("execution.this_month() EXECUTE to public", PURE),
        ],
        offences: &[
            ("grant usage on schema core to studios_execution", "core USAGE to studios_execution"),
            ("grant select on core.users to public", "core.users SELECT to public"),
            ("grant select (email) on core.users to studios_engine", "core.users.email SELECT to studios_engine"),
            (
                "create function core.free() returns int language sql security definer set search_path = '' as 'select 1'",
                "core.free() EXECUTE to public",
            ),
            (
                "create function execution.open() returns int language sql as 'select 1'",
                "execution.open() EXECUTE to public",
            ),
            ("grant usage on sequence execution.instance_id to public", "execution.instance_id USAGE to public"),
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
        exceptions: &[],
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
        exceptions: &[],
        offences: &[
            ("grant update (company_id) on core.studios to studios_core", "core.studios.company_id UPDATE"),
            ("grant update on execution.models to studios_execution", "execution.models.company_id UPDATE"),
        ],
    },
    Rule {
        says: "what is written once is never changed, nor removed",
        // Nothing is granted on a partition by itself, but it would be the same table's rows.
        faults: "select distinct c.oid::regclass || coalesce('.' || a.attname, '') || ' ' || a.privilege_type
                || ' to ' || case when a.grantee = 0 then 'public' else a.grantee::regrole::text end
            from pg_class c, lateral (
                select null as attname, x.* from aclexplode(c.relacl) x
                union all
                select t.attname, x.* from pg_attribute t, aclexplode(t.attacl) x where t.attrelid = c.oid) a
            where coalesce(pg_partition_root(c.oid), c.oid) = any (array['core.audit_log', 'core.audit_links',
                'execution.audit_log', 'execution.audit_links', 'execution.journal', 'execution.execution_commands',
                'execution.workflow_versions', 'execution.template_versions', 'core.document_texts', 'core.file_versions',
                'core.outbox', 'execution.plan_attempts', 'execution.plan_modules',
                'execution.agent_summaries']::regclass[])
            and a.privilege_type in ('UPDATE', 'DELETE') and a.grantee <> c.relowner",
        exceptions: &[
            ("execution.journal DELETE to studios_engine", "goes with a workflow whose erasure is due, says its policy"),
            (
                "execution.workflow_versions DELETE to studios_engine",
                "goes with a workflow whose erasure is due, says its policy",
            ),
            ("execution.execution_commands DELETE to studios_engine", "is of no use once its execution has ended"),
            ("core.document_texts DELETE to studios_core_worker", "a file is extracted again to the same text"),
            ("core.outbox DELETE to studios_core_worker", "is trimmed behind those who follow"),
            ("execution.plan_attempts DELETE to studios_engine", "failed ones are forgotten after 90 days, says its policy"),
            ("core.file_versions.state UPDATE to studios_core_worker", "the verdict on the bytes comes after them"),
            ("core.file_versions.state_reason UPDATE to studios_core_worker", "the verdict on the bytes comes after them"),
        ],
        offences: &[
            ("grant update (action) on core.audit_log to studios_core_worker", "core.audit_log.action UPDATE"),
            ("grant delete on core.audit_links to studios_core", "core.audit_links DELETE to studios_core"),
            ("grant update on execution.journal to studios_engine", "execution.journal UPDATE"),
            ("grant delete on execution.journal_default to studios_execution", "execution.journal_default DELETE"),
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
        exceptions: &[],
        offences: &[("grant studios_owner to studios_core", "studios_core")],
    },
    Rule {
        says: "every foreign key has an index that begins with its columns",
        faults: "select f.conrelid::regclass || ' ' || f.conname from pg_constraint f
            where f.contype = 'f' and f.conparentid = 0
            and f.connamespace in ('core'::regnamespace, 'execution'::regnamespace)
            and not exists (select from pg_index i join pg_class x on x.oid = i.indexrelid join pg_am m on m.oid = x.relam
                where i.indrelid = f.conrelid and i.indisvalid and i.indpred is null and m.amname = 'btree'
                and (select array_agg(k order by k) from unnest(f.conkey) k)
                  = (select array_agg(k order by k) from unnest((i.indkey::int2[])[0:cardinality(f.conkey) - 1]) k))",
        exceptions: &[],
        offences: &[
            ("create table core.pointing (company_id uuid references core.companies (id))", "core.pointing"),
            (
                "create table core.behind (kind text, company_id uuid references core.companies (id));
                 create index on core.behind (kind, company_id)",
                "core.behind",
            ),
            (
                "create table core.partly (company_id uuid references core.companies (id));
                 create index on core.partly (company_id) where company_id is null",
                "core.partly",
            ),
        ],
    },
];
