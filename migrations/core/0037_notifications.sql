-- Notifications: what a company is told by webhook or mail, and what became of telling it.

create table core.notification_channels (
    id uuid primary key,
    company_id uuid not null references core.companies (id) on delete cascade,
    name text not null check (char_length(name) between 1 and 100),
    kind text not null check (kind in ('webhook', 'email')),
    url text not null default '' check (char_length(url) <= 2000),
    audience text not null check (audience in ('admins', 'concerned')),
    topics text[] not null,
    enabled boolean not null,
    -- Why it was switched off by itself.
    disabled_reason text not null default '',
    failing_since timestamptz,
    -- Nothing is tried before: a receiver that does not answer is left alone for a while, whatever waits for it.
    rests_until timestamptz,
    -- A webhook's secret, and the one before with the time until which it signs too.
    secret bytea check ((secret is not null) = (kind = 'webhook')),
    secret_hint text not null default '',
    old_secret bytea,
    old_secret_until timestamptz,
    created_by uuid references core.users (id) on delete set null,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (company_id, id)
);
create unique index notification_channels_name on core.notification_channels (company_id, lower(name));
create index notification_channels_created_by on core.notification_channels (created_by);
-- How its deliveries fare is no change of it, whose etag that would make stale.
create trigger touch before update of name, url, audience, topics, enabled, secret on core.notification_channels
    for each row execute function core.touch();
alter table core.notification_channels enable row level security, force row level security;
create policy owner on core.notification_channels to studios_owner using (true) with check (true);
create policy administer on core.notification_channels to studios_core
    using (company_id = any (array(select core.caller_admin_companies())))
    with check (company_id = any (array(select core.caller_admin_companies())));
create policy work on core.notification_channels to studios_core_worker using (true) with check (true);
grant select, insert, delete on core.notification_channels to studios_core;
grant update (name, url, audience, topics, enabled, disabled_reason, failing_since, rests_until, secret, secret_hint, old_secret,
    old_secret_until) on core.notification_channels to studios_core;
grant select on core.notification_channels to studios_core_worker;
grant update (enabled, disabled_reason, failing_since, rests_until) on core.notification_channels to studios_core_worker;

-- What companies were told, or would have been had they chosen so. The id is its source's, so that a repeated one is known.
create table core.notifications (
    id uuid primary key,
    company_id uuid not null references core.companies (id) on delete cascade,
    topic text not null check (topic in ('execution.failed', 'approval.waiting', 'approval.reminder', 'approval.escalated',
        'quota.warning', 'quota.reached', 'security.event', 'test')),
    data jsonb not null check (jsonb_typeof(data) = 'object'),
    -- Whom it concerns: these, and those of at least this rank.
    users uuid[] not null default '{}',
    rank text check (rank in ('admin', 'member')),
    occurred_at timestamptz not null,
    created_at timestamptz not null default now(),
    unique (company_id, id)
);
create index notifications_created_at on core.notifications (created_at);
alter table core.notifications enable row level security, force row level security;
create policy owner on core.notifications to studios_owner using (true) with check (true);
create policy administer on core.notifications to studios_core
    using (company_id = any (array(select core.caller_admin_companies())))
    with check (company_id = any (array(select core.caller_admin_companies())) and topic = 'test');
create policy work on core.notifications to studios_core_worker using (true) with check (true);
grant select, insert on core.notifications to studios_core;
grant select, delete on core.notifications to studios_core_worker;

create table core.notification_deliveries (
    id uuid primary key,
    company_id uuid not null,
    channel_id uuid not null,
    notification_id uuid not null,
    status text not null default 'waiting' check (status in ('waiting', 'delivered', 'failed', 'dropped')),
    tries int not null default 0,
    run_at timestamptz not null default now(),
    leased_until timestamptz,
    response_status int not null default 0,
    error text not null default '',
    took_ms int not null default 0,
    delivered_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (channel_id, notification_id),
    foreign key (company_id, channel_id) references core.notification_channels (company_id, id) on delete cascade,
    foreign key (company_id, notification_id) references core.notifications (company_id, id) on delete cascade
);
create index notification_deliveries_due on core.notification_deliveries (run_at) where status = 'waiting';
create index notification_deliveries_channel on core.notification_deliveries (company_id, channel_id, id);
create index notification_deliveries_status on core.notification_deliveries (channel_id, status, id);
create index notification_deliveries_notification on core.notification_deliveries (company_id, notification_id);
create trigger touch before update on core.notification_deliveries for each row execute function core.touch_time();
alter table core.notification_deliveries enable row level security, force row level security;
create policy owner on core.notification_deliveries to studios_owner using (true) with check (true);
create policy administer on core.notification_deliveries to studios_core
    using (company_id = any (array(select core.caller_admin_companies())))
    with check (company_id = any (array(select core.caller_admin_companies())));
create policy work on core.notification_deliveries to studios_core_worker using (true) with check (true);
grant select, insert on core.notification_deliveries to studios_core;
grant update (status, tries, run_at, leased_until) on core.notification_deliveries to studios_core;
grant select on core.notification_deliveries to studios_core_worker;
grant update (status, tries, run_at, leased_until, response_status, error, took_ms, delivered_at)
    on core.notification_deliveries to studios_core_worker;

-- A UUIDv7 (RFC 9562) of now: its milliseconds before 74 random bits.
create function core.uuid7() returns uuid
language sql volatile
as $$
    select encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) placing
        substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid
$$;

-- Takes what a company is to be told, and puts it on its channels that have the topic. What nobody has chosen to hear, and what is
-- known already, changes nothing.
create function core.notify(notice uuid, company uuid, topic text, data jsonb, users uuid[], rank text, at timestamptz)
returns void
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_variable
begin
    insert into core.notifications (id, company_id, topic, data, users, rank, occurred_at)
    select notice, company, topic, data, users, rank, at
    where exists (select from core.notification_channels c where c.company_id = company and c.enabled and topic = any (c.topics))
    on conflict do nothing;
    if not found then
        return;
    end if;
    insert into core.notification_deliveries (id, company_id, channel_id, notification_id)
    select core.uuid7(), company, c.id, notice
    from core.notification_channels c
    where c.company_id = company and c.enabled and topic = any (c.topics);
end $$;

-- Storage of which much, or nothing, is left: told once a month each.
create function core.notify_storage(company uuid, is_reached boolean, used bigint, allowed bigint) returns void
language plpgsql security definer set search_path = ''
as $$
declare
    topic constant text := case when is_reached then 'quota.reached' else 'quota.warning' end;
begin
    if company not in (select core.caller_companies()) then
        return;
    end if;
    perform core.notify(
        md5(concat_ws(' ', company, topic, 'storage', to_char(now() at time zone 'UTC', 'YYYY-MM')))::uuid, company, topic,
        jsonb_build_object('quota', 'storage_bytes', 'used', used, 'limit', allowed), '{}', 'admin', now());
end $$;

-- What an entry of the audit log tells of a company's security, it is told.
create function core.notify_of_security() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    perform core.notify(new.id, new.company_id, 'security.event', jsonb_strip_nulls(jsonb_build_object(
            'action', new.action, 'actor_kind', new.actor_kind, 'actor_id', new.actor_id, 'thing_kind', new.thing_kind,
            'thing_id', new.thing_id, 'correlation_id', nullif(new.correlation_id, ''))), '{}', 'admin', new.created_at);
    return null;
end $$;
create trigger notify after insert on core.audit_log for each row
    when (new.company_id is not null and new.outcome = 'done'
        and new.thing_kind in ('membership', 'api_key', 'invitation', 'join_code', 'company'))
    execute function core.notify_of_security();

revoke execute on function core.uuid7(), core.notify(uuid, uuid, text, jsonb, uuid[], text, timestamptz),
    core.notify_storage(uuid, boolean, bigint, bigint), core.notify_of_security() from public;
grant execute on function core.notify(uuid, uuid, text, jsonb, uuid[], text, timestamptz) to studios_core_worker;
grant execute on function core.notify_storage(uuid, boolean, bigint, bigint) to studios_core;

-- Mails that the worker writes: notifications, and that a channel was switched off.
alter table core.mails drop constraint mails_kind_check;
alter table core.mails add constraint mails_kind_check check (kind in ('verification', 'password_reset', 'email_change',
    'invitation', 'address_taken', 'security_notice', 'notification', 'channel_disabled')) not valid;
grant insert (id, user_id, kind, sealed) on core.mails to studios_core_worker;

-- Whom a company's notification goes to by mail: those named, those of the rank, or the admins where they are nobody. A machine
-- reads no mail.
create function core.notified(company uuid, users uuid[], rank text) returns table (user_id uuid, email text)
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    with concerned as (
        select u.id, u.email from core.memberships m join core.users u on u.id = m.user_id
        where m.company_id = company and m.state = 'approved' and not m.machine and u.email is not null and u.email_verified
            and (m.user_id = any (users) or rank = 'member' or rank = 'admin' and m.role = 'admin'))
    select c.id, c.email from concerned c
    union all
    select u.id, u.email from core.memberships m join core.users u on u.id = m.user_id
    where m.company_id = company and m.state = 'approved' and not m.machine and u.email is not null and u.email_verified
        and m.role = 'admin' and not exists (select from concerned);
end $$;
revoke execute on function core.notified(uuid, uuid[], text) from public;
grant execute on function core.notified(uuid, uuid[], text) to studios_core_worker;
