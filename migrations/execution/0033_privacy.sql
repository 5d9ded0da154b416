-- Privacy: what core-service is asked to export or erase, of this schema. As there, the catalogue says what a company's rows are.

-- Tables with this column, partitions by themselves.
create function execution.tables_with(wanted text) returns setof regclass
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select c.oid::regclass from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attname = wanted and a.atttypid = 'uuid'::regtype and not a.attisdropped
    where c.relnamespace = 'execution'::regnamespace and c.relkind = 'r'
    order by (select count(*) from pg_constraint k where k.contype = 'f' and k.confrelid = c.oid and k.conrelid <> c.oid), c.relname;
end $$;

-- The rows of a table that a condition names, as JSON without what is sealed, hashed or made for searching. A journal's payload is
-- JSON in bytes, and is shown as that.
create function execution.rows_of(in_table regclass, condition text, subject uuid) returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    hidden text[] := array(select a.attname::text from pg_attribute a
        where a.attrelid = in_table and a.attnum > 0 and a.atttypid in ('bytea'::regtype, 'tsvector'::regtype));
    parent regclass := (select i.inhparent::regclass from pg_inherits i where i.inhrelid = in_table);
    shown text := case when parent = 'execution.journal'::regclass
        then $q$ || jsonb_build_object('payload', convert_from(t.payload, 'UTF8')::jsonb)$q$ else '' end;
begin
    return query execute format('select %L::text, (to_jsonb(t) - $2)%s from %s t where %s',
        split_part(coalesce(parent, in_table)::text, '.', 2), shown, in_table, condition) using subject, hidden;
end $$;

create function execution.export_company(company uuid) returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    found regclass;
begin
    for found in select * from execution.tables_with('company_id') loop
        return query select r.* from execution.rows_of(found, 'company_id = $1', company) r;
    end loop;
end $$;

create function execution.export_user(subject uuid) returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    named text;
    found regclass;
begin
    foreach named in array array['user_id', 'created_by', 'started_by', 'published_by', 'issued_by', 'actor_id', 'caller_id'] loop
        for found in select * from execution.tables_with(named) loop
            return query select r.* from execution.rows_of(found, format('%I = $1', named), subject) r;
        end loop;
    end loop;
end $$;

-- Erases rows of a company, at most so many of each table, and says how many they were; none are left at 0.
create function execution.erase_company_rows(company uuid, most int) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    found regclass;
    done bigint;
    removed bigint := 0;
begin
    for found in select * from execution.tables_with('company_id') loop
        begin
            execute format('delete from %s where ctid = any (array(select ctid from %1$s where company_id = $1 limit $2))', found)
                using company, most;
            get diagnostics done = row_count;
            removed := removed + done;
        exception when foreign_key_violation then null;
        end;
    end loop;
    delete from execution.audit_pending p
    where p.entry_id in (select l.entry_id from execution.audit_links l where l.chain = company);
    delete from execution.audit_links l where l.chain = company;
    get diagnostics done = row_count;
    delete from execution.audit_heads h where h.chain = company;
    return removed + done;
end $$;

-- Erases what is a user's alone, and the key of what the audit log says of him. What he ran in companies stays theirs, by a number
-- that is nobody's any more.
create function execution.erase_user_rows(subject uuid) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    found regclass;
    done bigint;
    removed bigint := 0;
begin
    delete from execution.snapshots s where s.created_by = subject;
    get diagnostics removed = row_count;
    for found in select * from execution.tables_with('user_id') loop
        execute format('delete from %s where user_id = $1', found) using subject;
        get diagnostics done = row_count;
        removed := removed + done;
    end loop;
    delete from execution.request_ids r where r.caller_id = subject;
    delete from execution.start_keys k where k.caller_id = subject;
    delete from execution.audit_subjects s where s.subject = erase_user_rows.subject;
    return removed;
end $$;

revoke execute on function execution.tables_with(text), execution.rows_of(regclass, text, uuid), execution.export_company(uuid),
    execution.export_user(uuid), execution.erase_company_rows(uuid, int), execution.erase_user_rows(uuid) from public;
grant execute on function execution.export_company(uuid), execution.export_user(uuid), execution.erase_company_rows(uuid, int),
    execution.erase_user_rows(uuid) to studios_engine;
