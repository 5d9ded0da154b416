create table core.companies (
    id uuid primary key,
    name text not null check (char_length(name) between 3 and 100),
    industry_type text not null check (industry_type in
        ('technology', 'healthcare', 'finance', 'retail', 'manufacturing', 'education', 'consulting', 'other')),
    contact_email text not null,
    contact_phone text,
    headquarters_address text not null check (char_length(headquarters_address) between 10 and 500),
    plan text not null default 'free' references core.plans (code),
    created_by uuid not null references core.users (id),
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint companies_name_per_creator unique (created_by, name)
);
create index companies_plan on core.companies (plan);
create index companies_name on core.companies (name, id);
create trigger touch before update on core.companies for each row execute function core.touch();

create table core.branches (
    id uuid primary key,
    company_id uuid not null references core.companies (id) on delete cascade,
    name text not null check (char_length(name) between 2 and 100),
    address text not null check (char_length(address) between 10 and 500),
    contact_email text,
    contact_phone text,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint branches_name_per_company unique (company_id, name),
    unique (company_id, id)
);
create trigger touch before update on core.branches for each row execute function core.touch();

create table core.memberships (
    id uuid primary key,
    company_id uuid not null references core.companies (id) on delete cascade,
    user_id uuid not null references core.users (id),
    role text not null check (role in ('admin', 'member')),
    state text not null check (state in ('pending', 'approved', 'rejected', 'inactive')),
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint memberships_one_per_user unique (company_id, user_id)
);
create index memberships_user on core.memberships (user_id, state);
create index memberships_order on core.memberships (company_id, id);
create trigger touch before update on core.memberships for each row execute function core.touch();

-- Branches that an admin has narrowed a member to; a member without a row here reaches the whole company.
create table core.membership_branches (
    company_id uuid not null,
    user_id uuid not null,
    branch_id uuid not null,
    created_at timestamptz not null default now(),
    primary key (company_id, user_id, branch_id),
    foreign key (company_id, user_id) references core.memberships (company_id, user_id) on delete cascade,
    -- Not removed with the branch: without its last one the member would reach the whole company.
    foreign key (company_id, branch_id) references core.branches (company_id, id)
);
create index membership_branches_branch on core.membership_branches (company_id, branch_id);
create index membership_branches_user on core.membership_branches (user_id);

-- The caller's places, for policies: definer functions, so that a policy does not run into another one's.
-- Call them in a sub-select, which PostgreSQL evaluates once a statement.
create function core.caller_companies() returns setof uuid
language sql stable security definer set search_path = ''
as $$ select company_id from core.memberships where user_id = core.caller_id() and state = 'approved' $$;
create function core.caller_admin_companies() returns setof uuid
language sql stable security definer set search_path = ''
as $$ select company_id from core.memberships where user_id = core.caller_id() and state = 'approved' and role = 'admin' $$;
create function core.caller_narrowed_companies() returns setof uuid
language sql stable security definer set search_path = ''
as $$ select distinct company_id from core.membership_branches where user_id = core.caller_id() $$;
create function core.caller_branches() returns setof uuid
language sql stable security definer set search_path = ''
as $$ select branch_id from core.membership_branches where user_id = core.caller_id() $$;
create function core.company_is_new(company uuid) returns boolean
language sql stable security definer set search_path = ''
as $$ select exists (select from core.companies where id = company and created_by = core.caller_id())
         and not exists (select from core.memberships where company_id = company) $$;
-- The names of the members of a company of the caller's, and nothing else of their profiles.
create function core.member_names(company uuid) returns table (user_id uuid, full_name text)
language sql stable security definer set search_path = ''
as $$ select u.id, u.full_name
      from core.memberships m join core.users u on u.id = m.user_id
      where m.company_id = company and company in (select core.caller_companies()) $$;
revoke execute on function core.caller_companies(), core.caller_admin_companies(), core.caller_narrowed_companies(),
    core.caller_branches(), core.company_is_new(uuid), core.member_names(uuid) from public;
grant execute on function core.caller_companies(), core.caller_admin_companies(), core.caller_narrowed_companies(),
    core.caller_branches(), core.company_is_new(uuid), core.member_names(uuid) to studios_core;

alter table core.companies enable row level security, force row level security;
create policy owner on core.companies to studios_owner using (true) with check (true);
create policy read on core.companies for select to studios_core
    using (id = any (array(select core.caller_companies())));
create policy make on core.companies for insert to studios_core
    with check (created_by = (select core.caller_id()));
create policy change on core.companies for update to studios_core
    using (id = any (array(select core.caller_admin_companies())));
grant select on core.companies to studios_core;
grant insert (id, name, industry_type, contact_email, contact_phone, headquarters_address, created_by) on core.companies to studios_core;
grant update (name, industry_type, contact_email, contact_phone, headquarters_address) on core.companies to studios_core;

alter table core.branches enable row level security, force row level security;
create policy owner on core.branches to studios_owner using (true) with check (true);
create policy read on core.branches for select to studios_core
    using (company_id = any (array(select core.caller_companies())));
create policy make on core.branches for insert to studios_core
    with check (company_id = any (array(select core.caller_admin_companies())));
create policy change on core.branches for update to studios_core
    using (company_id = any (array(select core.caller_admin_companies())));
create policy remove on core.branches for delete to studios_core
    using (company_id = any (array(select core.caller_admin_companies())));
grant select, delete on core.branches to studios_core;
grant insert (id, company_id, name, address, contact_email, contact_phone) on core.branches to studios_core;
grant update (name, address, contact_email, contact_phone) on core.branches to studios_core;

alter table core.memberships enable row level security, force row level security;
create policy owner on core.memberships to studios_owner using (true) with check (true);
create policy read on core.memberships for select to studios_core
    using (user_id = (select core.caller_id()) or company_id = any (array(select core.caller_companies())));
-- A new company's maker becomes its admin; after that only admins make memberships.
create policy make on core.memberships for insert to studios_core
    with check (company_id = any (array(select core.caller_admin_companies()))
        or (user_id = (select core.caller_id()) and core.company_is_new(company_id)));
create policy change on core.memberships for update to studios_core
    using (company_id = any (array(select core.caller_admin_companies())));
grant select on core.memberships to studios_core;
grant insert (id, company_id, user_id, role, state) on core.memberships to studios_core;
grant update (role, state) on core.memberships to studios_core;

alter table core.membership_branches enable row level security, force row level security;
create policy owner on core.membership_branches to studios_owner using (true) with check (true);
create policy read on core.membership_branches for select to studios_core
    using (user_id = (select core.caller_id()) or company_id = any (array(select core.caller_companies())));
create policy make on core.membership_branches for insert to studios_core
    with check (company_id = any (array(select core.caller_admin_companies())));
create policy remove on core.membership_branches for delete to studios_core
    using (company_id = any (array(select core.caller_admin_companies())));
grant select, delete on core.membership_branches to studios_core;
grant insert (company_id, user_id, branch_id) on core.membership_branches to studios_core;
