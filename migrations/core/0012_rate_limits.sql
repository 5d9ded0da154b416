-- The rates that all replicas share: of sign-ins, registrations and refreshes. A key is a keyed hash of what is counted. One
-- whose time is over is as if it were not there: a rate's is when the last use of it will be made good (GCRA's theoretical
-- arrival time), a mark's is until when it is remembered. Unlogged, because what is lost in a crash is only that somebody
-- came too often, and because a commit that strangers cause must not wait for the disk.
create unlogged table core.rate_limits (
    key bytea primary key,
    over_at timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index rate_limits_over_at on core.rate_limits (over_at);
create function core.touch_time() returns trigger
language plpgsql set search_path = ''
as $$
begin
    new.updated_at := now();
    return new;
end $$;
create trigger touch before update on core.rate_limits for each row execute function core.touch_time();
alter table core.rate_limits enable row level security, force row level security;
create policy owner on core.rate_limits to studios_owner using (true) with check (true);
create policy count on core.rate_limits to studios_core using (true) with check (true);
create policy expire on core.rate_limits to studios_core_worker using (true);
grant select, insert on core.rate_limits to studios_core;
grant update (over_at) on core.rate_limits to studios_core;
grant select, delete on core.rate_limits to studios_core_worker;

-- Counts a use of each of these rates. Where it was one too many, `refused` is the place in the list of the rate that it has to
-- wait for longest, `wait_us` how long, and the caller rolls back. A cost is what the use adds to a rate's time, a depth how far
-- ahead that may be; both in microseconds. A rate does not refuse where its mark (`unless`) is remembered. A negative cost
-- gives back.
create function core.take_rates(keys bytea[], costs bigint[], depths bigint[], unless bytea[],
    out refused int, out wait_us bigint)
language plpgsql set search_path = ''
as $$
declare
    at constant timestamptz := clock_timestamp();
begin
    -- Locked in one order, so that no two wait for each other.
    insert into core.rate_limits as r (key, over_at)
    select t.key, at + t.cost * interval '1 microsecond' from unnest(keys, costs) as t (key, cost) order by t.key
    on conflict (key) do update set over_at = greatest(r.over_at, at) + (excluded.over_at - at);

    select t.place, extract(epoch from r.over_at - at) * 1000000 - t.depth into refused, wait_us
    from unnest(keys, depths, unless) with ordinality as t (key, depth, mark, place)
    join core.rate_limits r on r.key = t.key
    where r.over_at - at > t.depth * interval '1 microsecond'
        and not exists (select from core.rate_limits m where m.key = t.mark and m.over_at > at)
    order by 2 desc limit 1;
end $$;
revoke execute on function core.take_rates(bytea[], bigint[], bigint[], bytea[]) from public;
grant execute on function core.take_rates(bytea[], bigint[], bigint[], bytea[]) to studios_core;
