-- The outbox as others follow it: known kinds, a hint to those who wait, and the background role that reads and trims it.
alter table core.outbox
    add constraint outbox_kind check (kind in
        ('membership_changed', 'plan_changed', 'studio_changed', 'studio_deleted', 'studio_undeleted', 'company_deleted')),
    add constraint outbox_payload check (jsonb_typeof(payload) = 'object' and octet_length(payload::text) <= 1000);

create policy follow on core.outbox for select to studios_core_worker using (true);
create policy trim on core.outbox for delete to studios_core_worker using (true);
grant select, delete on core.outbox to studios_core_worker;

-- Adds an event of a company in which the caller has, or has just lost, a place; administrators may for every company.
-- The lock, held until the commit, makes positions come out in commit order, so that a cursor cannot skip one.
-- The notification is a hint: who does not hear it polls. NOTIFY takes a database-wide lock at commit, which events are
-- rare enough for.
create or replace function core.publish_event(company uuid, kind text, payload jsonb) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    given bigint;
begin
    if not exists (select from core.memberships m where m.company_id = company and m.user_id = core.caller_id())
        and not pg_has_role(session_user, 'studios_owner', 'member') then
        raise insufficient_privilege using message = 'the caller has no place in the company of the event';
    end if;
    perform pg_advisory_xact_lock(hashtext('core.outbox'));
    given := nextval('core.outbox_position');
    insert into core.outbox (position, company_id, kind, payload) values (given, company, kind, payload);
    perform pg_notify('core_outbox', '');
    return given;
end $$;
