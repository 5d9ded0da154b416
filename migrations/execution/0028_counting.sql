-- Counting what is at work: once a second and when it seems too much, instead of at every start, which a busy company's ended
-- runs, still in the indexes, made dear; and in functions whose queries stay planned, which those of SQL functions with a fixed
-- search_path do not.

-- How many runs were at work when that was last counted, with those that were let start since: with what ended meanwhile, never
-- too few, but for those that a person or a time has woken since, which the next second counts.
alter table execution.start_counts
    add column executions_per_month bigint not null default 9223372036854775807,
    add column at_work bigint not null default 0 check (at_work >= 0),
    add column counted_at timestamptz not null default '-infinity',
    -- What the company has been told of: two bits for each limit, of which the one says that four fifths are used, two that all is.
    add column told smallint not null default 0;

-- Without a search_path of its own it is put in place where it is called.
create or replace function execution.this_month() returns date
language sql stable
as $$ select pg_catalog.date_trunc('month', pg_catalog.now() at time zone 'UTC')::pg_catalog.date $$;

create or replace function execution.at_work(company uuid, most bigint) returns bigint
language plpgsql stable set search_path = '' set plan_cache_mode = force_generic_plan set enable_bitmapscan = off
as $$
begin
    return (select count(*) from (select from execution.runs r where r.company_id = company and r.owner is not null limit most) held)
        + (select count(*) from (select from execution.runs r
            -- Compared together, so that the index of times, which is of all companies, is not taken.
            where (r.company_id, r.run_at) >= (company, '-infinity') and (r.company_id, r.run_at) <= (company, now())
                and r.owner is null limit most) due);
end $$;

create or replace function execution.admit(companies uuid[], wanted bigint[], per_month bigint[], at_once bigint[],
    tokens bigint[], cost bigint[]) returns table (company_id uuid, granted bigint, remaining bigint)
language plpgsql set search_path = '' set plan_cache_mode = force_generic_plan
as $$
declare
    month_now constant date := date_trunc('month', now() at time zone 'UTC')::date;
    made bigint;
    working bigint;
    counted timestamptz;
begin
    for k in 1 .. coalesce(array_length(companies, 1), 0) loop
        loop
            select s.starts, s.at_work, s.counted_at into made, working, counted from execution.start_counts s
            where s.company_id = companies[k] and s.month = month_now for update;
            exit when found;
            insert into execution.start_counts (company_id, month, tokens_per_month, cost_micros_per_month)
            values (companies[k], month_now, tokens[k], cost[k]) on conflict do nothing;
        end loop;
        if working + wanted[k] > at_once[k] or counted < now() - interval '1 second' then
            working := execution.at_work(companies[k], at_once[k]);
            counted := now();
        end if;
        company_id := companies[k];
        granted := greatest(0, least(wanted[k], per_month[k] - made, at_once[k] - working));
        remaining := greatest(0, per_month[k] - made - granted);
        update execution.start_counts s
        set starts = made + granted, executions_per_month = per_month[k], at_work = working + granted, counted_at = counted,
            tokens_per_month = tokens[k], cost_micros_per_month = cost[k]
        where s.company_id = companies[k] and s.month = month_now;
        return next;
    end loop;
end $$;
