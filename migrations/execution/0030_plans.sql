-- Learning plans: modules and tasks that a model writes for a topic; complete, or not there at all. A plan is its owner's; a private
-- one is seen by him alone, a public one by all who reach its studio. version is the newest.
create table execution.plans (
    id uuid primary key,
    company_id uuid not null,
    studio_id uuid not null,
    owner_id uuid not null,
    origin text not null check (origin in ('ai', 'template', 'manual')),
    visibility text not null check (visibility in ('private', 'public')),
    version int not null default 1 check (version > 0),
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (company_id, id)
);
create index plans_studio on execution.plans (company_id, studio_id, id);
create index plans_owner on execution.plans (company_id, studio_id, owner_id, id);
create index plans_origin on execution.plans (company_id, studio_id, origin, id);
create trigger touch before update on execution.plans for each row execute function execution.touch();

alter table execution.plans enable row level security, force row level security;
create policy owner on execution.plans to studios_owner using (true) with check (true);
create policy see on execution.plans for select to studios_execution
    using (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio())
        and (visibility = 'public' or owner_id = (select execution.caller_id())));
create policy make on execution.plans for insert to studios_execution
    with check (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio())
        and owner_id = (select execution.caller_id()));
create policy change on execution.plans for update to studios_execution
    using (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio())
        and owner_id = (select execution.caller_id()));
-- Admins remove what everybody sees; what is private is not theirs to see.
create policy remove on execution.plans for delete to studios_execution
    using (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio())
        and (owner_id = (select execution.caller_id()) or ((select execution.caller_is_admin()) and visibility = 'public')));
create policy work on execution.plans for select to studios_engine using (true);
grant select, delete on execution.plans to studios_execution;
grant insert (id, company_id, studio_id, owner_id, origin, visibility) on execution.plans to studios_execution;
grant update (visibility, version) on execution.plans to studios_execution;
grant select on execution.plans to studios_engine;

-- What a version is made from, as far as it was kept; what was cut off is nowhere. attempts are those that were begun, and never
-- fewer, whatever is forgotten of them. One that was not generated came with its modules.
create table execution.plan_versions (
    company_id uuid not null,
    plan_id uuid not null,
    version int not null check (version > 0),
    generated boolean not null,
    topic text not null check (char_length(topic) between 1 and 200),
    topic_truncated boolean not null,
    topic_length int not null,
    notes text not null check (char_length(notes) <= 2000),
    notes_truncated boolean not null,
    notes_length int not null,
    level text not null check (level in ('beginner', 'intermediate', 'advanced')),
    weekly_hours smallint not null check (weekly_hours between 1 and 168),
    style text not null check (style in ('reading', 'video', 'practice', 'mixed')),
    use_documents boolean not null,
    model text not null check (char_length(model) <= 100),
    fallback_model text not null check (char_length(fallback_model) <= 100),
    attempts smallint not null default 0 check (attempts between 0 and 3),
    created_by uuid not null,
    created_at timestamptz not null default now(),
    primary key (company_id, plan_id, version),
    foreign key (company_id, plan_id) references execution.plans (company_id, id) on delete cascade,
    check (generated or attempts = 0)
);
create index plan_versions_created_by on execution.plan_versions (created_by, created_at) where version > 1;

alter table execution.plan_versions enable row level security, force row level security;
create policy owner on execution.plan_versions to studios_owner using (true) with check (true);
create policy see on execution.plan_versions for select to studios_execution
    using (company_id = (select execution.caller_company())
        and exists (select from execution.plans p where p.company_id = plan_versions.company_id and p.id = plan_versions.plan_id));
create policy make on execution.plan_versions for insert to studios_execution
    with check (company_id = (select execution.caller_company()) and created_by = (select execution.caller_id())
        and exists (select from execution.plans p where p.company_id = plan_versions.company_id and p.id = plan_versions.plan_id
            and p.owner_id = (select execution.caller_id())));
create policy begin on execution.plan_versions for update to studios_execution
    using (company_id = (select execution.caller_company())
        and exists (select from execution.plans p where p.company_id = plan_versions.company_id and p.id = plan_versions.plan_id
            and p.owner_id = (select execution.caller_id())));
create policy work on execution.plan_versions for select to studios_engine using (true);
grant select on execution.plan_versions to studios_execution, studios_engine;
grant insert (company_id, plan_id, version, generated, topic, topic_truncated, topic_length, notes, notes_truncated, notes_length,
    level, weekly_hours, style, use_documents, model, fallback_model, attempts, created_by)
    on execution.plan_versions to studios_execution;
grant update (attempts) on execution.plan_versions to studios_execution;

-- The hot row of an attempt under way: reserved before a model is called, deleted by the commit that records the attempt, so that
-- a plan has one at a time. owner is an instance or null; epoch grows with every change of owner and fences the one before.
create table execution.plan_runs (
    company_id uuid not null,
    plan_id uuid not null,
    version int not null,
    attempt smallint not null check (attempt between 1 and 3),
    owner int,
    epoch int not null default 0,
    takeovers smallint not null default 0,
    correlation_id text not null,
    trace_context text not null,
    begun_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    primary key (company_id, plan_id),
    foreign key (company_id, plan_id, version) references execution.plan_versions (company_id, plan_id, version) on delete cascade
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);
create index plan_runs_version on execution.plan_runs (company_id, plan_id, version);
create index plan_runs_free on execution.plan_runs (created_at) where owner is null;
create index plan_runs_owner on execution.plan_runs (owner) where owner is not null;

alter table execution.plan_runs enable row level security, force row level security;
create policy owner on execution.plan_runs to studios_owner using (true) with check (true);
create policy see on execution.plan_runs for select to studios_execution
    using (company_id = (select execution.caller_company())
        and exists (select from execution.plans p where p.company_id = plan_runs.company_id and p.id = plan_runs.plan_id));
create policy make on execution.plan_runs for insert to studios_execution
    with check (company_id = (select execution.caller_company())
        and exists (select from execution.plans p where p.company_id = plan_runs.company_id and p.id = plan_runs.plan_id
            and p.owner_id = (select execution.caller_id())));
create policy work on execution.plan_runs to studios_engine using (true) with check (true);
grant select on execution.plan_runs to studios_execution;
grant insert (company_id, plan_id, version, attempt, owner, correlation_id, trace_context) on execution.plan_runs to studios_execution;
grant select, update, delete on execution.plan_runs to studios_engine;

-- Attempts that have ended. Nothing here is what a user wrote. Failed ones are forgotten after 90 days.
create table execution.plan_attempts (
    company_id uuid not null,
    plan_id uuid not null,
    version int not null,
    number smallint not null check (number between 1 and 3),
    status text not null check (status in ('success', 'failure')),
    classification text check (classification in ('validation', 'provider_error', 'rate_limit', 'timeout', 'capped')),
    reason text not null default '' check (char_length(reason) <= 100),
    model text not null check (char_length(model) <= 100),
    duration_ms bigint not null check (duration_ms >= 0),
    modules_count smallint not null check (modules_count between 0 and 12),
    tasks_count smallint not null check (tasks_count between 0 and 240),
    truncated_topic boolean not null,
    truncated_notes boolean not null,
    normalized_effort boolean not null,
    prompt_sha256 text not null check (prompt_sha256 ~ '^([0-9a-f]{64})?$'),
    correlation_id text not null,
    metadata jsonb not null check (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz not null default now(),
    primary key (company_id, plan_id, version, number),
    foreign key (company_id, plan_id, version) references execution.plan_versions (company_id, plan_id, version) on delete cascade,
    check ((status = 'success') = (classification is null)),
    check ((status = 'success') = (modules_count > 0))
);
create index plan_attempts_old on execution.plan_attempts (created_at) where status = 'failure';

alter table execution.plan_attempts enable row level security, force row level security;
create policy owner on execution.plan_attempts to studios_owner using (true) with check (true);
create policy own on execution.plan_attempts for select to studios_execution
    using (company_id = (select execution.caller_company())
        and exists (select from execution.plans p where p.company_id = plan_attempts.company_id and p.id = plan_attempts.plan_id
            and p.owner_id = (select execution.caller_id())));
create policy record on execution.plan_attempts for insert to studios_engine with check (true);
create policy read on execution.plan_attempts for select to studios_engine using (true);
create policy forget on execution.plan_attempts for delete to studios_engine
    using (status = 'failure' and created_at < now() - interval '90 days');
grant select on execution.plan_attempts to studios_execution;
grant select, insert, delete on execution.plan_attempts to studios_engine;

-- Modules are numbered from 1 without gaps, and so are the tasks of each: but the first, each has the one before it.
create table execution.plan_modules (
    company_id uuid not null,
    plan_id uuid not null,
    version int not null,
    number smallint not null check (number between 1 and 12),
    previous smallint generated always as (nullif(number - 1, 0)::smallint) stored,
    title text not null check (title <> ''),
    description text not null default '',
    minutes smallint not null check (minutes between 15 and 480),
    created_at timestamptz not null default now(),
    primary key (company_id, plan_id, version, number),
    foreign key (company_id, plan_id, version) references execution.plan_versions (company_id, plan_id, version) on delete cascade,
    constraint plan_modules_in_order foreign key (company_id, plan_id, version, previous)
        references execution.plan_modules (company_id, plan_id, version, number) on delete cascade
);
create index plan_modules_previous on execution.plan_modules (company_id, plan_id, version, previous);

create table execution.plan_tasks (
    company_id uuid not null,
    plan_id uuid not null,
    version int not null,
    module smallint not null,
    number smallint not null check (number between 1 and 20),
    previous smallint generated always as (nullif(number - 1, 0)::smallint) stored,
    title text not null check (title <> ''),
    description text not null default '',
    minutes smallint not null check (minutes between 5 and 120),
    done_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (company_id, plan_id, version, module, number),
    foreign key (company_id, plan_id, version, module)
        references execution.plan_modules (company_id, plan_id, version, number) on delete cascade,
    constraint plan_tasks_in_order foreign key (company_id, plan_id, version, module, previous)
        references execution.plan_tasks (company_id, plan_id, version, module, number) on delete cascade
);
create index plan_tasks_previous on execution.plan_tasks (company_id, plan_id, version, module, previous);

alter table execution.plan_modules enable row level security, force row level security;
create policy owner on execution.plan_modules to studios_owner using (true) with check (true);
create policy see on execution.plan_modules for select to studios_execution
    using (company_id = (select execution.caller_company())
        and exists (select from execution.plans p where p.company_id = plan_modules.company_id and p.id = plan_modules.plan_id));
-- What a model writes is the engine's to store.
create policy make on execution.plan_modules for insert to studios_execution
    with check (company_id = (select execution.caller_company())
        and exists (select from execution.plan_versions v join execution.plans p on p.company_id = v.company_id and p.id = v.plan_id
            where v.company_id = plan_modules.company_id and v.plan_id = plan_modules.plan_id and v.version = plan_modules.version
                and not v.generated and p.owner_id = (select execution.caller_id())));
create policy record on execution.plan_modules for insert to studios_engine with check (true);
grant select on execution.plan_modules to studios_execution;
grant insert (company_id, plan_id, version, number, title, description, minutes) on execution.plan_modules
    to studios_execution, studios_engine;

alter table execution.plan_tasks enable row level security, force row level security;
create policy owner on execution.plan_tasks to studios_owner using (true) with check (true);
create policy see on execution.plan_tasks for select to studios_execution
    using (company_id = (select execution.caller_company())
        and exists (select from execution.plans p where p.company_id = plan_tasks.company_id and p.id = plan_tasks.plan_id));
create policy make on execution.plan_tasks for insert to studios_execution
    with check (company_id = (select execution.caller_company())
        and exists (select from execution.plan_versions v join execution.plans p on p.company_id = v.company_id and p.id = v.plan_id
            where v.company_id = plan_tasks.company_id and v.plan_id = plan_tasks.plan_id and v.version = plan_tasks.version
                and not v.generated and p.owner_id = (select execution.caller_id())));
create policy mark on execution.plan_tasks for update to studios_execution
    using (company_id = (select execution.caller_company())
        and exists (select from execution.plans p where p.company_id = plan_tasks.company_id and p.id = plan_tasks.plan_id
            and p.owner_id = (select execution.caller_id())));
create policy record on execution.plan_tasks for insert to studios_engine with check (true);
grant select on execution.plan_tasks to studios_execution;
grant insert (company_id, plan_id, version, module, number, title, description, minutes) on execution.plan_tasks
    to studios_execution, studios_engine;
grant update (done_at) on execution.plan_tasks to studios_execution;

-- Where a plan is, before the caller's place there is known: ids only.
create function execution.locate_plan(plan uuid) returns table (company_id uuid, studio_id uuid)
language sql stable security definer set search_path = ''
as $$ select p.company_id, p.studio_id from execution.plans p where p.id = plan $$;

-- How the attempts at a version of a plan of the caller's company ended, of which he sees no more where the plan is another's:
-- numbers and nothing else. One that runs is none of them.
create function execution.plan_standing(plan uuid, plan_version int)
    returns table (generated boolean, successes int, failures int, running boolean)
language sql stable security definer set search_path = ''
as $$
    select v.generated, s.successes, v.attempts - s.successes - s.running, s.running > 0
    from execution.plan_versions v cross join lateral (
        select (select count(*)::int from execution.plan_attempts a where a.company_id = v.company_id and a.plan_id = v.plan_id
                    and a.version = v.version and a.status = 'success') as successes,
            (select count(*)::int from execution.plan_runs r where r.company_id = v.company_id and r.plan_id = v.plan_id
                    and r.version = v.version) as running) s
    where v.company_id = (select execution.caller_company()) and v.plan_id = plan and v.version = plan_version
$$;

-- How many versions the caller has had made anew within the hour. He has no other made until the transaction ends.
create function execution.lock_plan_versions() returns int
language plpgsql security definer set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('execution.plan_versions ' || execution.caller_id(), 0));
    return (select count(*) from execution.plan_versions v
        where v.created_by = execution.caller_id() and v.version > 1 and v.created_at > now() - interval '1 hour');
end $$;
revoke execute on function execution.locate_plan(uuid), execution.plan_standing(uuid, int), execution.lock_plan_versions()
    from public;
grant execute on function execution.locate_plan(uuid), execution.plan_standing(uuid, int), execution.lock_plan_versions()
    to studios_execution;
