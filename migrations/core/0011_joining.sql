-- The code that people ask to join a company by, at most one a company: its SHA-256 to find it by, itself sealed under the
-- key ring for the admins.
create table core.join_codes (
    company_id uuid primary key references core.companies (id) on delete cascade,
    code_hash bytea not null unique,
    sealed bytea not null,
    created_by uuid not null references core.users (id),
    created_at timestamptz not null default now()
);
create index join_codes_created_by on core.join_codes (created_by);
alter table core.join_codes enable row level security, force row level security;
create policy owner on core.join_codes to studios_owner using (true) with check (true);
create policy keep on core.join_codes to studios_core
    using (company_id = any (array(select core.caller_admin_companies())))
    with check (company_id = any (array(select core.caller_admin_companies())));
grant select, insert, delete on core.join_codes to studios_core;

-- The company of a join code, which whoever asks is no member of yet. Answers with the id alone.
create function core.find_company_by_join_code(hash bytea) returns uuid
language sql stable security definer set search_path = ''
as $$ select company_id from core.join_codes where code_hash = hash $$;

-- Who has the code may ask: the membership is the caller's own, pending, and a member's. Without a word where he has one.
create function core.ask_to_join(membership uuid, hash bytea) returns void
language sql security definer set search_path = ''
as $$
    insert into core.memberships (id, company_id, user_id, role, state)
    select membership, company_id, core.caller_id(), 'member', 'pending' from core.join_codes
    where code_hash = hash and core.caller_id() is not null
    on conflict (company_id, user_id) do nothing
$$;

-- What is shown of these users beside their memberships in a company: the name to its members, the e-mail address to its
-- admins; both to whom they belong.
create function core.member_profiles(company uuid, users uuid[]) returns table (user_id uuid, full_name text, email text)
language sql stable security definer set search_path = ''
as $$
    select u.id, u.full_name,
        case when u.id = core.caller_id() or company in (select core.caller_admin_companies()) then u.email end
    from core.memberships m join core.users u on u.id = m.user_id
    where m.company_id = company and m.user_id = any (users)
        and (u.id = core.caller_id() or company in (select core.caller_companies()))
$$;

-- The name of a company, to whoever has a membership there, in whatever state.
create function core.company_name(company uuid) returns text
language sql stable security definer set search_path = ''
as $$
    select c.name from core.companies c
    where c.id = company
        and exists (select from core.memberships m where m.company_id = c.id and m.user_id = core.caller_id())
$$;

-- How many members a company has, and may have by its plan. The lock, held until the commit, makes others who ask wait.
create function core.member_quota(company uuid) returns table (used bigint, allowed int)
language plpgsql security definer set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('core.memberships ' || company, 0));
    return query
    select (select count(*) from core.memberships m where m.company_id = c.id and m.state = 'approved'), p.members
    from core.companies c join core.plans p on p.code = c.plan
    where c.id = company and c.id in (select core.caller_companies());
end $$;
revoke execute on function core.find_company_by_join_code(bytea), core.ask_to_join(uuid, bytea),
    core.member_profiles(uuid, uuid[]), core.company_name(uuid), core.member_quota(uuid) from public;
grant execute on function core.find_company_by_join_code(bytea), core.ask_to_join(uuid, bytea),
    core.member_profiles(uuid, uuid[]), core.company_name(uuid), core.member_quota(uuid) to studios_core;

-- A member may end his own membership, and nothing else of it; an admin's is an admin's to end, as any other.
create policy leave on core.memberships for update to studios_core
    using (user_id = (select core.caller_id()) and state = 'approved' and role = 'member')
    with check (user_id = (select core.caller_id()) and state = 'inactive' and role = 'member');
