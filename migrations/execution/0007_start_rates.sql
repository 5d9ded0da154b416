-- How many runs a company may start, over all replicas: when its starts so far will be made good (GCRA's theoretical arrival
-- time). Replicas take some at a time, so the row is written a few times a second and not at every start. Unlogged, because
-- what is lost in a crash is only that a company came too often.
create unlogged table execution.start_rates (
    company_id uuid primary key,
    over_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
) with (fillfactor = 50);
create trigger touch before update on execution.start_rates for each row execute function execution.touch_time();
alter table execution.start_rates enable row level security, force row level security;
create policy owner on execution.start_rates to studios_owner using (true) with check (true);
create policy own on execution.start_rates to studios_execution
    using (company_id = (select execution.caller_company())) with check (company_id = (select execution.caller_company()));
create policy expire on execution.start_rates to studios_engine using (true);
grant select, insert on execution.start_rates to studios_execution;
grant update (over_at) on execution.start_rates to studios_execution;
grant select, delete on execution.start_rates to studios_engine;

-- Takes at most so many starts of the caller's company, and says how many there were; where there was none, how long until
-- there is one. `burst` is how many there are after a long rest.
create function execution.take_starts(wanted int, per_second double precision, burst double precision,
    out granted int, out wait_us bigint)
language plpgsql set search_path = ''
as $$
declare
    company constant uuid := execution.caller_company();
    until timestamptz;
    at timestamptz;
    ahead double precision;
begin
    loop
        select r.over_at into until from execution.start_rates r where r.company_id = company for update;
        exit when found;
        insert into execution.start_rates (company_id) values (company) on conflict do nothing;
    end loop;
    -- Not before the row is held: others may have taken while this waited.
    at := clock_timestamp();
    ahead := greatest(0, extract(epoch from until - at)) * per_second;
    granted := greatest(0, least(wanted, floor(burst - ahead)));
    if granted = 0 then
        wait_us := ceil((ahead + 1 - burst) / per_second * 1000000);
        return;
    end if;
    wait_us := 0;
    update execution.start_rates r
    set over_at = greatest(until, at) + ceil(granted / per_second * 1000000) * interval '1 microsecond'
    where r.company_id = company;
end $$;
revoke execute on function execution.take_starts(int, double precision, double precision) from public;
grant execute on function execution.take_starts(int, double precision, double precision) to studios_execution;

-- Whoever repeats a start that was made is answered, however many his company starts.
create policy own on execution.start_keys for select to studios_execution
    using (company_id = (select execution.caller_company()) and caller_id = (select execution.caller_id()));
grant select on execution.start_keys to studios_execution;
