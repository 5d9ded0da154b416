-- What every table of this schema leans on. Runs as studios_owner, which owns the schema and all in it;
-- the services' roles own nothing and cannot bypass row level security.

grant usage on schema core to studios_core, studios_core_worker;

-- The calling user, from the claims that the tenant transaction sets locally; null where there are none.
create function core.caller_id() returns uuid
language sql stable parallel safe set search_path = ''
as $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;

-- Keeps updated_at and the revision behind etags; for BEFORE UPDATE triggers.
create function core.touch() returns trigger
language plpgsql set search_path = ''
as $$
begin
    new.updated_at := now();
    new.revision := old.revision + 1;
    return new;
end $$;

-- Requests already answered: the same request_id of the same caller and method names the thing made the first time.
create table core.request_ids (
    caller_id uuid not null,
    method text not null,
    request_id uuid not null,
    body_hash bytea not null,
    resource_id uuid not null,
    created_at timestamptz not null default now(),
    primary key (caller_id, method, request_id)
);
create index request_ids_created_at on core.request_ids (created_at);
alter table core.request_ids enable row level security, force row level security;
create policy owner on core.request_ids to studios_owner using (true) with check (true);
create policy own on core.request_ids to studios_core
    using (caller_id = (select core.caller_id())) with check (caller_id = (select core.caller_id()));
create policy expire on core.request_ids to studios_core_worker using (true);
grant select, insert, delete on core.request_ids to studios_core;
grant select, delete on core.request_ids to studios_core_worker;
