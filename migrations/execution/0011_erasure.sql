-- Erasing workflows that were deleted 31 days ago, with all that is theirs. They can be brought back for 30 days: a day later
-- nobody is about to. The engine deletes what belongs to such a workflow and nothing else, whatever else it may do.
create function execution.is_erasable(deleted_at timestamptz) returns boolean
language sql stable parallel safe
as $$ select deleted_at < pg_catalog.now() - interval '31 days' $$;

create policy erase on execution.workflows to studios_engine using (execution.is_erasable(deleted_at));
grant select (id, company_id, studio_id, deleted_at), delete on execution.workflows to studios_engine;

create policy erase on execution.workflow_versions for delete to studios_engine
    using (exists (select from execution.workflows w where w.company_id = workflow_versions.company_id
        and w.id = workflow_versions.workflow_id and execution.is_erasable(w.deleted_at)));
grant delete on execution.workflow_versions to studios_engine;

create policy erase on execution.snapshots to studios_engine
    using (not keep_on_delete and exists (select from execution.workflows w where w.company_id = snapshots.company_id
        and w.id = snapshots.workflow_id and execution.is_erasable(w.deleted_at)));
grant select (id, company_id, workflow_id, keep_on_delete), delete on execution.snapshots to studios_engine;

-- The policy for the engine's work lets it reach every row; these say which of them it may delete. What still runs has a hot row,
-- and is not deleted.
create policy erase on execution.executions as restrictive for delete to studios_engine
    using (not exists (select from execution.runs r where r.execution_id = executions.id)
        and exists (select from execution.workflows w where w.company_id = executions.company_id
            and w.id = executions.workflow_id and execution.is_erasable(w.deleted_at)));
grant delete on execution.executions to studios_engine;

create policy erase on execution.journal as restrictive for delete to studios_engine
    using (not exists (select from execution.runs r where r.execution_id = journal.execution_id)
        and exists (select from execution.executions e
            join execution.workflows w on w.company_id = e.company_id and w.id = e.workflow_id
            where e.id = journal.execution_id and execution.is_erasable(w.deleted_at)));
grant delete on execution.journal to studios_engine;
