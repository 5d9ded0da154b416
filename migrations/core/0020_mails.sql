-- Mails, written in the commit that causes them and sent by a worker that leases them. Whom a mail is to and what it says lies
-- sealed under the root key ring; a row alone tells an operator what kind it is and how it fares.
create table core.mails (
    id uuid primary key,
    -- Whom it concerns; null where that is only found out when it is sent, so that asking does not tell whether he exists.
    user_id uuid references core.users (id) on delete cascade,
    kind text not null check (kind in
        ('verification', 'password_reset', 'email_change', 'invitation', 'address_taken', 'security_notice')),
    sealed bytea not null,
    status text not null default 'waiting' check (status in ('waiting', 'sent', 'failed', 'dropped')),
    run_at timestamptz not null default now(),
    tries int not null default 0,
    leased_until timestamptz,
    last_error text,
    sent_at timestamptz,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index mails_due on core.mails (run_at) where status = 'waiting';
create index mails_created_at on core.mails (created_at);
create index mails_user on core.mails (user_id);
create trigger touch before update on core.mails for each row execute function core.touch();
alter table core.mails enable row level security, force row level security;
create policy owner on core.mails to studios_owner using (true) with check (true);
create policy enqueue on core.mails for insert to studios_core
    with check (user_id = (select core.caller_id())
        or user_id is null and kind in ('password_reset', 'address_taken'));
create policy work on core.mails to studios_core_worker using (true) with check (true);
grant insert (id, user_id, kind, sealed) on core.mails to studios_core;
grant select, delete on core.mails to studios_core_worker;
grant update (status, run_at, tries, leased_until, last_error, sent_at, sealed) on core.mails to studios_core_worker;

-- The tokens that mails carry, by their SHA-256. Each is for one purpose and one use; the e-mail address is the one that it was
-- sent to, which having it proves.
create table core.mail_tokens (
    token_hash bytea primary key,
    user_id uuid not null references core.users (id) on delete cascade,
    purpose text not null check (purpose in ('verification', 'password_reset', 'email_change')),
    email text not null check (email = lower(email)),
    expires_at timestamptz not null,
    used_at timestamptz,
    created_at timestamptz not null default now()
);
create index mail_tokens_user on core.mail_tokens (user_id);
create index mail_tokens_expires_at on core.mail_tokens (expires_at);
alter table core.mail_tokens enable row level security, force row level security;
create policy owner on core.mail_tokens to studios_owner using (true) with check (true);
create policy self on core.mail_tokens to studios_core
    using (user_id = (select core.caller_id())) with check (user_id = (select core.caller_id()));
create policy work on core.mail_tokens to studios_core_worker using (true) with check (true);
grant select on core.mail_tokens to studios_core;
grant update (used_at) on core.mail_tokens to studios_core;
grant select, insert, delete on core.mail_tokens to studios_core_worker;

create function core.find_user_by_mail_token(hash bytea) returns uuid
language sql stable security definer set search_path = ''
as $$ select user_id from core.mail_tokens where token_hash = hash $$;
revoke execute on function core.find_user_by_mail_token(bytea) from public;
grant execute on function core.find_user_by_mail_token(bytea) to studios_core;
-- The worker finds out whom a reset is for.
grant execute on function core.find_user_by_email(text) to studios_core_worker;
