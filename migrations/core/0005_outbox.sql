-- Events that the other service must learn of, written in the commit that causes them.
create table core.outbox (
    position bigint primary key,
    company_id uuid not null,
    kind text not null,
    payload jsonb not null,
    created_at timestamptz not null default now()
);
create index outbox_company on core.outbox (company_id, position);
create index outbox_created_at on core.outbox (created_at);
create sequence core.outbox_position as bigint;
alter table core.outbox enable row level security, force row level security;
create policy owner on core.outbox to studios_owner using (true) with check (true);

-- Adds an event. The lock, held until the commit, makes positions come out in commit order, so that a cursor cannot skip one.
create function core.publish_event(company uuid, kind text, payload jsonb) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    given bigint;
begin
    perform pg_advisory_xact_lock(hashtext('core.outbox'));
    given := nextval('core.outbox_position');
    insert into core.outbox (position, company_id, kind, payload) values (given, company, kind, payload);
    return given;
end $$;
-- The newest event of the calling statement's snapshot; 0 where there is none.
create function core.current_outbox_position() returns bigint
language sql stable security definer set search_path = ''
as $$ select coalesce(max(position), 0) from core.outbox $$;
revoke execute on function core.publish_event(uuid, text, jsonb), core.current_outbox_position() from public;
grant execute on function core.publish_event(uuid, text, jsonb), core.current_outbox_position() to studios_core;
