create table core.studios (
    id uuid primary key,
    company_id uuid not null references core.companies (id) on delete cascade,
    branch_id uuid,
    name text not null check (char_length(name) between 3 and 100),
    description text not null default '' check (char_length(description) <= 1000),
    business_area text not null check (business_area in
        ('marketing', 'sales', 'operations', 'customer_support', 'finance', 'hr', 'other')),
    created_by uuid not null references core.users (id),
    deleted_at timestamptz,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (company_id, id),
    foreign key (company_id, branch_id) references core.branches (company_id, id)
);
create unique index studios_name_per_company on core.studios (company_id, name) where deleted_at is null;
create index studios_branch on core.studios (company_id, branch_id);
create index studios_area on core.studios (company_id, business_area, id);
create index studios_created_by on core.studios (created_by);
create index studios_deleted_at on core.studios (deleted_at) where deleted_at is not null;
create trigger touch before update on core.studios for each row execute function core.touch();

alter table core.studios enable row level security, force row level security;
create policy owner on core.studios to studios_owner using (true) with check (true);
create policy reach on core.studios to studios_core
    using (company_id = any (array(select core.caller_companies()))
        and (company_id <> all (array(select core.caller_narrowed_companies()))
            or branch_id = any (array(select core.caller_branches()))));
grant select on core.studios to studios_core;
grant insert (id, company_id, branch_id, name, description, business_area, created_by) on core.studios to studios_core;
grant update (branch_id, name, description, business_area, deleted_at) on core.studios to studios_core;

-- Whether a studio is deleted, told to those too who do not reach it: what belongs to a deleted studio is gone for everybody.
create function core.studio_is_deleted(studio uuid) returns boolean
language sql stable security definer set search_path = ''
as $$ select exists (select from core.studios where id = studio and deleted_at is not null) $$;
revoke execute on function core.studio_is_deleted(uuid) from public;
grant execute on function core.studio_is_deleted(uuid) to studios_core;

-- How many studios a company of the caller's uses, those that the caller does not reach among them, and how many its plan
-- allows. Held under a lock until the commit, so that two who make one do not both take the last place.
create function core.studio_quota(company uuid) returns table (used bigint, allowed int)
language plpgsql security definer set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('core.studios ' || company, 0));
    return query
    select (select count(*) from core.studios s where s.company_id = c.id and s.deleted_at is null), p.studios
    from core.companies c join core.plans p on p.code = c.plan
    where c.id = company and c.id in (select core.caller_companies());
end $$;
revoke execute on function core.studio_quota(uuid) from public;
grant execute on function core.studio_quota(uuid) to studios_core;
