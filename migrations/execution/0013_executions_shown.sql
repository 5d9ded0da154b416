-- An execution as it is shown: what waits for people comes from execution.waiting, in place of a search in the journal.

drop function execution.gather_executions(text[], uuid[]);
drop view execution.execution_details;

-- Whether somebody asked to begin nothing new is said by the last of these; they are few, and found without reading the others.
create index journal_pauses on execution.journal (execution_id, seq) where kind in ('paused', 'resumed');

-- Whoever reads the view reads the tables behind it under his own policies. How many executions it runs within stands in the first
-- entry, which only a stage's execution is asked for.
create view execution.execution_details with (security_invoker = true) as
select e.id, e.company_id, e.studio_id, e.workflow_id, e.workflow_version, e.status, e.inputs, e.outputs, r.stage,
    w.waiting, convert_from(p.payload, 'UTF8')::jsonb as paused,
    e.failure_class, e.failure_message, e.started_by, e.trace_context, e.created_at, e.started_at, e.finished_at,
    greatest(e.updated_at, r.updated_at) as updated_at, e.parent_id, e.source_id,
    case when e.parent_id is not null then (
        select (convert_from(f.payload, 'UTF8')::jsonb ->> 'depth')::int
        from execution.journal f where f.execution_id = e.id and f.seq = 1) end as depth
from execution.executions e
    left join execution.runs r on r.execution_id = e.id
    left join lateral (
        select jsonb_agg(jsonb_build_object('stage', a.stage, 'visit', a.visit, 'item', a.item, 'attempt', a.attempt,
                'about', a.about, 'question', a.question, 'users', a.users, 'rank', a.rank, 'not_users', a.not_users,
                'required', a.required, 'approved', a.approved, 'since', a.since, 'expires_at', a.expires_at,
                'escalated', a.escalated)
            order by a.since, a.stage, a.item) as waiting
        from execution.waiting a where a.execution_id = e.id) w on e.status in ('running', 'paused')
    left join lateral (
        select j.kind, j.payload
        from execution.journal j
        where j.execution_id = e.id and j.kind in ('paused', 'resumed')
        order by j.seq desc
        limit 1) p on e.status in ('running', 'paused') and p.kind = 'paused';
grant select on execution.execution_details to studios_execution;

-- As before (0009): what only an execution under way can have is not looked for elsewhere.
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
            e.outputs, r.stage, null::jsonb, null::jsonb, e.failure_class, e.failure_message, e.started_by,
            e.trace_context, e.created_at, e.started_at, e.finished_at, greatest(e.updated_at, r.updated_at), e.parent_id,
            e.source_id, null::int)::execution.execution_details
        from execution.executions e left join execution.runs r on r.execution_id = e.id
        where e.id = ids[k] and e.status not in ('running', 'paused') and e.parent_id is null;
        if not found then
            return query select k, d.company_id, d from execution.execution_details d where d.id = ids[k];
        end if;
    end loop;
end $$;
revoke execute on function execution.gather_executions(text[], uuid[]) from public;
grant execute on function execution.gather_executions(text[], uuid[]) to studios_execution;

-- Why a run is not begun: whether any instance has room for it.
grant select (room) on execution.instances to studios_execution;
