-- What a policy looks up for every studio read, made one narrow index look-up. What a user reaches follows from his
-- memberships and the branches that they are narrowed to; joining the two anew for every item was a third of what a
-- gathered read cost. The rows are kept by triggers, in the commit that changes what they follow from.

-- What each user reaches: a company's id where that is all of it, else the ids of the branches that he is narrowed to.
create table core.reach (
    user_id uuid not null,
    reached uuid not null,
    company_id uuid not null,
    created_at timestamptz not null default now(),
    primary key (user_id, reached) include (company_id),
    foreign key (company_id, user_id) references core.memberships (company_id, user_id) on delete cascade
);
create index reach_membership on core.reach (company_id, user_id);

alter table core.reach enable row level security, force row level security;
create policy owner on core.reach to studios_owner using (true) with check (true);
create policy own on core.reach for select to studios_core using (user_id = core.caller_id());
grant select on core.reach to studios_core;

-- Writes anew what the membership of the changed row reaches.
create function core.keep_reach() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
    place record;
begin
    if tg_op = 'DELETE' then place := old; else place := new; end if;
    -- Who narrows the same member at the same time waits here, and sees in what follows what the other one has done.
    perform from core.memberships m
    where m.company_id = place.company_id and m.user_id = place.user_id for no key update;
    delete from core.reach r where r.company_id = place.company_id and r.user_id = place.user_id;
    insert into core.reach (user_id, reached, company_id)
    select m.user_id, coalesce(b.branch_id, m.company_id), m.company_id
    from core.memberships m
        left join core.membership_branches b on b.company_id = m.company_id and b.user_id = m.user_id
    where m.company_id = place.company_id and m.user_id = place.user_id and m.state = 'approved';
    return null;
end $$;
revoke execute on function core.keep_reach() from public;
create trigger keep_reach after insert or update of state on core.memberships
    for each row execute function core.keep_reach();
create trigger keep_reach after insert or delete on core.membership_branches
    for each row execute function core.keep_reach();

insert into core.reach (user_id, reached, company_id)
select m.user_id, coalesce(b.branch_id, m.company_id), m.company_id
from core.memberships m left join core.membership_branches b on b.company_id = m.company_id and b.user_id = m.user_id
where m.state = 'approved';

alter policy reach on core.studios using (array[company_id, branch_id] && array(select r.reached from core.reach r));
create or replace view core.caller_reach as
    select r.company_id, r.reached from core.reach r where r.user_id = core.caller_id();

-- As before, but the claims are set by an assignment, which PL/pgSQL evaluates by itself, where `perform` runs a query for
-- it; and with plans that use the indexes, whatever the tables held when they were made.
create or replace function core.get_studios(claims text[], ids uuid[]) returns table (
    item int, seen_claims text, id uuid, company_id uuid, branch_id uuid, name text, description text, business_area text,
    created_by uuid, deleted_at timestamptz, revision bigint, created_at timestamptz, updated_at timestamptz)
language plpgsql stable set search_path = '' set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    for k in 1 .. cardinality(ids) loop
        seen_claims := set_config('request.jwt.claims', claims[k], true);
        return query
        select k, current_setting('request.jwt.claims', true), s.id, s.company_id, s.branch_id, s.name, s.description,
            s.business_area, s.created_by, s.deleted_at, s.revision, s.created_at, s.updated_at
        from core.studios s where s.id = ids[k];
    end loop;
end $$;

create or replace function core.get_companies(claims text[], ids uuid[]) returns table (
    item int, seen_claims text, id uuid, name text, industry_type text, contact_email text, contact_phone text,
    headquarters_address text, plan text, created_by uuid, revision bigint, created_at timestamptz, updated_at timestamptz)
language plpgsql stable set search_path = '' set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    for k in 1 .. cardinality(ids) loop
        seen_claims := set_config('request.jwt.claims', claims[k], true);
        return query
        select k, current_setting('request.jwt.claims', true), c.id, c.name, c.industry_type, c.contact_email,
            c.contact_phone, c.headquarters_address, c.plan, c.created_by, c.revision, c.created_at, c.updated_at
        from core.companies c where c.id = ids[k];
    end loop;
end $$;

create or replace function core.get_users(claims text[], ids uuid[]) returns table (
    item int, seen_claims text, id uuid, email text, full_name text, preferences jsonb, saved_prompts jsonb, max_snapshots int,
    plan text, subscription_status text, last_sign_in_at timestamptz, revision bigint, created_at timestamptz,
    updated_at timestamptz)
language plpgsql stable set search_path = '' set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    for k in 1 .. cardinality(ids) loop
        seen_claims := set_config('request.jwt.claims', claims[k], true);
        return query
        select k, current_setting('request.jwt.claims', true), u.id, u.email, u.full_name, u.preferences, u.saved_prompts,
            u.max_snapshots, u.plan, u.subscription_status, u.last_sign_in_at, u.revision, u.created_at, u.updated_at
        from core.users u where u.id = ids[k];
    end loop;
end $$;
