-- Sessions as their user sees them, and ended so that all replicas hear of it; the account that mails change.
alter table core.sessions
    add column address text check (char_length(address) <= 64),
    add column user_agent text check (char_length(user_agent) <= 200),
    add column last_used_at timestamptz not null default now(),
    drop constraint sessions_ended_reason_check,
    add constraint sessions_ended_reason_check check (ended_reason in
        ('sign_out', 'token_reuse', 'revoked', 'password_changed', 'password_reset', 'second_factor'));
create index sessions_user on core.sessions (user_id, last_used_at desc) where ended_at is null;
grant update (address, user_agent, last_used_at) on core.sessions to studios_core;
grant update (email, email_verified) on core.users to studios_core;
grant update (email) on core.password_identities to studios_core;

-- The end of a session is an event of no company. Only a session's user publishes it.
alter table core.outbox
    drop constraint outbox_kind,
    add constraint outbox_kind check (kind in
        ('membership_changed', 'plan_changed', 'studio_changed', 'studio_deleted', 'studio_undeleted', 'company_deleted',
         'session_ended'));
create index outbox_session_ended on core.outbox (created_at) where kind = 'session_ended';
create function core.publish_session_end(session uuid) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
    given bigint;
begin
    if not exists (select from core.sessions s where s.id = session and s.user_id = core.caller_id()) then
        raise insufficient_privilege using message = 'the session is not the caller''s';
    end if;
    perform pg_advisory_xact_lock(hashtext('core.outbox'));
    given := nextval('core.outbox_position');
    insert into core.outbox (position, company_id, kind, payload)
    values (given, '00000000-0000-0000-0000-000000000000', 'session_ended', jsonb_build_object('session_id', session));
    perform pg_notify('core_outbox', '');
    return given;
end $$;
revoke execute on function core.publish_session_end(uuid) from public;
grant execute on function core.publish_session_end(uuid) to studios_core;

-- The second factor: a secret sealed under the root key ring, and the last step that was used, so that no code counts twice.
create table core.totp_factors (
    user_id uuid primary key references core.users (id) on delete cascade,
    sealed_secret bytea not null,
    confirmed_at timestamptz,
    last_step bigint not null default 0,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create trigger touch before update on core.totp_factors for each row execute function core.touch();
alter table core.totp_factors enable row level security, force row level security;
create policy owner on core.totp_factors to studios_owner using (true) with check (true);
create policy self on core.totp_factors to studios_core
    using (user_id = (select core.caller_id())) with check (user_id = (select core.caller_id()));
grant select, insert, delete on core.totp_factors to studios_core;
grant update (confirmed_at, last_step) on core.totp_factors to studios_core;

-- Recovery codes by a keyed hash; one is deleted by its use.
create table core.recovery_codes (
    user_id uuid not null references core.totp_factors (user_id) on delete cascade,
    code_hash bytea not null,
    created_at timestamptz not null default now(),
    primary key (user_id, code_hash)
);
alter table core.recovery_codes enable row level security, force row level security;
create policy owner on core.recovery_codes to studios_owner using (true) with check (true);
create policy self on core.recovery_codes to studios_core
    using (user_id = (select core.caller_id())) with check (user_id = (select core.caller_id()));
grant select, insert, delete on core.recovery_codes to studios_core;

-- Whether a session was opened with a second factor, which the claims of its tokens say.
alter table core.sessions add column second_factor boolean not null default false;
