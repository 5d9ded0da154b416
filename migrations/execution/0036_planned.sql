-- The functions that look something up for somebody who may not read the table keep their plans: a query of an SQL function that
-- runs as its owner or with a search_path of its own is parsed and planned anew at each call. Where an execution is took 330
-- microseconds so.

create or replace function execution.caller_is_admin() returns boolean
language plpgsql stable parallel safe set search_path = ''
as $$
begin
    return coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role' = 'admin', false);
end $$;

create or replace function execution.locate_model(model uuid) returns table (company_id uuid)
language plpgsql stable security definer set search_path = ''
as $$ begin return query select m.company_id from execution.models m where m.id = model; end $$;

create or replace function execution.locate_workflow(workflow uuid) returns table (company_id uuid, studio_id uuid)
language plpgsql stable security definer set search_path = ''
as $$ begin return query select w.company_id, w.studio_id from execution.workflows w where w.id = workflow; end $$;

create or replace function execution.locate_execution(execution uuid) returns table (company_id uuid, studio_id uuid)
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$ begin return query select e.company_id, e.studio_id from execution.executions e where e.id = execution; end $$;

create or replace function execution.locate_snapshot(snapshot uuid) returns table (company_id uuid, studio_id uuid)
language plpgsql stable security definer set search_path = ''
as $$ begin return query select s.company_id, s.studio_id from execution.snapshots s where s.id = snapshot; end $$;

create or replace function execution.locate_connection(connection uuid) returns table (company_id uuid)
language plpgsql stable security definer set search_path = ''
as $$ begin return query select c.company_id from execution.connections c where c.id = connection; end $$;

create or replace function execution.locate_template(template uuid) returns table (company_id uuid)
language plpgsql stable security definer set search_path = ''
as $$ begin return query select t.company_id from execution.templates t where t.id = template; end $$;

create or replace function execution.locate_template_runs(workflows uuid[])
    returns table (workflow_id uuid, template_id uuid, template_version text)
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select w.id, w.template_id, w.template_version
    from execution.workflows w where w.id = any (workflows) and w.template_id is not null;
end $$;

create or replace function execution.locate_plan(plan uuid) returns table (company_id uuid, studio_id uuid)
language plpgsql stable security definer set search_path = ''
as $$ begin return query select p.company_id, p.studio_id from execution.plans p where p.id = plan; end $$;

create or replace function execution.callable_workflows(workflows uuid[]) returns table (id uuid, published_version int)
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select w.id, w.published_version from execution.workflows w
    where w.id = any (workflows) and w.company_id = execution.caller_company() and w.deleted_at is null;
end $$;

create or replace function execution.audit_keys(company uuid, subjects uuid[]) returns table (subject uuid, sealed bytea)
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select s.subject, s.sealed from execution.audit_subjects s
    where s.subject = any (subjects) and company = execution.caller_company() and execution.caller_is_admin()
        and exists (select from execution.audit_log l where l.company_id = company and l.actor_id = s.subject);
end $$;

create or replace function execution.caller_at_work(most bigint) returns bigint
language plpgsql stable security definer set search_path = ''
as $$ begin return execution.at_work(execution.caller_company(), most); end $$;

create or replace function execution.plan_standing(plan uuid, plan_version int)
    returns table (generated boolean, successes int, failures int, running boolean)
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select v.generated, s.successes, v.attempts - s.successes - s.running, s.running > 0
    from execution.plan_versions v cross join lateral (
        select (select count(*)::int from execution.plan_attempts a where a.company_id = v.company_id and a.plan_id = v.plan_id
                    and a.version = v.version and a.status = 'success') as successes,
            (select count(*)::int from execution.plan_runs r where r.company_id = v.company_id and r.plan_id = v.plan_id
                    and r.version = v.version) as running) s
    where v.company_id = (select execution.caller_company()) and v.plan_id = plan and v.version = plan_version;
end $$;
