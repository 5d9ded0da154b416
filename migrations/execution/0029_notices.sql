-- What companies are to be told: written in the commit that causes it, told to core-service, which knows who wants to hear it, and
-- then removed.
create table execution.notices (
    -- The same for the same thing, so that it is told once.
    id uuid primary key,
    company_id uuid not null,
    topic text not null check (topic in ('execution.failed', 'approval.waiting', 'approval.reminder', 'approval.escalated',
        'quota.warning', 'quota.reached', 'security.event')),
    data jsonb not null check (jsonb_typeof(data) = 'object'),
    -- Whom it concerns: these, and those of at least this rank. Of an approval, who may decide when it is told.
    users uuid[] not null default '{}',
    rank text check (rank in ('member', 'admin')),
    -- The approval that it is about, which is not told of any more once it is decided.
    execution_id uuid,
    stage text,
    visit int,
    item int,
    occurred_at timestamptz not null default now(),
    leased_until timestamptz,
    created_at timestamptz not null default now()
);
create index notices_created_at on execution.notices (created_at);
create index notices_execution on execution.notices (execution_id);
alter table execution.notices enable row level security, force row level security;
create policy owner on execution.notices to studios_owner using (true) with check (true);
create policy work on execution.notices to studios_engine using (true) with check (true);
grant select, delete on execution.notices to studios_engine;
grant update (leased_until) on execution.notices to studios_engine;

-- The name of an execution's workflow and what else a notice says of it.
create function execution.notice_of(execution uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
    return (select jsonb_build_object('execution_id', e.id, 'studio_id', e.studio_id, 'workflow_id', e.workflow_id,
            'workflow_name', w.name)
        from execution.executions e left join execution.workflows w on w.company_id = e.company_id and w.id = e.workflow_id
        where e.id = execution);
end $$;

create function execution.notice_failure() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into execution.notices (id, company_id, topic, data, users, occurred_at)
    values (md5('execution.failed ' || new.id)::uuid, new.company_id, 'execution.failed',
        execution.notice_of(new.id) || jsonb_build_object('failure_class', new.failure_class), array[new.started_by],
        new.finished_at)
    on conflict do nothing;
    return null;
end $$;
-- A run that is a stage of another is that one's business.
create trigger notice after update of status on execution.executions for each row
    when (new.status = 'failed' and old.status <> 'failed' and new.parent_id is null)
    execute function execution.notice_failure();

create function execution.notice_waiting() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    -- Whoever is asked anew, as by delegation, is told anew.
    insert into execution.notices (id, company_id, topic, data, execution_id, stage, visit, item, occurred_at)
    values (md5(concat_ws(' ', 'approval.waiting', new.execution_id, new.stage, new.visit, new.item, new.attempt, new.users,
            new.rank))::uuid, new.company_id, 'approval.waiting',
        execution.notice_of(new.execution_id) || jsonb_build_object('stage', new.stage, 'about', new.about),
        new.execution_id, new.stage, new.visit, new.item, new.since)
    on conflict do nothing;
    return null;
end $$;
create trigger notice after insert on execution.waiting for each row execute function execution.notice_waiting();

create function execution.notice_waited() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
    topic constant text := case new.kind when 'reminded' then 'approval.reminder' else 'approval.escalated' end;
begin
    insert into execution.notices (id, company_id, topic, data, execution_id, stage, visit, item, occurred_at)
    values (md5(concat_ws(' ', topic, new.execution_id, new.seq))::uuid, new.company_id, topic,
        execution.notice_of(new.execution_id) || jsonb_build_object('stage', new.stage),
        new.execution_id, new.stage, new.visit, new.item, new.occurred_at)
    on conflict do nothing;
    return null;
end $$;
create trigger notice after insert on execution.journal for each row when (new.kind in ('reminded', 'escalated'))
    execute function execution.notice_waited();

create function execution.notice_security() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into execution.notices (id, company_id, topic, data, rank, occurred_at)
    values (new.id, new.company_id, 'security.event', jsonb_strip_nulls(jsonb_build_object(
            'action', new.action, 'actor_kind', new.actor_kind, 'actor_id', new.actor_id, 'thing_kind', new.thing_kind,
            'thing_id', new.thing_id, 'correlation_id', nullif(new.correlation_id, ''))), 'admin', new.created_at)
    on conflict do nothing;
    return null;
end $$;
create trigger notice after insert on execution.audit_log for each row
    when (new.company_id is not null and new.outcome = 'done' and new.thing_kind = 'connection')
    execute function execution.notice_security();

-- Tells companies of limits of this month of which four fifths are used, or all: of each once, and once more after it grew.
create function execution.notice_quotas() returns void
language plpgsql security definer set search_path = ''
as $$
declare
    month_now constant date := date_trunc('month', now() at time zone 'UTC')::date;
    found record;
begin
    -- One looks at a time.
    if not pg_try_advisory_xact_lock(hashtextextended('execution.notice_quotas', 0)) then
        return;
    end if;
    for found in
        select c.company_id, c.told, q.place, q.quota, q.used, q.allowed,
            case when q.used >= q.allowed then 2 when q.used / 4 >= q.allowed / 5 then 1 else 0 end as level
        from execution.start_counts c
            left join lateral (
                select sum(s.tokens)::bigint as tokens, sum(s.cost_micros)::bigint as cost_micros
                from execution.spend s where s.company_id = c.company_id and s.month = c.month) s on true
            cross join lateral (values
                (0, 'executions_per_month', c.starts, c.executions_per_month),
                (1, 'tokens_per_month', coalesce(s.tokens, 0), c.tokens_per_month),
                (2, 'cost_micros_per_month', coalesce(s.cost_micros, 0), c.cost_micros_per_month))
                as q (place, quota, used, allowed)
        where c.month = month_now
    loop
        if (found.told >> 2 * found.place) & 3 <> found.level then
            update execution.start_counts c
            set told = c.told & ~(3 << 2 * found.place)::smallint | (found.level << 2 * found.place)::smallint
            where c.company_id = found.company_id and c.month = month_now;
        end if;
        if found.level > (found.told >> 2 * found.place) & 3 then
            insert into execution.notices (id, company_id, topic, data, rank)
            values (md5(concat_ws(' ', found.quota, found.company_id, month_now, found.level, found.allowed))::uuid,
                found.company_id, case found.level when 2 then 'quota.reached' else 'quota.warning' end,
                jsonb_build_object('quota', found.quota, 'used', found.used, 'limit', found.allowed, 'month', month_now), 'admin')
            on conflict do nothing;
        end if;
    end loop;
end $$;

revoke execute on function execution.notice_of(uuid), execution.notice_failure(), execution.notice_waiting(),
    execution.notice_waited(), execution.notice_security(), execution.notice_quotas() from public;
grant execute on function execution.notice_quotas() to studios_engine;
