-- What the engine does besides calling models: people, signals, pauses, children, forks.

-- Where an execution comes from: the one that it is a stage of, or the one whose outputs it began with.
alter table execution.executions add column parent_id uuid;
alter table execution.executions add column source_id uuid;
create index executions_parent on execution.executions (parent_id) where parent_id is not null;
create index executions_source on execution.executions (source_id) where source_id is not null;

-- Every row that is there meets the wider constraints, as it met the narrower ones: it need not be looked at again.
alter table execution.journal drop constraint journal_kind_check;
alter table execution.journal add constraint journal_kind_check check (kind in ('started', 'forked', 'intent', 'unknown',
    'attempt', 'child', 'decision', 'delegated', 'reminded', 'escalated', 'expired', 'signal', 'paused', 'resumed',
    'cancelled', 'finished')) not valid;
alter table execution.execution_commands drop constraint execution_commands_kind_check;
alter table execution.execution_commands add constraint execution_commands_kind_check check (kind in ('cancel', 'pause',
    'resume', 'decide', 'delegate', 'signal', 'child_ended')) not valid;

-- Several people may decide one attempt.
drop index execution.journal_decision_key;

-- What waits for people, as it is listed: whoever is asked finds it over all studios. The journal is the truth; the rows of an
-- execution are written anew in the commit of every entry that changes them, and go with its end.
create table execution.waiting (
    execution_id uuid not null,
    stage text not null,
    visit int not null,
    item int not null,
    attempt int not null,
    company_id uuid not null,
    studio_id uuid not null,
    about text not null check (about in ('output', 'question', 'outcome')),
    question text not null default '',
    -- Who may decide: these, and those of at least this rank; nobody else.
    users uuid[] not null default '{}',
    rank text check (rank in ('member', 'admin')),
    -- Who may not, whatever stands above: who has decided, left it to another, or started the run where that rules him out.
    not_users uuid[] not null default '{}',
    required int not null check (required > 0),
    approved int not null default 0 check (approved >= 0),
    since timestamptz not null,
    expires_at timestamptz,
    escalated boolean not null default false,
    created_at timestamptz not null default now(),
    primary key (execution_id, stage, visit, item)
);
create index waiting_company on execution.waiting (company_id, since, execution_id);
create index waiting_studio on execution.waiting (company_id, studio_id, since, execution_id);
alter table execution.waiting enable row level security, force row level security;
create policy owner on execution.waiting to studios_owner using (true) with check (true);
-- Whoever asks about the company as a whole is answered about all of it; each row's studio is looked at before it is shown.
create policy reach on execution.waiting for select to studios_execution
    using (company_id = (select execution.caller_company())
        and ((select execution.caller_studio()) is null or studio_id = (select execution.caller_studio())));
create policy work on execution.waiting to studios_engine using (true) with check (true);
grant select on execution.waiting to studios_execution;
grant select, insert, delete on execution.waiting to studios_engine;

-- A stage that runs another workflow is pinned to a version of it.
create policy pin on execution.workflows for select to studios_engine using (true);
grant select (published_version) on execution.workflows to studios_engine;
