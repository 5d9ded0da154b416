-- Models that stages may call. company_id is null for the platform's own, which every company reads.
create table execution.models (
    id uuid primary key,
    company_id uuid,
    name text not null check (char_length(name) between 1 and 100),
    provider text not null,
    provider_model text not null check (char_length(provider_model) between 1 and 200),
    context_length int not null check (context_length > 0),
    default_config jsonb not null default '{}' check (jsonb_typeof(default_config) = 'object'),
    input_price_micros bigint not null default 0 check (input_price_micros >= 0),
    output_price_micros bigint not null default 0 check (output_price_micros >= 0),
    enabled boolean not null default true,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint models_name_per_owner unique nulls not distinct (company_id, name),
    constraint models_provider_model_per_owner unique nulls not distinct (company_id, provider, provider_model)
);
create trigger touch before update on execution.models for each row execute function execution.touch();

alter table execution.models enable row level security, force row level security;
create policy owner on execution.models to studios_owner using (true) with check (true);
create policy read on execution.models for select to studios_execution
    using (company_id is null or company_id = (select execution.caller_company()));
create policy make on execution.models for insert to studios_execution
    with check (company_id = (select execution.caller_company()) and (select execution.caller_is_admin()));
create policy change on execution.models for update to studios_execution
    using (company_id = (select execution.caller_company()) and (select execution.caller_is_admin()));
create policy remove on execution.models for delete to studios_execution
    using (company_id = (select execution.caller_company()) and (select execution.caller_is_admin()));
create policy work on execution.models for select to studios_engine using (true);
grant select, insert, update, delete on execution.models to studios_execution;
grant select on execution.models to studios_engine;

insert into execution.models (id, company_id, name, provider, provider_model, context_length)
values ('01900000-0000-7000-8000-000000000001', null, 'offline', 'offline', 'offline-extractive-1', 131072);

-- Whose a model is, before the caller's place there is known: ids only.
create function execution.locate_model(model uuid) returns table (company_id uuid)
language sql stable security definer set search_path = ''
as $$ select m.company_id from execution.models m where m.id = model $$;
revoke execute on function execution.locate_model(uuid) from public;
grant execute on function execution.locate_model(uuid) to studios_execution;
