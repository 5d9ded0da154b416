-- Snapshots: a workflow as its members kept it. workflow_id is null where it was imported, or once its workflow was erased;
-- version is null where it was taken of a draft; created_by is null once its maker's account was erased. Automatic ones are
-- drafts that something else was put over: they count for nobody.
create table execution.snapshots (
    id uuid primary key,
    company_id uuid not null,
    studio_id uuid not null,
    workflow_id uuid,
    version int check (version > 0),
    name text not null check (char_length(name) between 1 and 100),
    description text not null default '' check (char_length(description) <= 500),
    keep_on_delete boolean not null default false,
    automatic boolean not null default false,
    workflow_name text not null check (char_length(workflow_name) between 1 and 200),
    workflow_description text not null default '' check (char_length(workflow_description) <= 2000),
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    definition jsonb not null check (jsonb_typeof(definition) = 'object'),
    created_by uuid,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    foreign key (company_id, workflow_id) references execution.workflows (company_id, id) on delete set null (workflow_id)
);
create index snapshots_studio on execution.snapshots (company_id, studio_id, id);
create index snapshots_workflow on execution.snapshots (company_id, workflow_id, id);
create index snapshots_created_by on execution.snapshots (created_by, company_id, studio_id, id);
create trigger touch before update on execution.snapshots for each row execute function execution.touch();

alter table execution.snapshots enable row level security, force row level security;
create policy owner on execution.snapshots to studios_owner using (true) with check (true);
create policy reach on execution.snapshots to studios_execution
    using (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio()))
    with check (company_id = (select execution.caller_company()) and studio_id = (select execution.caller_studio()));
-- The foreign key does not ask whose the workflow is; the workflow's own policy does.
create policy own on execution.snapshots as restrictive for insert to studios_execution
    with check (created_by = (select execution.caller_id())
        and (workflow_id is null
            or exists (select from execution.workflows w where w.id = snapshots.workflow_id)));
grant select, delete on execution.snapshots to studios_execution;
grant insert (id, company_id, studio_id, workflow_id, version, name, description, keep_on_delete, automatic, workflow_name,
    workflow_description, metadata, definition, created_by) on execution.snapshots to studios_execution;
grant update (name, description, keep_on_delete) on execution.snapshots to studios_execution;

-- How many snapshots each user has made, in all his companies. A trigger keeps it, whoever makes or deletes them.
create table execution.snapshot_counts (
    user_id uuid primary key,
    used int not null default 0 check (used >= 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create trigger touch before update on execution.snapshot_counts for each row execute function execution.touch_time();
alter table execution.snapshot_counts enable row level security, force row level security;
create policy owner on execution.snapshot_counts to studios_owner using (true) with check (true);
create policy own on execution.snapshot_counts for select to studios_execution using (user_id = (select execution.caller_id()));
grant select on execution.snapshot_counts to studios_execution;

create function execution.count_snapshot() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    if tg_op <> 'INSERT' and not old.automatic then
        update execution.snapshot_counts set used = used - 1 where user_id = old.created_by;
    end if;
    if tg_op <> 'DELETE' and not new.automatic and new.created_by is not null then
        insert into execution.snapshot_counts as c (user_id, used) values (new.created_by, 1)
        on conflict (user_id) do update set used = c.used + 1;
    end if;
    return null;
end $$;
create trigger count_made after insert or delete on execution.snapshots
    for each row execute function execution.count_snapshot();
create trigger count_moved after update of created_by on execution.snapshots
    for each row when (old.created_by is distinct from new.created_by) execute function execution.count_snapshot();

-- How many snapshots the caller has made. Whoever asked is the only one of him until his transaction ends: what he makes in it
-- after he saw that there is room is made while there is.
create function execution.lock_snapshot_count() returns int
language plpgsql security definer set search_path = ''
as $$
declare
    counted int;
begin
    insert into execution.snapshot_counts (user_id) values (execution.caller_id()) on conflict (user_id) do nothing;
    select c.used into counted from execution.snapshot_counts c where c.user_id = execution.caller_id() for update;
    return counted;
end $$;

-- Where a snapshot is, before the caller's place there is known: ids only.
create function execution.locate_snapshot(snapshot uuid) returns table (company_id uuid, studio_id uuid)
language sql stable security definer set search_path = ''
as $$ select s.company_id, s.studio_id from execution.snapshots s where s.id = snapshot $$;
revoke execute on function execution.count_snapshot(), execution.lock_snapshot_count(), execution.locate_snapshot(uuid)
    from public;
grant execute on function execution.lock_snapshot_count(), execution.locate_snapshot(uuid) to studios_execution;

-- A version that was made of an older one.
alter table execution.workflow_versions
    add column rolled_back_from int,
    add constraint workflow_versions_rolled_back check (rolled_back_from > 0 and rolled_back_from < number);
grant insert (rolled_back_from) on execution.workflow_versions to studios_execution;

-- Lists by owner.
create index workflows_owner on execution.workflows (company_id, studio_id, owner_id, id);
