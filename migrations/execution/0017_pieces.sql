-- Flows of ActivePieces that stages start: what is looked at until they have ended, and what came of them.

-- Every row that is there meets the wider constraints, as it met the narrower ones: it need not be looked at again.
alter table execution.journal drop constraint journal_kind_check;
alter table execution.journal add constraint journal_kind_check check (kind in ('started', 'forked', 'intent', 'unknown',
    'attempt', 'child', 'flow_run', 'decision', 'delegated', 'reminded', 'escalated', 'expired', 'signal', 'paused', 'resumed',
    'cancelled', 'finished')) not valid;
alter table execution.execution_commands drop constraint execution_commands_kind_check;
alter table execution.execution_commands add constraint execution_commands_kind_check check (kind in ('cancel', 'pause',
    'resume', 'decide', 'delegate', 'signal', 'child_ended', 'flow_ended')) not valid;

-- One row for each start, made before it is sent: who makes it may send, and nobody else, as ActivePieces would begin a second
-- run. It outlives its execution's end, which the flow's run may do too.
create table execution.flow_runs (
    execution_id uuid not null,
    stage text not null,
    visit int not null,
    item int not null,
    attempt int not null,
    -- How often people said that it is to be sent once more.
    round int not null,
    company_id uuid not null,
    studio_id uuid not null,
    started_by uuid not null,
    connection_id uuid not null,
    flow_id text not null check (flow_id ~ '^[0-9a-zA-Z]{21}$'),
    -- Our correlation id.
    tag text not null,
    calls_back boolean not null,
    tags_run boolean not null,
    -- Whether ActivePieces said that it has taken the start.
    taken boolean not null default false,
    -- A capability: whoever has it can resume the run. No role but the engine's reads it.
    run_id text check (run_id ~ '^[0-9a-zA-Z]{21}$'),
    -- As ActivePieces last said, and since when it says so.
    state text check (char_length(state) <= 40),
    state_since timestamptz,
    -- When it is looked at next; null once there is nothing more to find out.
    look_at timestamptz,
    looks int not null default 0,
    -- Until when it is waited for.
    until timestamptz not null,
    -- What became of asking ActivePieces to stop it.
    cancel text check (cancel in ('asked', 'done', 'not_possible')),
    outcome jsonb,
    steps jsonb check (jsonb_typeof(steps) = 'array'),
    ended_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (execution_id, stage, visit, item, attempt, round)
) with (fillfactor = 70);
create index flow_runs_due on execution.flow_runs (look_at) where look_at is not null;
create index flow_runs_company on execution.flow_runs (company_id);
create index flow_runs_outcomes on execution.flow_runs (ended_at) where outcome is not null;
create trigger touch before update on execution.flow_runs for each row execute function execution.touch_time();
alter table execution.flow_runs enable row level security, force row level security;
create policy owner on execution.flow_runs to studios_owner using (true) with check (true);
create policy reach on execution.flow_runs for select to studios_execution
    using (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio()));
create policy work on execution.flow_runs to studios_engine using (true) with check (true);
grant select (execution_id, stage, visit, item, attempt, round, company_id, studio_id, connection_id, flow_id, taken, state,
    state_since, look_at, until, cancel, steps, ended_at, created_at) on execution.flow_runs to studios_execution;
grant select, insert, update, delete on execution.flow_runs to studios_engine;
