-- A company's connections to outside servers: where, how, and the sealed secret. What is sealed is bound to its row.
create table execution.connections (
    id uuid primary key,
    company_id uuid not null,
    name text not null check (char_length(name) between 1 and 100),
    kind text not null check (kind in ('openai', 'anthropic', 'azure', 'ollama', 'flowise', 'activepieces', 'http')),
    base_url text not null check (char_length(base_url) between 1 and 2048),
    options jsonb not null default '{}' check (jsonb_typeof(options) = 'object'),
    -- key id (4) | nonce (12) | ciphertext and tag; null where the server wants none.
    secret bytea,
    secret_hint text not null default '' check (char_length(secret_hint) <= 8),
    enabled boolean not null default true,
    created_by uuid,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint connections_name_per_company unique (company_id, name),
    unique (company_id, id)
);
create trigger touch before update on execution.connections for each row execute function execution.touch();

alter table execution.connections enable row level security, force row level security;
create policy owner on execution.connections to studios_owner using (true) with check (true);
-- Whoever runs workflows uses connections; only admins make and change them.
create policy read on execution.connections for select to studios_execution
    using (company_id = (select execution.caller_company()));
create policy make on execution.connections for insert to studios_execution
    with check (company_id = (select execution.caller_company()) and (select execution.caller_is_admin())
        and created_by = (select execution.caller_id()));
create policy change on execution.connections for update to studios_execution
    using (company_id = (select execution.caller_company()) and (select execution.caller_is_admin()));
create policy remove on execution.connections for delete to studios_execution
    using (company_id = (select execution.caller_company()) and (select execution.caller_is_admin()));
create policy work on execution.connections for select to studios_engine using (true);
grant select, delete on execution.connections to studios_execution;
grant insert (id, company_id, name, kind, base_url, options, secret, secret_hint, enabled, created_by)
    on execution.connections to studios_execution;
-- A lock of a row (select for update) needs a column that may be updated; revision and times are the trigger's.
grant update (name, base_url, options, secret, secret_hint, enabled) on execution.connections to studios_execution;
grant select on execution.connections to studios_engine;

-- How a connection fared last. Its own table: what is written here changes no revision.
create table execution.connection_health (
    connection_id uuid primary key,
    company_id uuid not null,
    state text not null check (state in ('ok', 'failing')),
    last_ok_at timestamptz,
    last_error_at timestamptz,
    error_class text not null default '',
    error_reason text not null default '',
    error_message text not null default '' check (char_length(error_message) <= 1000),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    foreign key (company_id, connection_id) references execution.connections (company_id, id) on delete cascade
);
create index connection_health_company on execution.connection_health (company_id, connection_id);
create trigger touch before update on execution.connection_health for each row execute function execution.touch_time();

alter table execution.connection_health enable row level security, force row level security;
create policy owner on execution.connection_health to studios_owner using (true) with check (true);
create policy read on execution.connection_health for select to studios_execution
    using (company_id = (select execution.caller_company()));
create policy work on execution.connection_health to studios_engine using (true) with check (true);
grant select on execution.connection_health to studios_execution;
grant select, insert, update on execution.connection_health to studios_engine;

-- A company's model may be served through one of its connections. The id stays when the connection goes, so that the model
-- says what it is missing, and never takes another way.
alter table execution.models add column connection_id uuid;
create index models_connection on execution.models (company_id, connection_id) where connection_id is not null;
alter table execution.models drop constraint models_provider_model_per_owner;
alter table execution.models add constraint models_provider_model_per_owner
    unique nulls not distinct (company_id, provider, connection_id, provider_model);
alter table execution.models add constraint models_connection_owned check (connection_id is null or company_id is not null);

-- Whose a connection is, before the caller's place there is known: ids only.
create function execution.locate_connection(connection uuid) returns table (company_id uuid)
language sql stable security definer set search_path = ''
as $$ select c.company_id from execution.connections c where c.id = connection $$;
revoke execute on function execution.locate_connection(uuid) from public;
grant execute on function execution.locate_connection(uuid) to studios_execution;
