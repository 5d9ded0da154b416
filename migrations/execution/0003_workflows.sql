create table execution.workflows (
    id uuid primary key,
    company_id uuid not null,
    studio_id uuid not null,
    owner_id uuid not null,
    name text not null check (char_length(name) between 1 and 200),
    description text not null default '' check (char_length(description) <= 2000),
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    draft jsonb not null,
    published_version int not null default 0,
    has_unpublished_changes boolean not null default true,
    deleted_at timestamptz,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (company_id, id)
);
create unique index workflows_name_per_studio on execution.workflows (company_id, studio_id, name) where deleted_at is null;
create index workflows_studio on execution.workflows (company_id, studio_id, id);
create index workflows_deleted_at on execution.workflows (deleted_at) where deleted_at is not null;
create trigger touch before update on execution.workflows for each row execute function execution.touch();

-- Immutable: no update is granted to anybody but the owner.
create table execution.workflow_versions (
    id uuid primary key,
    company_id uuid not null,
    studio_id uuid not null,
    workflow_id uuid not null,
    number int not null check (number > 0),
    name text not null,
    definition jsonb not null,
    published_by uuid not null,
    created_at timestamptz not null default now(),
    constraint workflow_versions_number unique (company_id, workflow_id, number),
    foreign key (company_id, workflow_id) references execution.workflows (company_id, id) on delete cascade
);

alter table execution.workflows enable row level security, force row level security;
create policy owner on execution.workflows to studios_owner using (true) with check (true);
create policy reach on execution.workflows to studios_execution
    using (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio()))
    with check (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio()));
grant select on execution.workflows to studios_execution;
grant insert (id, company_id, studio_id, owner_id, name, description, metadata, draft) on execution.workflows to studios_execution;
grant update (name, description, metadata, draft, published_version, has_unpublished_changes, deleted_at)
    on execution.workflows to studios_execution;

alter table execution.workflow_versions enable row level security, force row level security;
create policy owner on execution.workflow_versions to studios_owner using (true) with check (true);
create policy reach on execution.workflow_versions to studios_execution
    using (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio()))
    with check (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio()));
create policy work on execution.workflow_versions for select to studios_engine using (true);
grant select on execution.workflow_versions to studios_execution, studios_engine;
grant insert (id, company_id, studio_id, workflow_id, number, name, definition, published_by)
    on execution.workflow_versions to studios_execution;

-- Where a workflow is, before the caller's place there is known: ids only.
create function execution.locate_workflow(workflow uuid) returns table (company_id uuid, studio_id uuid)
language sql stable security definer set search_path = ''
as $$ select w.company_id, w.studio_id from execution.workflows w where w.id = workflow $$;
revoke execute on function execution.locate_workflow(uuid) from public;
grant execute on function execution.locate_workflow(uuid) to studios_execution;
