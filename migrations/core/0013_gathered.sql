-- What the gatherer asks, and what makes the policies behind it cheap. A function that is gathered takes each item's claims
-- and arguments as arrays, sets the claims locally and only then touches rows, as whoever calls it: plain SQL may look at
-- rows first. It answers with the item's number, the claims in force where the row was found, and the row. There are no
-- exception blocks, which would be a subtransaction each: who gathers runs a failing batch again by halves.

-- The same as before, in the language that keeps its plans: PostgreSQL plans the SQL functions anew in every query that
-- calls them, which was most of what a small read cost. Names are written out, so that it needs no search_path of its own.
create or replace function core.caller_id() returns uuid
language plpgsql stable parallel safe
as $$
begin
    return (nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::pg_catalog.jsonb
        operator(pg_catalog.->>) 'sub')::pg_catalog.uuid;
end $$;
create or replace function core.caller_companies() returns setof uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query select m.company_id from core.memberships m
    where m.user_id = core.caller_id() and m.state = 'approved';
end $$;
create or replace function core.caller_admin_companies() returns setof uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query select m.company_id from core.memberships m
    where m.user_id = core.caller_id() and m.state = 'approved' and m.role = 'admin';
end $$;
create or replace function core.caller_narrowed_companies() returns setof uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query select distinct b.company_id from core.membership_branches b where b.user_id = core.caller_id();
end $$;
create or replace function core.caller_branches() returns setof uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query select b.branch_id from core.membership_branches b where b.user_id = core.caller_id();
end $$;

create index memberships_approved on core.memberships (user_id, company_id) where state = 'approved';

-- The caller's companies, and what he reaches in them: a company's id where that is all of it, else the ids of the branches
-- that he is narrowed to. As views, which run as their owner, they become part of a query's plan, where functions cannot.
create view core.caller_places as
    select m.company_id from core.memberships m where m.user_id = core.caller_id() and m.state = 'approved';
create view core.caller_reach as
    select m.company_id, coalesce(b.branch_id, m.company_id) as reached
    from core.memberships m
        left join core.membership_branches b on b.company_id = m.company_id and b.user_id = m.user_id
    where m.user_id = core.caller_id() and m.state = 'approved';
grant select on core.caller_places, core.caller_reach to studios_core;

alter policy read on core.companies using (id = any (array(select company_id from core.caller_places)));
-- One look-up in place of three. No index serves it: a list says besides which companies it is about.
alter policy reach on core.studios using (array[company_id, branch_id] && array(select reached from core.caller_reach));

create function core.get_studios(claims text[], ids uuid[]) returns table (
    item int, seen_claims text, id uuid, company_id uuid, branch_id uuid, name text, description text, business_area text,
    created_by uuid, deleted_at timestamptz, revision bigint, created_at timestamptz, updated_at timestamptz)
language plpgsql stable set search_path = ''
as $$
begin
    for k in 1 .. cardinality(ids) loop
        perform set_config('request.jwt.claims', claims[k], true);
        return query
        select k, current_setting('request.jwt.claims', true), s.id, s.company_id, s.branch_id, s.name, s.description,
            s.business_area, s.created_by, s.deleted_at, s.revision, s.created_at, s.updated_at
        from core.studios s where s.id = ids[k];
    end loop;
end $$;

create function core.get_companies(claims text[], ids uuid[]) returns table (
    item int, seen_claims text, id uuid, name text, industry_type text, contact_email text, contact_phone text,
    headquarters_address text, plan text, created_by uuid, revision bigint, created_at timestamptz, updated_at timestamptz)
language plpgsql stable set search_path = ''
as $$
begin
    for k in 1 .. cardinality(ids) loop
        perform set_config('request.jwt.claims', claims[k], true);
        return query
        select k, current_setting('request.jwt.claims', true), c.id, c.name, c.industry_type, c.contact_email,
            c.contact_phone, c.headquarters_address, c.plan, c.created_by, c.revision, c.created_at, c.updated_at
        from core.companies c where c.id = ids[k];
    end loop;
end $$;

create function core.get_users(claims text[], ids uuid[]) returns table (
    item int, seen_claims text, id uuid, email text, full_name text, preferences jsonb, saved_prompts jsonb, max_snapshots int,
    plan text, subscription_status text, last_sign_in_at timestamptz, revision bigint, created_at timestamptz,
    updated_at timestamptz)
language plpgsql stable set search_path = ''
as $$
begin
    for k in 1 .. cardinality(ids) loop
        perform set_config('request.jwt.claims', claims[k], true);
        return query
        select k, current_setting('request.jwt.claims', true), u.id, u.email, u.full_name, u.preferences, u.saved_prompts,
            u.max_snapshots, u.plan, u.subscription_status, u.last_sign_in_at, u.revision, u.created_at, u.updated_at
        from core.users u where u.id = ids[k];
    end loop;
end $$;

-- Makes studios, with their idempotency keys where they have some. `outcome` says what became of an item: `made`, with what
-- the row was given; `repeated`, with the hash of the key's first request and what that one made; or why not, with nothing
-- of it left behind. Keys are taken in their order, then companies locked in theirs, so that batches that wait for each
-- other never do so in a ring.
create function core.create_studios(
    claims text[], ids uuid[], companies uuid[], branches uuid[], names text[], descriptions text[], areas text[],
    method text, requests uuid[], hashes bytea[])
returns table (
    item int, seen_claims text, outcome text, revision bigint, created_at timestamptz, updated_at timestamptz,
    first_hash bytea, first_id uuid, used bigint, allowed int)
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
    taken boolean[] := array_fill(false, array[cardinality(ids)]);
    reached uuid[];
begin
    for item in select i from generate_subscripts(requests, 1) i where requests[i] is not null order by requests[i], i loop
        perform set_config('request.jwt.claims', claims[item], true);
        delete from core.request_ids r
        where r.caller_id = core.caller_id() and r.method = create_studios.method and r.request_id = requests[item]
            and r.created_at < now() - interval '24 hours';
        insert into core.request_ids (caller_id, method, request_id, body_hash, resource_id)
        values (core.caller_id(), create_studios.method, requests[item], hashes[item], ids[item])
        on conflict do nothing;
        taken[item] := found;
    end loop;

    for item in select i from generate_subscripts(ids, 1) i order by companies[i], i loop
        perform set_config('request.jwt.claims', claims[item], true);
        seen_claims := current_setting('request.jwt.claims', true);
        revision := null; created_at := null; updated_at := null;
        first_hash := null; first_id := null; used := null; allowed := null;
        reached := array(select r.reached from core.caller_reach r where r.company_id = companies[item]);
        if reached = '{}' then
            outcome := 'no_company';
        elsif not array[companies[item], branches[item]] && reached then
            outcome := 'out_of_reach';
        elsif requests[item] is not null and not taken[item] then
            outcome := 'repeated';
            select r.body_hash, r.resource_id into first_hash, first_id from core.request_ids r
            where r.caller_id = core.caller_id() and r.method = create_studios.method and r.request_id = requests[item];
        else
            select q.used, q.allowed into used, allowed from core.studio_quota(companies[item]) q;
            if used >= allowed then
                outcome := 'no_room';
            elsif branches[item] is not null and not exists (
                select from core.branches b where b.company_id = companies[item] and b.id = branches[item]) then
                outcome := 'no_branch';
            else
                insert into core.studios as s (id, company_id, branch_id, name, description, business_area, created_by)
                values (ids[item], companies[item], branches[item], names[item], descriptions[item], areas[item],
                    core.caller_id())
                on conflict (company_id, name) where deleted_at is null do nothing
                returning s.revision, s.created_at, s.updated_at into revision, created_at, updated_at;
                outcome := case when found then 'made' else 'name_taken' end;
            end if;
        end if;
        if taken[item] and outcome <> 'made' then
            delete from core.request_ids r
            where r.caller_id = core.caller_id() and r.method = create_studios.method and r.request_id = requests[item];
        end if;
        return next;
    end loop;
end $$;

revoke execute on function core.get_studios(text[], uuid[]), core.get_companies(text[], uuid[]),
    core.get_users(text[], uuid[]),
    core.create_studios(text[], uuid[], uuid[], uuid[], text[], text[], text[], text, uuid[], bytea[]) from public;
grant execute on function core.get_studios(text[], uuid[]), core.get_companies(text[], uuid[]),
    core.get_users(text[], uuid[]),
    core.create_studios(text[], uuid[], uuid[], uuid[], text[], text[], text[], text, uuid[], bytea[]) to studios_core;
