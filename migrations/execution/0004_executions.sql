-- Executions, partitioned by id (UUIDv7: by time of start). What lists and filters show; it changes when the status does.
create table execution.executions (
    id uuid primary key,
    company_id uuid not null,
    studio_id uuid not null,
    workflow_id uuid not null,
    workflow_version int not null,
    version_id uuid not null,
    started_by uuid not null,
    status text not null check (status in ('pending', 'running', 'completed', 'failed', 'paused', 'cancelled')),
    inputs jsonb not null check (jsonb_typeof(inputs) = 'object'),
    outputs jsonb,
    failure_class text check (failure_class in ('validation', 'provider_error', 'rate_limit', 'timeout', 'capped')),
    failure_message text,
    trace_context text not null default '',
    started_at timestamptz,
    finished_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check (status <> 'completed' or outputs is not null),
    check ((status in ('completed', 'failed', 'cancelled')) = (finished_at is not null)),
    check ((status = 'failed') = (failure_class is not null))
) partition by range (id);
create table execution.executions_default partition of execution.executions default;
create index executions_studio on execution.executions (company_id, studio_id, id);
create index executions_status on execution.executions (company_id, studio_id, status, id);
create index executions_workflow on execution.executions (company_id, workflow_id, id);
create index executions_started_by on execution.executions (started_by);
create trigger touch before update on execution.executions for each row execute function execution.touch_time();

alter table execution.executions enable row level security, force row level security;
create policy owner on execution.executions to studios_owner using (true) with check (true);
create policy reach on execution.executions for select to studios_execution
    using (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio()));
create policy work on execution.executions to studios_engine using (true) with check (true);
grant select on execution.executions to studios_execution;
grant select, insert on execution.executions to studios_engine;
grant update (status, outputs, failure_class, failure_message, started_at, finished_at) on execution.executions to studios_engine;

-- Where an execution is, before the caller's place there is known: ids only.
create function execution.locate_execution(execution uuid) returns table (company_id uuid, studio_id uuid)
language sql stable security definer set search_path = ''
as $$ select e.company_id, e.studio_id from execution.executions e where e.id = execution $$;
revoke execute on function execution.locate_execution(uuid) from public;
grant execute on function execution.locate_execution(uuid) to studios_execution;

-- Start keys: equal keys of one caller name one execution for 24 hours.
create table execution.start_keys (
    company_id uuid not null,
    caller_id uuid not null,
    method text not null,
    key text not null check (char_length(key) between 1 and 200),
    execution_id uuid not null,
    body_hash bytea not null,
    created_at timestamptz not null default now(),
    primary key (company_id, caller_id, method, key)
);
create index start_keys_created_at on execution.start_keys (created_at);
alter table execution.start_keys enable row level security, force row level security;
create policy owner on execution.start_keys to studios_owner using (true) with check (true);
create policy work on execution.start_keys to studios_engine using (true) with check (true);
grant select, insert, delete on execution.start_keys to studios_engine;
