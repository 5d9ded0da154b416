create table core.users (
    id uuid primary key,
    email text check (email = lower(email)),
    email_verified boolean not null default false,
    full_name text not null check (char_length(full_name) between 2 and 100),
    preferences jsonb not null default '{}' check (jsonb_typeof(preferences) = 'object'),
    saved_prompts jsonb not null default '[]' check (jsonb_typeof(saved_prompts) = 'array'),
    max_snapshots int not null default 50 check (max_snapshots >= 0),
    plan text not null default 'free' references core.plans (code),
    subscription_status text not null default 'active' check (subscription_status in ('active', 'cancelled', 'expired')),
    usage_count bigint not null default 0,
    last_sign_in_at timestamptz,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index users_plan on core.users (plan);
create unique index users_verified_email on core.users (email) where email_verified;
-- A sign-in and a counted use are no changes of the profile, whose etag they would make stale.
create trigger touch before update of email, email_verified, full_name, preferences, saved_prompts, max_snapshots, plan, subscription_status
    on core.users for each row execute function core.touch();
alter table core.users enable row level security, force row level security;
create policy owner on core.users to studios_owner using (true) with check (true);
create policy self on core.users to studios_core
    using (id = (select core.caller_id())) with check (id = (select core.caller_id()));
grant select on core.users to studios_core;
grant insert (id, email, full_name) on core.users to studios_core;
grant update (full_name, preferences, saved_prompts, last_sign_in_at) on core.users to studios_core;

-- The passwords of users who registered here; the e-mail is unique among them.
create table core.password_identities (
    user_id uuid primary key references core.users (id) on delete cascade,
    email text not null unique check (email = lower(email)),
    password_hash text not null,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create trigger touch before update on core.password_identities for each row execute function core.touch();
alter table core.password_identities enable row level security, force row level security;
create policy owner on core.password_identities to studios_owner using (true) with check (true);
create policy self on core.password_identities to studios_core
    using (user_id = (select core.caller_id())) with check (user_id = (select core.caller_id()));
grant select, insert on core.password_identities to studios_core;
grant update (password_hash) on core.password_identities to studios_core;

-- Identities of external issuers: (issuer, subject) names a user; an e-mail never does.
create table core.external_identities (
    issuer text not null,
    subject text not null,
    user_id uuid not null references core.users (id) on delete cascade,
    created_at timestamptz not null default now(),
    primary key (issuer, subject)
);
create index external_identities_user on core.external_identities (user_id);
alter table core.external_identities enable row level security, force row level security;
create policy owner on core.external_identities to studios_owner using (true) with check (true);
create policy self on core.external_identities to studios_core
    using (user_id = (select core.caller_id())) with check (user_id = (select core.caller_id()));
grant select, insert on core.external_identities to studios_core;

-- A session is a family of refresh tokens; ending it ends them all.
create table core.sessions (
    id uuid primary key,
    user_id uuid not null references core.users (id) on delete cascade,
    expires_at timestamptz not null,
    ended_at timestamptz,
    ended_reason text check (ended_reason in ('sign_out', 'token_reuse')),
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (user_id, id)
);
create index sessions_expires_at on core.sessions (expires_at);
create trigger touch before update on core.sessions for each row execute function core.touch();
alter table core.sessions enable row level security, force row level security;
create policy owner on core.sessions to studios_owner using (true) with check (true);
create policy self on core.sessions to studios_core
    using (user_id = (select core.caller_id())) with check (user_id = (select core.caller_id()));
create policy expire on core.sessions to studios_core_worker using (true);
grant select, insert on core.sessions to studios_core;
grant update (ended_at, ended_reason) on core.sessions to studios_core;
grant select, delete on core.sessions to studios_core_worker;

-- Refresh tokens by their SHA-256; a token is spent by its first use.
create table core.refresh_tokens (
    token_hash bytea primary key,
    session_id uuid not null,
    user_id uuid not null,
    spent_at timestamptz,
    created_at timestamptz not null default now(),
    foreign key (user_id, session_id) references core.sessions (user_id, id) on delete cascade
);
create index refresh_tokens_session on core.refresh_tokens (user_id, session_id);
alter table core.refresh_tokens enable row level security, force row level security;
create policy owner on core.refresh_tokens to studios_owner using (true) with check (true);
create policy self on core.refresh_tokens to studios_core
    using (user_id = (select core.caller_id())) with check (user_id = (select core.caller_id()));
create policy expire on core.refresh_tokens to studios_core_worker using (true);
grant select, insert on core.refresh_tokens to studios_core;
grant update (spent_at) on core.refresh_tokens to studios_core;
grant select, delete on core.refresh_tokens to studios_core_worker;

-- Look-ups before a user is known. They return ids only; everything else is then read under that user's claims.
create function core.find_user_by_email(address text) returns uuid
language sql stable security definer set search_path = ''
as $$ select user_id from core.password_identities where email = address $$;
create function core.find_user_by_refresh_token(hash bytea) returns uuid
language sql stable security definer set search_path = ''
as $$ select user_id from core.refresh_tokens where token_hash = hash $$;
revoke execute on function core.find_user_by_email(text), core.find_user_by_refresh_token(bytea) from public;
grant execute on function core.find_user_by_email(text), core.find_user_by_refresh_token(bytea) to studios_core;
