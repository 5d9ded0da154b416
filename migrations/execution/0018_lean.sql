-- What reading an execution under way asks the database, made shorter; and what publishing looks up.

-- As before (0013), but the claims are set by an assignment, and one under way is not looked at through the whole view either, where
-- nobody is asked anything and nobody left it a command: only a command pauses a run. CPU of one that runs, in a batch of 16: 91 µs
-- before, 48 µs after; alone: 165 µs before, 115 µs after.
create or replace function execution.gather_executions(claims text[], ids uuid[])
    returns table (item int, company uuid, details execution.execution_details)
language plpgsql stable
set search_path = '' set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
declare
    seen_claims text;
begin
    for k in 1 .. coalesce(array_length(claims, 1), 0) loop
        seen_claims := set_config('request.jwt.claims', claims[k], true);
        return query
        select k, e.company_id, row(e.id, e.company_id, e.studio_id, e.workflow_id, e.workflow_version, e.status, e.inputs,
            e.outputs, r.stage, null::jsonb, null::jsonb, e.failure_class, e.failure_message, e.started_by,
            e.trace_context, e.created_at, e.started_at, e.finished_at, greatest(e.updated_at, r.updated_at), e.parent_id,
            e.source_id, null::int)::execution.execution_details
        from execution.executions e left join execution.runs r on r.execution_id = e.id
        where e.id = ids[k] and e.status not in ('running', 'paused') and e.parent_id is null;
        continue when found;
        return query
        select k, e.company_id, row(e.id, e.company_id, e.studio_id, e.workflow_id, e.workflow_version, e.status, e.inputs,
            e.outputs, r.stage, null::jsonb, null::jsonb, e.failure_class, e.failure_message, e.started_by,
            e.trace_context, e.created_at, e.started_at, e.finished_at, greatest(e.updated_at, r.updated_at), e.parent_id,
            e.source_id, null::int)::execution.execution_details
        from execution.executions e join execution.runs r on r.execution_id = e.id
        where e.id = ids[k] and e.status = 'running' and e.parent_id is null and r.commands_seq = 0
            and not exists (select from execution.waiting w where w.execution_id = e.id);
        continue when found;
        return query select k, d.company_id, d from execution.execution_details d where d.id = ids[k];
    end loop;
end $$;

-- Which of these workflows the caller's company has in use, and their newest versions: a stage may run one of another studio,
-- whose rows the publisher's claims do not reach. Ids and numbers only; who may run it is asked when it is begun.
create function execution.callable_workflows(workflows uuid[]) returns table (id uuid, published_version int)
language sql stable security definer set search_path = ''
as $$
    select w.id, w.published_version from execution.workflows w
    where w.id = any (workflows) and w.company_id = execution.caller_company() and w.deleted_at is null
$$;
revoke execute on function execution.callable_workflows(uuid[]) from public;
grant execute on function execution.callable_workflows(uuid[]) to studios_execution;
