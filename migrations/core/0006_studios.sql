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
