-- The processes that run executions. The lease belongs to the instance: 10 s by this database's clock, renewed every second.
create sequence execution.instance_id as int;
create table execution.instances (
    id int primary key default nextval('execution.instance_id'),
    address text not null,
    lease_until timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
) with (fillfactor = 50);
create trigger touch before update on execution.instances for each row execute function execution.touch_time();
alter table execution.instances enable row level security, force row level security;
create policy owner on execution.instances to studios_owner using (true) with check (true);
create policy work on execution.instances to studios_engine using (true) with check (true);
create policy read on execution.instances for select to studios_execution using (true);
grant usage on sequence execution.instance_id to studios_engine;
grant select, insert, update, delete on execution.instances to studios_engine;
grant select (id, address, lease_until) on execution.instances to studios_execution;

-- The hot row of an execution that has not ended; its end deletes it. It changes at every stage, so no index is on what
-- changes then. owner is an instance or null; epoch grows with every change of owner and fences writes of the one before.
create table execution.runs (
    execution_id uuid primary key,
    company_id uuid not null,
    studio_id uuid not null,
    owner int,
    epoch int not null default 0,
    run_at timestamptz not null default now(),
    priority smallint not null default 0,
    stage text not null default '',
    seq bigint not null default 0,
    head bytea not null,
    commands_seq bigint not null default 0,
    commands_done bigint not null default 0,
    takeovers smallint not null default 0,
    reservations jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);
create index runs_due on execution.runs (run_at) where owner is null;
create index runs_owner on execution.runs (owner) where owner is not null;
create index runs_company on execution.runs (company_id);
create trigger touch before update on execution.runs for each row execute function execution.touch_time();
alter table execution.runs enable row level security, force row level security;
create policy owner on execution.runs to studios_owner using (true) with check (true);
create policy work on execution.runs to studios_engine using (true) with check (true);
create policy reach on execution.runs to studios_execution
    using (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio()));
grant select, insert, update, delete on execution.runs to studios_engine;
grant select on execution.runs to studios_execution;
grant update (commands_seq, run_at) on execution.runs to studios_execution;

-- The journal: append-only, partitioned like the executions, written by the lease holder alone. payload is canonical JSON
-- (RFC 8785); hash = SHA-256 over the predecessor's hash and the entry. No foreign key to the execution: it cost a fifth of
-- the engine's throughput, and the fenced statement that writes an entry holds the hot row's lock.
create table execution.journal (
    execution_id uuid not null,
    seq bigint not null check (seq > 0),
    company_id uuid not null,
    studio_id uuid not null,
    kind text not null check (kind in ('started', 'intent', 'attempt', 'decision', 'signal', 'paused', 'resumed',
        'cancelled', 'forked', 'child', 'finished')),
    stage text,
    visit int,
    item int,
    attempt int,
    outcome text check (outcome in ('succeeded', 'failed')),
    payload bytea not null,
    hash bytea not null,
    occurred_at timestamptz not null,
    created_at timestamptz not null default now(),
    primary key (execution_id, seq),
    check ((kind = 'attempt') = (attempt is not null and outcome is not null))
) partition by range (execution_id);
create table execution.journal_default partition of execution.journal default;
create unique index journal_attempt_key on execution.journal (execution_id, stage, visit, item, attempt) where kind = 'attempt';
create index journal_company on execution.journal (company_id);
alter table execution.journal enable row level security, force row level security;
create policy owner on execution.journal to studios_owner using (true) with check (true);
create policy reach on execution.journal for select to studios_execution
    using (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio()));
create policy work on execution.journal to studios_engine using (true) with check (true);
grant select on execution.journal to studios_execution;
grant select, insert on execution.journal to studios_engine;

-- What others ask of a running execution; the holder turns a command into an entry.
create table execution.execution_commands (
    execution_id uuid not null references execution.runs (execution_id) on delete cascade,
    seq bigint not null,
    company_id uuid not null,
    studio_id uuid not null,
    kind text not null check (kind in ('cancel', 'pause', 'resume', 'decide', 'signal', 'child_ended')),
    payload jsonb not null default '{}',
    issued_by uuid not null,
    created_at timestamptz not null default now(),
    primary key (execution_id, seq)
);
alter table execution.execution_commands enable row level security, force row level security;
create policy owner on execution.execution_commands to studios_owner using (true) with check (true);
create policy issue on execution.execution_commands for insert to studios_execution
    with check (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio())
        and issued_by = (select execution.caller_id())
        -- The foreign key does not ask whose the run is; the run's own policy does.
        and exists (select from execution.runs r where r.execution_id = execution_commands.execution_id));
create policy work on execution.execution_commands to studios_engine using (true) with check (true);
grant insert (execution_id, seq, company_id, studio_id, kind, payload, issued_by) on execution.execution_commands to studios_execution;
grant select, insert, delete on execution.execution_commands to studios_engine;

-- lz4 where this server was built with it: a third of pglz's cost on the large columns.
do $$
begin
    alter table execution.journal alter column payload set compression lz4;
    alter table execution.executions alter column inputs set compression lz4;
    alter table execution.executions alter column outputs set compression lz4;
exception when feature_not_supported then
    raise notice 'this server has no lz4; large columns use pglz';
end $$;

-- The smallest UUIDv7 of a moment (RFC 9562): its milliseconds, then the version and variant bits, then zeros.
create function execution.uuid7_floor(moment timestamptz) returns uuid
language sql immutable parallel safe set search_path = ''
as $$ select (lpad(to_hex(floor(extract(epoch from moment) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid $$;

-- Makes the monthly partitions from this month to so many months ahead, where the default partition holds nothing of theirs.
create function execution.ensure_partitions(months_ahead int) returns int
language plpgsql security definer set search_path = ''
as $$
declare
    made int := 0;
    parent text;
    month timestamptz;
    part text;
    taken boolean;
begin
    perform pg_advisory_xact_lock(hashtext('execution.ensure_partitions'));
    for k in 0 .. least(greatest(months_ahead, 0), 24) loop
        month := date_trunc('month', now() at time zone 'utc') at time zone 'utc' + make_interval(months => k);
        foreach parent in array array['executions', 'journal'] loop
            part := parent || '_' || to_char(month at time zone 'utc', 'YYYY_MM');
            continue when to_regclass('execution.' || part) is not null;
            execute format('select exists (select from execution.%I where %I >= $1 and %I < $2)', parent || '_default',
                    case parent when 'journal' then 'execution_id' else 'id' end,
                    case parent when 'journal' then 'execution_id' else 'id' end)
                into taken using execution.uuid7_floor(month), execution.uuid7_floor(month + interval '1 month');
            continue when taken;
            execute format('create table execution.%I partition of execution.%I for values from (%L) to (%L)', part, parent,
                execution.uuid7_floor(month), execution.uuid7_floor(month + interval '1 month'));
            execute format('alter table execution.%I enable row level security, force row level security', part);
            execute format('create policy owner on execution.%I to studios_owner using (true) with check (true)', part);
            made := made + 1;
        end loop;
    end loop;
    return made;
end $$;
alter table execution.executions_default enable row level security, force row level security;
create policy owner on execution.executions_default to studios_owner using (true) with check (true);
alter table execution.journal_default enable row level security, force row level security;
create policy owner on execution.journal_default to studios_owner using (true) with check (true);
revoke execute on function execution.ensure_partitions(int) from public;
grant execute on function execution.ensure_partitions(int) to studios_engine;
select execution.ensure_partitions(2);
