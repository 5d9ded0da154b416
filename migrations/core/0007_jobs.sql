-- Background work, enqueued in the commit that causes it and done by a worker that leases it.
create table core.jobs (
    id uuid primary key,
    company_id uuid not null references core.companies (id) on delete cascade,
    kind text not null,
    payload jsonb not null,
    run_at timestamptz not null default now(),
    tries int not null default 0,
    max_tries int not null default 5,
    leased_until timestamptz,
    last_error text,
    failed_at timestamptz,
    trace_context text,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index jobs_due on core.jobs (run_at) where failed_at is null;
create index jobs_failed_at on core.jobs (failed_at) where failed_at is not null;
create index jobs_company on core.jobs (company_id);
create trigger touch before update on core.jobs for each row execute function core.touch();

alter table core.jobs enable row level security, force row level security;
create policy owner on core.jobs to studios_owner using (true) with check (true);
create policy enqueue on core.jobs for insert to studios_core
    with check (company_id = any (array(select core.caller_companies())));
create policy work on core.jobs to studios_core_worker using (true) with check (true);
grant insert (id, company_id, kind, payload, trace_context) on core.jobs to studios_core;
grant select, delete on core.jobs to studios_core_worker;
grant update (run_at, tries, leased_until, last_error, failed_at) on core.jobs to studios_core_worker;
