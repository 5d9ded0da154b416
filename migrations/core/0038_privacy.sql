-- Privacy: what was asked for to be exported or erased, and doing it. Neither a company nor a user is referred to by a key: a request
-- outlives what it erases.
create table core.privacy_requests (
    id uuid primary key,
    kind text not null check (kind in ('export', 'erasure')),
    company_id uuid,
    user_id uuid,
    requested_by uuid not null,
    state text not null default 'waiting' check (state in ('waiting', 'execution', 'core', 'done', 'cancelled')),
    due_at timestamptz not null,
    rows bigint not null default 0,
    objects bigint not null default 0,
    size_bytes bigint not null default 0,
    error text not null default '',
    leased_until timestamptz,
    expires_at timestamptz,
    finished_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((company_id is null) <> (user_id is null))
);
create unique index privacy_requests_open on core.privacy_requests (kind, coalesce(company_id, user_id))
    where state in ('waiting', 'execution', 'core');
create index privacy_requests_company on core.privacy_requests (company_id, id);
create index privacy_requests_user on core.privacy_requests (user_id, id);
create index privacy_requests_due on core.privacy_requests (state, due_at) where state in ('waiting', 'execution', 'core');
create index privacy_requests_expiry on core.privacy_requests (expires_at) where expires_at is not null;
create trigger touch before update on core.privacy_requests for each row execute function core.touch_time();
alter table core.privacy_requests enable row level security, force row level security;
create policy owner on core.privacy_requests to studios_owner using (true) with check (true);
create policy ask on core.privacy_requests to studios_core
    using (user_id = (select core.caller_id()) or company_id = any (array(select core.caller_admin_companies())))
    with check (requested_by = (select core.caller_id())
        and (user_id = (select core.caller_id()) or company_id = any (array(select core.caller_admin_companies()))));
create policy work on core.privacy_requests to studios_core_worker using (true) with check (true);
grant select on core.privacy_requests to studios_core;
grant insert (id, kind, company_id, user_id, requested_by, due_at) on core.privacy_requests to studios_core;
grant update (state) on core.privacy_requests to studios_core;
grant select, update on core.privacy_requests to studios_core_worker;

-- Companies that would have nobody to administer them without the caller.
create function core.caller_sole_admin_of() returns bigint
language plpgsql stable security definer set search_path = ''
as $$
begin
    return (select count(*) from core.memberships m
        where m.user_id = core.caller_id() and m.state = 'approved' and m.role = 'admin'
            and not exists (select from core.memberships o where o.company_id = m.company_id and o.user_id <> m.user_id
                and o.state = 'approved' and o.role = 'admin' and not o.machine));
end $$;

-- Tables of a schema with this column, those that others refer to last.
create function core.tables_with(in_schema text, wanted text) returns setof regclass
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attname = wanted and a.atttypid = 'uuid'::regtype and not a.attisdropped
    where n.nspname = in_schema and c.relkind = 'r'
    order by (select count(*) from pg_constraint k where k.contype = 'f' and k.confrelid = c.oid and k.conrelid <> c.oid), c.relname;
end $$;

-- The rows of a table that a condition names, as JSON without what is sealed, hashed or made for searching.
create function core.rows_of(in_table regclass, condition text, subject uuid) returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    hidden text[] := array(select a.attname::text from pg_attribute a
        where a.attrelid = in_table and a.attnum > 0 and a.atttypid in ('bytea'::regtype, 'tsvector'::regtype));
begin
    return query execute format('select %L::text, to_jsonb(t) - $2 from %s t where %s',
        split_part(in_table::text, '.', 2), in_table, condition) using subject, hidden;
end $$;

-- Everything of a company in this schema.
create function core.export_company(company uuid) returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    found regclass;
begin
    return query select r.* from core.rows_of('core.companies', 'id = $1', company) r;
    for found in select * from core.tables_with('core', 'company_id') loop
        return query select r.* from core.rows_of(found, 'company_id = $1', company) r;
    end loop;
end $$;

-- Everything that names a user in this schema.
create function core.export_user(subject uuid) returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    named text;
    found regclass;
begin
    return query select r.* from core.rows_of('core.users', 'id = $1', subject) r;
    foreach named in array array['user_id', 'created_by', 'uploaded_by', 'invited_by', 'requested_by', 'actor_id', 'caller_id'] loop
        for found in select * from core.tables_with('core', named) loop
            return query select r.* from core.rows_of(found, format('%I = $1', named), subject) r;
        end loop;
    end loop;
end $$;

-- Erases rows of a company in this schema, at most so many of each table, and says how many they were; none are left at 0.
-- What others refer to waits for them.
create function core.erase_company_rows(company uuid, most int) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    found regclass;
    done bigint;
    removed bigint := 0;
begin
    for found in select * from core.tables_with('core', 'company_id') loop
        continue when found = 'core.privacy_requests'::regclass;
        begin
            execute format('delete from %s where ctid = any (array(select ctid from %1$s where company_id = $1 limit $2))', found)
                using company, most;
            get diagnostics done = row_count;
            removed := removed + done;
        exception when foreign_key_violation then null;
        end;
    end loop;
    delete from core.audit_pending p where p.entry_id in (select l.entry_id from core.audit_links l where l.chain = company);
    delete from core.audit_links l where l.chain = company;
    get diagnostics done = row_count;
    removed := removed + done;
    delete from core.audit_heads h where h.chain = company;
    if removed = 0 then
        delete from core.companies c where c.id = company;
    end if;
    return removed;
end $$;

-- An event that nobody's request causes.
create function core.publish_unasked(company uuid, kind text, payload jsonb) returns void
language plpgsql security definer set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtext('core.outbox'));
    insert into core.outbox (position, company_id, kind, payload)
    values (nextval('core.outbox_position'), company, kind, payload);
    perform pg_notify('core_outbox', '');
end $$;

-- Lets nobody in any more who is to be erased: no session, no password, no place.
create function core.close_account(subject uuid) returns void
language plpgsql security definer set search_path = ''
as $$
declare
    place record;
begin
    for place in select m.company_id from core.memberships m where m.user_id = subject order by m.company_id loop
        perform core.publish_unasked(place.company_id, 'membership_changed', jsonb_build_object('user_id', subject));
    end loop;
    for place in select s.id from core.sessions s where s.user_id = subject loop
        perform core.publish_unasked('00000000-0000-0000-0000-000000000000', 'session_ended', jsonb_build_object('session_id', place.id));
    end loop;
    delete from core.password_identities where user_id = subject;
    delete from core.external_identities where user_id = subject;
    delete from core.sessions where user_id = subject;
    delete from core.totp_factors where user_id = subject;
    delete from core.mail_tokens where user_id = subject;
    delete from core.mails where user_id = subject;
    delete from core.membership_branches where user_id = subject;
    delete from core.memberships where user_id = subject;
    delete from core.request_ids where caller_id = subject;
end $$;

-- Erases who a user is. What he made in companies stays theirs; what nobody but him could see goes.
create function core.erase_user_rows(subject uuid) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    done bigint;
    removed bigint := 0;
begin
    perform core.close_account(subject);
    delete from core.documents d where d.created_by = subject and d.access_level = 'private';
    get diagnostics removed = row_count;
    delete from core.files f where f.uploaded_by = subject and f.access_level = 'private';
    get diagnostics done = row_count;
    removed := removed + done;
    delete from core.uploads u where u.created_by = subject;
    delete from core.audit_subjects s where s.subject = erase_user_rows.subject;
    update core.users u set email = null, email_verified = false, full_name = 'Erased user', preferences = '{}', saved_prompts = '[]',
        last_sign_in_at = null where u.id = subject;
    return removed + 1;
end $$;

revoke execute on function core.caller_sole_admin_of(), core.tables_with(text, text), core.rows_of(regclass, text, uuid),
    core.export_company(uuid), core.export_user(uuid), core.erase_company_rows(uuid, int), core.close_account(uuid),
    core.erase_user_rows(uuid), core.publish_unasked(uuid, text, jsonb) from public;
grant execute on function core.caller_sole_admin_of() to studios_core;
grant execute on function core.export_company(uuid), core.export_user(uuid), core.erase_company_rows(uuid, int),
    core.close_account(uuid), core.erase_user_rows(uuid), core.publish_unasked(uuid, text, jsonb) to studios_core_worker;
