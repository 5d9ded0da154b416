-- Privacy: what core-service is asked to export or erase, of this schema. As there, the catalogue says what a company's rows are.

-- Tables of this schema with such a column, partitions by themselves; those that others refer to last.
create function execution.tables_with(wanted text) returns setof regclass
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select c.oid::regclass from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attname = wanted and a.atttypid in ('uuid'::regtype, 'uuid[]'::regtype)
    where c.relnamespace = 'execution'::regnamespace and c.relkind = 'r'
    order by (select count(*) from pg_constraint k where k.contype = 'f' and k.confrelid = c.oid and k.conrelid <> c.oid), c.relname;
end $$;

-- The rows of a table that a condition about $1, and companies $3, selects, as JSON: without what is sealed, hashed, or made for
-- searching, or where only `marks` of them are wanted, with their ids and times alone. What is sealed of the audit log is the
-- service's to open; a journal's payload is JSON in bytes, and is shown as that.
create function execution.rows_of(in_table regclass, condition text, subject uuid, companies uuid[], marks boolean)
returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    hidden text[] := array(select a.attname::text from pg_attribute a
        where a.attrelid = in_table and a.attnum > 0 and not a.attisdropped
            and case when marks then a.atttypid not in ('uuid'::regtype, 'timestamptz'::regtype)
                else a.atttypid in ('bytea'::regtype, 'tsvector'::regtype) and a.attname <> 'personal'
                    or a.attname ~ '(^|_)(hash|secret|token|trace_context)$|^run_id$' end);
    parent regclass := (select i.inhparent::regclass from pg_inherits i where i.inhrelid = in_table);
    shown text := case when parent = 'execution.journal'::regclass and not marks
        then $q$ || jsonb_build_object('payload', convert_from(t.payload, 'UTF8')::jsonb)$q$ else '' end;
begin
    return query execute format('select %L::text, (to_jsonb(t) - $2)%s from %s t where %s',
        split_part(coalesce(parent, in_table)::text, '.', 2), shown, in_table, condition) using subject, hidden, companies;
end $$;

-- Everything of a company in this schema.
create function execution.export_company(company uuid) returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    found regclass;
begin
    for found in select * from execution.tables_with('company_id') loop
        return query select r.kind, r.data - 'personal' from execution.rows_of(found, 'company_id = $1', company, '{}', false) r;
    end loop;
end $$;

-- Everything about a user in this schema: whole where he did it, and where nobody but him sees it, in companies that he has a place
-- in; of what he made in companies, that he did and when.
create function execution.export_user(subject uuid, places uuid[]) returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    alone constant text := 'owner_id = $1 and visibility = ''private'' and company_id = any ($3)';
    own constant text := 'owner_id = $1 and company_id = any ($3)';
    named text;
    found regclass;
begin
    for found in select * from execution.tables_with('user_id') loop
        return query select r.* from execution.rows_of(found, 'user_id = $1', subject, places, false) r;
    end loop;
    return query select r.* from execution.rows_of('execution.audit_log', 'actor_id = $1', subject, places, false) r;
    return query select r.* from execution.rows_of('execution.plans', alone, subject, places, false) r;
    for found in select * from execution.tables_with('plan_id') loop
        return query select r.* from execution.rows_of(found,
            '(company_id, plan_id) in (select p.company_id, p.id from execution.plans p where p.' || alone || ')',
            subject, places, false) r;
    end loop;
    return query select r.* from execution.rows_of('execution.agent_sessions', own, subject, places, false) r;
    for found in select * from execution.tables_with('session_id') loop
        return query select r.* from execution.rows_of(found,
            '(company_id, session_id) in (select s.company_id, s.id from execution.agent_sessions s where s.' || own || ')',
            subject, places, false) r;
    end loop;
    return query select r.* from execution.rows_of('execution.agent_proposals',
        '(company_id, request_id) in (select a.company_id, a.id from execution.agent_requests a
            join execution.agent_sessions s on s.company_id = a.company_id and s.id = a.session_id where s.' || own || ')',
        subject, places, false) r;
    foreach named in array array['owner_id', 'created_by', 'started_by', 'published_by', 'issued_by', 'caller_id', 'users',
        'not_users'] loop
        for found in select * from execution.tables_with(named) loop
            return query select r.* from execution.rows_of(found,
                format(case when named like '%users' then '$1 = any (%I)' else '%I = $1' end, named), subject, places, true) r;
        end loop;
    end loop;
end $$;

-- Erases rows of a company, at most so many of each table, and says how many they were; at 0 nothing is left. What runs goes first:
-- whoever holds it has lost it, and writes nothing more.
create function execution.erase_company_rows(company uuid, most int) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    found regclass;
    machines uuid[];
    done bigint;
    removed bigint := 0;
    is_blocked boolean := false;
begin
    delete from execution.runs r where r.ctid = any (array(select o.ctid from execution.runs o where o.company_id = company limit most));
    get diagnostics removed = row_count;
    delete from execution.plan_runs r
    where r.ctid = any (array(select o.ctid from execution.plan_runs o where o.company_id = company limit most));
    get diagnostics done = row_count;
    removed := removed + done;
    if removed > 0 then
        return removed;
    end if;
    -- The sealer's own: nothing is linked meanwhile.
    perform pg_advisory_xact_lock(hashtextextended('execution.audit_log', 0));
    machines := array(select distinct l.actor_id from execution.audit_log l
        where l.company_id = company and l.actor_kind = 'api_key');
    delete from execution.audit_subjects s where s.subject = any (machines);
    delete from execution.audit_pending p where p.entry_id in (select l.id from execution.audit_log l where l.company_id = company);
    delete from execution.audit_heads h where h.chain = company;
    delete from execution.audit_links l
    where l.ctid = any (array(select k.ctid from execution.audit_links k where k.chain = company limit most));
    get diagnostics removed = row_count;
    for found in select * from execution.tables_with('company_id') loop
        begin
            execute format('delete from %s where ctid = any (array(select ctid from %1$s where company_id = $1 limit $2))', found)
                using company, most;
            get diagnostics done = row_count;
            removed := removed + done;
        exception when foreign_key_violation then
            is_blocked := true;
        end;
    end loop;
    if removed = 0 and is_blocked then
        raise exception 'rows of company % are referred to by rows that are not its own', company;
    end if;
    return removed;
end $$;

-- Erases what is a user's alone, at most so many at a time, and says how many that were; at 0 nothing is left. What he ran and made
-- in companies stays theirs, by nobody where that can be said, and else by a number that is nobody's any more.
create function execution.erase_user_rows(person uuid, most int) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    found regclass;
    done bigint;
    removed bigint := 0;
begin
    delete from execution.plans p where p.id = any (array(select o.id from execution.plans o
        where o.owner_id = person and o.visibility = 'private' limit most));
    get diagnostics removed = row_count;
    -- With a session goes what it ran: its workflow is nobody's to bring back.
    with gone as (
        delete from execution.agent_sessions s where s.id = any (array(select o.id from execution.agent_sessions o
            where o.owner_id = person limit most))
        returning s.company_id, s.id)
    update execution.workflows w set deleted_at = now() - interval '1 year'
    from gone g where w.company_id = g.company_id and w.id = g.id;
    get diagnostics done = row_count;
    removed := removed + done;
    update execution.snapshots s set created_by = null where s.id = any (array(select o.id from execution.snapshots o
        where o.created_by = person limit most));
    get diagnostics done = row_count;
    removed := removed + done;
    update execution.templates t set created_by = null where t.created_by = person;
    get diagnostics done = row_count;
    removed := removed + done;
    if removed > 0 then
        return removed;
    end if;
    update execution.template_versions v set published_by = null where v.published_by = person;
    update execution.connections c set created_by = null where c.created_by = person;
    for found in select * from execution.tables_with('user_id') loop
        execute format('delete from %s where user_id = $1', found) using person;
    end loop;
    delete from execution.request_ids r where r.caller_id = person;
    delete from execution.start_keys k where k.caller_id = person;
    delete from execution.audit_subjects s where s.subject = person;
    return 0;
end $$;

revoke execute on function execution.tables_with(text), execution.rows_of(regclass, text, uuid, uuid[], boolean),
    execution.export_company(uuid), execution.export_user(uuid, uuid[]), execution.erase_company_rows(uuid, int),
    execution.erase_user_rows(uuid, int) from public;
grant execute on function execution.export_company(uuid), execution.export_user(uuid, uuid[]),
    execution.erase_company_rows(uuid, int), execution.erase_user_rows(uuid, int) to studios_engine;
