-- What companies have used of what their plans let them: counted in the commits of what uses it, so that no crash loses any.

-- Starts of a calendar month (UTC), with the limits of the plan as they were at the last start: what is asked before each call.
create table execution.start_counts (
    company_id uuid not null,
    month date not null,
    starts bigint not null default 0 check (starts >= 0),
    tokens_per_month bigint not null,
    cost_micros_per_month bigint not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (company_id, month)
) with (fillfactor = 50);
create trigger touch before update on execution.start_counts for each row execute function execution.touch_time();
alter table execution.start_counts enable row level security, force row level security;
create policy owner on execution.start_counts to studios_owner using (true) with check (true);
create policy work on execution.start_counts to studios_engine using (true) with check (true);
create policy reach on execution.start_counts for select to studios_execution
    using (company_id = (select execution.caller_company()));
grant select, insert, update on execution.start_counts to studios_engine;
grant select on execution.start_counts to studios_execution;

-- Tokens and their cost, in parts: instances add to different rows, so that none waits for another's commit.
create table execution.spend (
    company_id uuid not null,
    month date not null,
    part smallint not null,
    tokens bigint not null check (tokens >= 0),
    cost_micros bigint not null check (cost_micros >= 0),
    created_at timestamptz not null default now(),
    primary key (company_id, month, part)
) with (fillfactor = 50);
alter table execution.spend enable row level security, force row level security;
create policy owner on execution.spend to studios_owner using (true) with check (true);
create policy work on execution.spend to studios_engine using (true) with check (true);
create policy reach on execution.spend for select to studios_execution
    using (company_id = (select execution.caller_company()));
grant select, insert, update on execution.spend to studios_engine;
grant select on execution.spend to studios_execution;

-- A company's runs that an instance holds; with runs_turns, those that are at work.
create index runs_held on execution.runs (company_id) where owner is not null;

create function execution.this_month() returns date
language sql stable set search_path = ''
as $$ select date_trunc('month', now() at time zone 'UTC')::date $$;

-- Runs of a company that are at work or could be: those that wait for a person, a time or another run are not. At most so many
-- are counted.
create function execution.at_work(company uuid, most bigint) returns bigint
language sql stable set search_path = ''
as $$
    select (select count(*) from (select from execution.runs r where r.company_id = company and r.owner is not null limit most) held)
        + (select count(*) from (select from execution.runs r
            where r.company_id = company and r.owner is null and r.run_at <= now() limit most) due)
$$;

-- Takes starts of companies out of what their plans leave, in the order in which they are given, which has to be the same for all
-- callers. The counts of a company are held until the commit, so that two who ask at once are told one after the other; each
-- query here sees what was committed before.
create function execution.admit(companies uuid[], wanted bigint[], per_month bigint[], at_once bigint[], tokens bigint[],
    cost bigint[]) returns table (company_id uuid, granted bigint, remaining bigint)
language plpgsql set search_path = '' set plan_cache_mode = force_generic_plan
as $$
declare
    month_now constant date := execution.this_month();
    made bigint;
begin
    for k in 1 .. coalesce(array_length(companies, 1), 0) loop
        loop
            select s.starts into made from execution.start_counts s
            where s.company_id = companies[k] and s.month = month_now for update;
            exit when found;
            insert into execution.start_counts (company_id, month, tokens_per_month, cost_micros_per_month)
            values (companies[k], month_now, tokens[k], cost[k]) on conflict do nothing;
        end loop;
        company_id := companies[k];
        granted := greatest(0, least(wanted[k], per_month[k] - made,
            at_once[k] - execution.at_work(companies[k], at_once[k])));
        remaining := greatest(0, per_month[k] - made - granted);
        update execution.start_counts s
        set starts = made + granted, tokens_per_month = tokens[k], cost_micros_per_month = cost[k]
        where s.company_id = companies[k] and s.month = month_now;
        return next;
    end loop;
end $$;
revoke execute on function execution.admit(uuid[], bigint[], bigint[], bigint[], bigint[], bigint[]),
    execution.at_work(uuid, bigint) from public;
grant execute on function execution.admit(uuid[], bigint[], bigint[], bigint[], bigint[], bigint[]) to studios_engine;
grant execute on function execution.at_work(uuid, bigint) to studios_engine;

-- The same of the caller's company, whose studios he may not all reach: a number and nothing else.
create function execution.caller_at_work(most bigint) returns bigint
language sql stable security definer set search_path = ''
as $$ select execution.at_work(execution.caller_company(), most) $$;
revoke execute on function execution.caller_at_work(bigint) from public;
grant execute on function execution.caller_at_work(bigint) to studios_execution;
