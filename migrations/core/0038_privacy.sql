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
    error text not null default '',
    -- Grows each time that somebody takes it; what an earlier taker says counts no more.
    attempt int not null default 0,
    leased_until timestamptz,
    -- The attempts whose part of the other service, and whose archive, are kept.
    part int,
    archive int,
    size_bytes bigint not null default 0,
    sha256 bytea,
    expires_at timestamptz,
    -- The object that is being written, and its parts, which nobody sees and which cost until they are removed.
    writing text,
    multipart_id text,
    -- When the other service looks once more for what was under way there when a company was erased.
    sweep_at timestamptz,
    finished_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((company_id is null) <> (user_id is null))
);
create unique index privacy_requests_open on core.privacy_requests (kind, coalesce(company_id, user_id))
    where state in ('waiting', 'execution', 'core');
create index privacy_requests_company on core.privacy_requests (company_id, id);
create index privacy_requests_requested_by on core.privacy_requests (requested_by, id);
create index privacy_requests_due on core.privacy_requests (state, due_at) where state in ('waiting', 'execution', 'core');
create index privacy_requests_sweep on core.privacy_requests (sweep_at) where sweep_at is not null;
create index privacy_requests_expiry on core.privacy_requests (expires_at) where archive is not null;
create trigger touch before update on core.privacy_requests for each row execute function core.touch_time();
alter table core.privacy_requests enable row level security, force row level security;
create policy owner on core.privacy_requests to studios_owner using (true) with check (true);
-- Who has asked for an erasure may see what comes of it, though the company, and his place in it, be gone by then.
create policy see on core.privacy_requests for select to studios_core
    using (user_id = (select core.caller_id()) or company_id = any (array(select core.caller_admin_companies()))
        or (kind = 'erasure' and requested_by = (select core.caller_id())));
create policy ask on core.privacy_requests for insert to studios_core
    with check (requested_by = (select core.caller_id())
        and (user_id = (select core.caller_id()) or company_id = any (array(select core.caller_admin_companies()))));
create policy take_back on core.privacy_requests for update to studios_core
    using (state = 'waiting'
        and (user_id = (select core.caller_id()) or company_id = any (array(select core.caller_admin_companies()))))
    with check (state = 'cancelled');
create policy work on core.privacy_requests to studios_core_worker using (true) with check (true);
grant select on core.privacy_requests to studios_core;
grant insert (id, kind, company_id, user_id, requested_by, due_at) on core.privacy_requests to studios_core;
grant update (state) on core.privacy_requests to studios_core;
grant select, update on core.privacy_requests to studios_core_worker;

-- Companies that would have nobody to administer them without a user, but those that are to be erased themselves.
create function core.administered_alone(subject uuid) returns setof uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select m.company_id from core.memberships m
    where m.user_id = subject and m.state = 'approved' and m.role = 'admin'
        and not exists (select from core.memberships o where o.company_id = m.company_id and o.user_id <> m.user_id
            and o.state = 'approved' and o.role = 'admin' and not o.machine)
        and not exists (select from core.privacy_requests r where r.company_id = m.company_id and r.kind = 'erasure'
            and r.state in ('waiting', 'execution', 'core'))
    order by m.company_id;
end $$;
create function core.caller_administers_alone() returns setof uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query select a from core.administered_alone(core.caller_id()) a;
end $$;

-- Tables of this schema with such a column, of a user's or company's id or a list of them; those that others refer to last.
create function core.tables_with(wanted text) returns setof regclass
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select c.oid::regclass from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attname = wanted and a.atttypid in ('uuid'::regtype, 'uuid[]'::regtype)
    where c.relnamespace = 'core'::regnamespace and c.relkind = 'r'
    order by (select count(*) from pg_constraint k where k.contype = 'f' and k.confrelid = c.oid and k.conrelid <> c.oid), c.relname;
end $$;

-- The rows of a table that a condition about $1 selects, as JSON: without what is sealed, hashed, or made for searching, or where
-- only `marks` of them are wanted, with their ids and times alone. What is sealed of the audit log is the service's to open.
create function core.rows_of(in_table regclass, condition text, subject uuid, marks boolean)
returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    hidden text[] := array(select a.attname::text from pg_attribute a
        where a.attrelid = in_table and a.attnum > 0 and not a.attisdropped
            and case when marks then a.atttypid not in ('uuid'::regtype, 'timestamptz'::regtype)
                else a.atttypid in ('bytea'::regtype, 'tsvector'::regtype) and a.attname <> 'personal'
                    or a.attname ~ '(^|_)(hash|secret|token|multipart_id|trace_context)$' end);
begin
    return query execute format('select %L::text, to_jsonb(t) - $2 from %s t where %s',
        split_part(in_table::text, '.', 2), in_table, condition) using subject, hidden;
end $$;

-- Everything of a company in this schema. The outbox says what happened to the rows that are here anyway.
create function core.export_company(company uuid) returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    found regclass;
begin
    return query select r.* from core.rows_of('core.companies', 'id = $1', company, false) r;
    for found in select * from core.tables_with('company_id') loop
        continue when found = 'core.outbox'::regclass;
        return query select r.kind, r.data - 'personal' from core.rows_of(found, 'company_id = $1', company, false) r;
    end loop;
end $$;

-- The companies that a user has a place in.
create function core.places_of(subject uuid) returns setof uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select m.company_id from core.memberships m join core.companies c on c.id = m.company_id
    where m.user_id = subject and m.state = 'approved' and c.suspended_at is null;
end $$;

-- Everything about a user in this schema: whole where it is about him, where he did it, and where nobody but him sees it; of what
-- he made in companies, that he did and when.
create function core.export_user(subject uuid) returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    alone constant text := 'access_level = ''private'' and company_id in (select p from core.places_of($1) p)';
    named text;
    found regclass;
begin
    return query select r.* from core.rows_of('core.users', 'id = $1', subject, false) r;
    for found in select * from core.tables_with('user_id') loop
        return query select r.* from core.rows_of(found, 'user_id = $1', subject, false) r;
    end loop;
    return query select r.* from core.rows_of('core.audit_log', 'actor_id = $1', subject, false) r;
    return query select r.* from core.rows_of('core.invitations',
        'email = (select u.email from core.users u where u.id = $1 and u.email_verified)', subject, false) r;
    return query select r.* from core.rows_of('core.documents', 'created_by = $1 and ' || alone, subject, false) r;
    return query select r.* from core.rows_of('core.document_texts',
        'document_id in (select d.id from core.documents d where d.created_by = $1 and d.' || alone || ')', subject, false) r;
    return query select r.* from core.rows_of('core.files', 'uploaded_by = $1 and ' || alone, subject, false) r;
    foreach named in array array['created_by', 'uploaded_by', 'invited_by', 'requested_by', 'caller_id', 'users'] loop
        for found in select * from core.tables_with(named) loop
            return query select r.* from core.rows_of(found,
                format(case when named like '%users' then '$1 = any (%I)' else '%I = $1' end, named), subject, true) r;
        end loop;
    end loop;
end $$;

-- Erases rows of a company in this schema, at most so many of each table, and says how many they were; at 0 nothing is left. What
-- others refer to waits for them. Events are trimmed by their age: who follows them must not miss one.
create function core.erase_company_rows(company uuid, most int) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    found regclass;
    machines uuid[];
    done bigint;
    removed bigint := 0;
    is_blocked boolean := false;
begin
    -- The sealer's own: nothing is linked meanwhile.
    perform pg_advisory_xact_lock(hashtextextended('core.audit_log', 0));
    delete from core.audit_pending p where p.entry_id in (select l.id from core.audit_log l where l.company_id = company);
    delete from core.audit_heads h where h.chain = company;
    delete from core.audit_links l
    where l.ctid = any (array(select k.ctid from core.audit_links k where k.chain = company limit most));
    get diagnostics removed = row_count;
    for found in select * from core.tables_with('company_id') loop
        continue when found in ('core.privacy_requests'::regclass, 'core.outbox'::regclass, 'core.memberships'::regclass,
            'core.api_keys'::regclass);
        -- What refers to them is looked at no sooner than at the commit.
        continue when found = 'core.objects'::regclass
            and exists (select from core.file_versions v where v.company_id = company);
        begin
            execute format('delete from %s where ctid = any (array(select ctid from %1$s where company_id = $1 limit $2))', found)
                using company, most;
            get diagnostics done = row_count;
            removed := removed + done;
        exception when foreign_key_violation then
            is_blocked := true;
        end;
    end loop;
    if removed > 0 then
        return removed;
    elsif is_blocked then
        raise exception 'rows of company % are referred to by rows that are not its own', company;
    end if;
    machines := array(select k.id from core.api_keys k where k.company_id = company);
    delete from core.memberships m where m.company_id = company;
    delete from core.request_ids r where r.caller_id = any (machines);
    delete from core.audit_subjects s where s.subject = any (machines);
    delete from core.users u where u.id = any (machines);
    delete from core.companies c where c.id = company;
    return 0;
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

-- Lets nobody in any more who is to be erased: no session, no password, no place. Says false, and does nothing, while a company
-- would be left without an admin.
create function core.close_account(person uuid) returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
    place record;
begin
    -- As whoever changes a membership does, so that of the last two admins one stays.
    for place in select m.company_id from core.memberships m where m.user_id = person order by m.company_id loop
        perform pg_advisory_xact_lock(hashtextextended('core.memberships ' || place.company_id, 0));
    end loop;
    if exists (select from core.administered_alone(person)) then
        return false;
    end if;
    for place in select m.company_id from core.memberships m where m.user_id = person order by m.company_id loop
        perform core.publish_unasked(place.company_id, 'membership_changed', jsonb_build_object('user_id', person));
    end loop;
    for place in select s.id from core.sessions s where s.user_id = person and s.ended_at is null loop
        perform core.publish_unasked('00000000-0000-0000-0000-000000000000', 'session_ended',
            jsonb_build_object('session_id', place.id));
    end loop;
    delete from core.password_identities i where i.user_id = person;
    delete from core.external_identities i where i.user_id = person;
    delete from core.sessions s where s.user_id = person;
    delete from core.totp_factors f where f.user_id = person;
    delete from core.mail_tokens t where t.user_id = person;
    delete from core.mails m where m.user_id = person;
    delete from core.membership_branches b where b.user_id = person;
    delete from core.memberships m where m.user_id = person;
    delete from core.request_ids r where r.caller_id = person;
    return true;
end $$;

-- Erases who a user is, at most so many of what is his alone at a time, and says how many that were; at 0 nothing is left. What he
-- made in companies stays theirs, by a number that is nobody's any more.
create function core.erase_user_rows(person uuid, most int) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    done bigint;
    removed bigint := 0;
begin
    delete from core.documents d where d.id = any (array(select o.id from core.documents o
        where o.created_by = person and o.access_level = 'private' limit most));
    get diagnostics removed = row_count;
    delete from core.files f where f.id = any (array(select o.id from core.files o
        where o.uploaded_by = person and o.access_level = 'private' limit most));
    get diagnostics done = row_count;
    removed := removed + done;
    delete from core.uploads u where u.created_by = person;
    get diagnostics done = row_count;
    removed := removed + done;
    if removed > 0 then
        return removed;
    end if;
    delete from core.invitations i
    where i.email = (select u.email from core.users u where u.id = person and u.email_verified);
    -- The log keeps what he did, and nobody can read where he was and what he was called then.
    delete from core.audit_subjects s where s.subject = person;
    update core.users u set email = null, email_verified = false, full_name = 'Erased user', preferences = '{}', saved_prompts = '[]',
        last_sign_in_at = null where u.id = person;
    return 0;
end $$;

-- What is asked for of a company's data concerns its security.
drop trigger notify on core.audit_log;
create trigger notify after insert on core.audit_log for each row
    when (new.company_id is not null and new.outcome = 'done'
        and new.thing_kind in ('membership', 'api_key', 'invitation', 'join_code', 'company', 'privacy_request'))
    execute function core.notify_of_security();

revoke execute on function core.administered_alone(uuid), core.caller_administers_alone(), core.tables_with(text),
    core.rows_of(regclass, text, uuid, boolean), core.export_company(uuid), core.places_of(uuid), core.export_user(uuid),
    core.erase_company_rows(uuid, int), core.publish_unasked(uuid, text, jsonb), core.close_account(uuid),
    core.erase_user_rows(uuid, int) from public;
grant execute on function core.caller_administers_alone() to studios_core;
grant execute on function core.export_company(uuid), core.places_of(uuid), core.export_user(uuid),
    core.erase_company_rows(uuid, int), core.publish_unasked(uuid, text, jsonb), core.close_account(uuid),
    core.erase_user_rows(uuid, int) to studios_core_worker;
