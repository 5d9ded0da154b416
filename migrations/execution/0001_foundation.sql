-- What every table of this schema leans on. Claims here come from core-service's Access answer, never from the caller:
-- {"sub": user, "company_id": company, "role": "admin"|"member", "studio_id": studio or absent}.

grant usage on schema execution to studios_execution, studios_engine;

create function execution.caller_id() returns uuid
language sql stable parallel safe set search_path = ''
as $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
create function execution.caller_company() returns uuid
language sql stable parallel safe set search_path = ''
as $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'company_id')::uuid $$;
create function execution.caller_studio() returns uuid
language sql stable parallel safe set search_path = ''
as $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'studio_id')::uuid $$;
create function execution.caller_is_admin() returns boolean
language sql stable parallel safe set search_path = ''
as $$ select coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role' = 'admin', false) $$;

-- Keeps updated_at and the revision behind etags; for BEFORE UPDATE triggers.
create function execution.touch() returns trigger
language plpgsql set search_path = ''
as $$
begin
    new.updated_at := now();
    new.revision := old.revision + 1;
    return new;
end $$;
-- The same for rows without an etag.
create function execution.touch_time() returns trigger
language plpgsql set search_path = ''
as $$
begin
    new.updated_at := now();
    return new;
end $$;

-- Requests already answered: the same request_id of the same caller and method names the thing made the first time.
create table execution.request_ids (
    company_id uuid not null,
    caller_id uuid not null,
    method text not null,
    request_id uuid not null,
    body_hash bytea not null,
    resource_id uuid not null,
    created_at timestamptz not null default now(),
    primary key (company_id, caller_id, method, request_id)
);
create index request_ids_created_at on execution.request_ids (created_at);
alter table execution.request_ids enable row level security, force row level security;
create policy owner on execution.request_ids to studios_owner using (true) with check (true);
create policy own on execution.request_ids to studios_execution
    using (company_id = (select execution.caller_company()) and caller_id = (select execution.caller_id()))
    with check (company_id = (select execution.caller_company()) and caller_id = (select execution.caller_id()));
create policy expire on execution.request_ids to studios_engine using (true);
grant select, insert, delete on execution.request_ids to studios_execution;
grant select, delete on execution.request_ids to studios_engine;
