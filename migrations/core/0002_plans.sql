-- What a company, and for his personal limits a user, may have and use. Data, so that a limit changes without a release.
create table core.plans (
    code text primary key,
    display_name text not null,
    rank smallint not null unique,
    executions_per_month bigint not null check (executions_per_month >= 0),
    concurrent_executions int not null check (concurrent_executions >= 0),
    storage_bytes bigint not null check (storage_bytes >= 0),
    tokens_per_month bigint not null check (tokens_per_month >= 0),
    cost_micros_per_month bigint not null check (cost_micros_per_month >= 0),
    members int not null check (members >= 1),
    studios int not null check (studios >= 1),
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create trigger touch before update on core.plans for each row execute function core.touch();
grant select on core.plans to studios_core, studios_core_worker;

insert into core.plans
    (code, display_name, rank, executions_per_month, concurrent_executions, storage_bytes, tokens_per_month, cost_micros_per_month, members, studios)
values
    ('free', 'Free', 1, 1000, 5, 1073741824, 2000000, 5000000, 5, 3),
    ('pro', 'Pro', 2, 50000, 50, 107374182400, 200000000, 500000000, 100, 50),
    ('enterprise', 'Enterprise', 3, 5000000, 1000, 10995116277760, 20000000000, 50000000000, 10000, 5000);
