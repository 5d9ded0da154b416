-- The same as before, in the language that keeps its plans: PostgreSQL plans SQL functions anew in every query that calls
-- them. Names are written out, so that they need no search_path of their own.
create or replace function execution.caller_id() returns uuid
language plpgsql stable parallel safe
as $$
begin
    return (nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb
        operator(pg_catalog.->>) 'sub')::pg_catalog.uuid;
end $$;
create or replace function execution.caller_company() returns uuid
language plpgsql stable parallel safe
as $$
begin
    return (nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb
        operator(pg_catalog.->>) 'company_id')::pg_catalog.uuid;
end $$;
create or replace function execution.caller_studio() returns uuid
language plpgsql stable parallel safe
as $$
begin
    return (nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb
        operator(pg_catalog.->>) 'studio_id')::pg_catalog.uuid;
end $$;

-- An execution as it is shown: where its run stands, and the attempt that a person has to decide. Whoever reads the view reads
-- the tables behind it under his own policies.
create view execution.execution_details with (security_invoker = true) as
select e.id, e.company_id, e.studio_id, e.workflow_id, e.workflow_version, e.status, e.inputs, e.outputs, r.stage,
    w.stage as waiting_stage, w.visit as waiting_visit, w.item as waiting_item, w.attempt as waiting_attempt,
    e.failure_class, e.failure_message, e.started_by, e.trace_context, e.created_at, e.started_at, e.finished_at,
    greatest(e.updated_at, r.updated_at) as updated_at
from execution.executions e
    left join execution.runs r on r.execution_id = e.id
    left join lateral (
        select a.stage, a.visit, a.item, a.attempt
        from execution.journal a
        where a.execution_id = e.id and a.kind = 'attempt' and a.outcome = 'pending'
            and not exists (
                select from execution.journal d
                where d.execution_id = a.execution_id and d.kind = 'decision' and d.stage = a.stage
                    and d.visit = a.visit and d.item = a.item and d.attempt = a.attempt)
        order by a.seq
        limit 1) w on e.status = 'paused';
grant select on execution.execution_details to studios_execution;

-- Reads of many callers in one statement. For each item its caller's claims are set before its rows are looked at, which
-- only plpgsql orders so; row level security holds for each. company is that of the row that was found. A plan is made once
-- and kept, perhaps while a table is still empty: it must use the index all the same.

-- The versions of workflows in use that starts are to be pinned to; number 0 is the newest.
create function execution.gather_pins(claims text[], workflows uuid[], numbers int[])
    returns table (item int, company uuid, studio_id uuid, published_version int, version_id uuid, number int)
language plpgsql
set search_path = '' set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    for k in 1 .. coalesce(array_length(claims, 1), 0) loop
        perform set_config('request.jwt.claims', claims[k], true);
        return query
        select k, w.company_id, w.studio_id, w.published_version, v.id, v.number
        from execution.workflows w
            left join execution.workflow_versions v on v.company_id = w.company_id and v.workflow_id = w.id
                and v.number = case numbers[k] when 0 then w.published_version else numbers[k] end
        where w.id = workflows[k] and w.deleted_at is null;
    end loop;
end $$;

-- Executions as they are shown. What waits for a person is looked for only where an execution is paused: starting so large a
-- query for every other one cost ten times what reading it does.
create function execution.gather_executions(claims text[], ids uuid[])
    returns table (item int, company uuid, details execution.execution_details)
language plpgsql
set search_path = '' set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    for k in 1 .. coalesce(array_length(claims, 1), 0) loop
        perform set_config('request.jwt.claims', claims[k], true);
        return query
        select k, e.company_id, row(e.id, e.company_id, e.studio_id, e.workflow_id, e.workflow_version, e.status, e.inputs,
            e.outputs, r.stage, null::text, null::int, null::int, null::int, e.failure_class, e.failure_message,
            e.started_by, e.trace_context, e.created_at, e.started_at, e.finished_at,
            greatest(e.updated_at, r.updated_at))::execution.execution_details
        from execution.executions e left join execution.runs r on r.execution_id = e.id
        where e.id = ids[k] and e.status <> 'paused';
        if not found then
            return query select k, d.company_id, d from execution.execution_details d where d.id = ids[k];
        end if;
    end loop;
end $$;
revoke execute on function execution.gather_pins(text[], uuid[], int[]), execution.gather_executions(text[], uuid[]) from public;
grant execute on function execution.gather_pins(text[], uuid[], int[]), execution.gather_executions(text[], uuid[])
    to studios_execution;
