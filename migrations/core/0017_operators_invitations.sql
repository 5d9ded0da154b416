-- What operators set for a company: its plan, its subscription, and whether it may be used at all.
alter table core.companies
    add column subscription_status text not null default 'active'
        check (subscription_status in ('active', 'cancelled', 'expired')),
    add column period_start timestamptz,
    add column period_end timestamptz,
    add column renews boolean not null default true,
    add column suspended_at timestamptz,
    add constraint companies_period check (period_start < period_end);

-- Operators work with the role of the background work, which crosses tenants; what it may change is this and nothing else.
create policy operate on core.companies to studios_core_worker using (true) with check (true);
grant select on core.companies to studios_core_worker;
grant update (plan, subscription_status, period_start, period_end, renews) on core.companies to studios_core_worker;
create policy operate on core.users for update to studios_core_worker using (true) with check (true);
create policy operate_read on core.users for select to studios_core_worker using (true);
grant select (id, max_snapshots, revision) on core.users to studios_core_worker;
grant update (max_snapshots) on core.users to studios_core_worker;
grant update (display_name, executions_per_month, concurrent_executions, storage_bytes, tokens_per_month,
    cost_micros_per_month, members, studios) on core.plans to studios_core_worker;

-- An operator's calls are recorded as his.
create policy operate on core.audit_log for insert to studios_core_worker with check (actor_kind = 'operator');
grant insert on core.audit_log to studios_core_worker;
create policy operate on core.audit_pending for insert to studios_core_worker with check (true);
grant insert on core.audit_pending to studios_core_worker;
create policy operate on core.audit_subjects for insert to studios_core_worker with check (true);
grant insert on core.audit_subjects to studios_core_worker;

-- What the other service must ask anew.
create function core.publish_plan_changed(company uuid) returns void
language plpgsql security definer set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtext('core.outbox'));
    insert into core.outbox (position, company_id, kind, payload)
    values (nextval('core.outbox_position'), company, 'plan_changed', '{}');
    perform pg_notify('core_outbox', '');
end $$;

-- Whoever is a member reaches nothing in a company that is suspended.
create or replace function core.keep_reach() returns trigger
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
        join core.companies c on c.id = m.company_id and c.suspended_at is null
        left join core.membership_branches b on b.company_id = m.company_id and b.user_id = m.user_id
    where m.company_id = place.company_id and m.user_id = place.user_id and m.state = 'approved';
    return null;
end $$;

create or replace function core.caller_companies() returns setof uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query select m.company_id from core.memberships m join core.companies c on c.id = m.company_id
    where m.user_id = core.caller_id() and m.state = 'approved' and c.suspended_at is null;
end $$;
create or replace function core.caller_admin_companies() returns setof uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query select m.company_id from core.memberships m join core.companies c on c.id = m.company_id
    where m.user_id = core.caller_id() and m.state = 'approved' and m.role = 'admin' and c.suspended_at is null;
end $$;

-- Suspends a company or lets it go on; says whether there is one.
create function core.suspend_company(company uuid, at timestamptz) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
    perform from core.memberships m where m.company_id = company order by m.user_id for no key update;
    update core.companies c set suspended_at = at where c.id = company;
    if not found then
        return false;
    end if;
    delete from core.reach r where r.company_id = company;
    insert into core.reach (user_id, reached, company_id)
    select m.user_id, coalesce(b.branch_id, m.company_id), m.company_id
    from core.memberships m left join core.membership_branches b on b.company_id = m.company_id and b.user_id = m.user_id
    where m.company_id = company and m.state = 'approved' and at is null;
    return true;
end $$;

-- Who reads studios, or makes one, is told of a suspended company what everybody is told of one that is not his.
create function core.company_is_suspended(company uuid) returns boolean
language sql stable security definer set search_path = ''
as $$ select exists (select from core.companies where id = company and suspended_at is not null) $$;

revoke execute on function core.publish_plan_changed(uuid), core.suspend_company(uuid, timestamptz),
    core.company_is_suspended(uuid) from public;
grant execute on function core.publish_plan_changed(uuid), core.suspend_company(uuid, timestamptz) to studios_core_worker;
grant execute on function core.company_is_suspended(uuid) to studios_core;

-- As before, with the subscription.
create function core.read_companies(claims text[], ids uuid[]) returns table (
    item int, seen_claims text, id uuid, name text, industry_type text, contact_email text, contact_phone text,
    headquarters_address text, plan text, created_by uuid, revision bigint, created_at timestamptz, updated_at timestamptz,
    subscription_status text, period_start timestamptz, period_end timestamptz, renews boolean, suspended_at timestamptz)
language plpgsql stable set search_path = '' set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    for k in 1 .. cardinality(ids) loop
        seen_claims := set_config('request.jwt.claims', claims[k], true);
        return query
        select k, current_setting('request.jwt.claims', true), c.id, c.name, c.industry_type, c.contact_email,
            c.contact_phone, c.headquarters_address, c.plan, c.created_by, c.revision, c.created_at, c.updated_at,
            c.subscription_status, c.period_start, c.period_end, c.renews, c.suspended_at
        from core.companies c where c.id = ids[k];
    end loop;
end $$;
revoke execute on function core.read_companies(text[], uuid[]) from public;
grant execute on function core.read_companies(text[], uuid[]) to studios_core;

-- Invitations by e-mail: single use, bound to the address, and over after a while. The token is kept as its SHA-256 alone.
create table core.invitations (
    id uuid primary key,
    company_id uuid not null references core.companies (id) on delete cascade,
    email text not null check (email = lower(email)),
    role text not null check (role in ('admin', 'member')),
    token_hash bytea not null unique,
    expires_at timestamptz not null,
    accepted_at timestamptz,
    revoked_at timestamptz,
    invited_by uuid references core.users (id) on delete set null,
    created_at timestamptz not null default now()
);
create index invitations_company on core.invitations (company_id, id);
create index invitations_invited_by on core.invitations (invited_by);
create unique index invitations_open on core.invitations (company_id, email) where accepted_at is null and revoked_at is null;

alter table core.invitations enable row level security, force row level security;
create policy owner on core.invitations to studios_owner using (true) with check (true);
create policy keep on core.invitations to studios_core
    using (company_id = any (array(select core.caller_admin_companies())))
    with check (company_id = any (array(select core.caller_admin_companies())));
grant select on core.invitations to studios_core;
grant insert (id, company_id, email, role, token_hash, expires_at, invited_by) on core.invitations to studios_core;
grant update (revoked_at) on core.invitations to studios_core;

-- Makes the caller a member by an invitation to his own, verified address. `outcome` says what became of it; what is not his to
-- accept is unknown, whatever else it is.
create function core.accept_invitation(hash bytea, new_membership uuid)
returns table (outcome text, company uuid, membership uuid)
language plpgsql security definer set search_path = ''
as $$
declare
    invitation core.invitations;
    own core.users;
    place core.memberships;
    room boolean;
begin
    select i.* into invitation from core.invitations i where i.token_hash = hash for update;
    select u.* into own from core.users u where u.id = core.caller_id();
    if invitation.id is null or own.email is distinct from invitation.email or invitation.revoked_at is not null
        or invitation.accepted_at is not null or invitation.expires_at <= now()
        or core.company_is_suspended(invitation.company_id) then
        outcome := 'unknown';
    elsif not own.email_verified then
        outcome := 'unverified';
    else
        perform pg_advisory_xact_lock(hashtextextended('core.memberships ' || invitation.company_id, 0));
        select m.* into place from core.memberships m where m.company_id = invitation.company_id and m.user_id = own.id;
        select (select count(*) from core.memberships m
                where m.company_id = c.id and m.state = 'approved' and not m.machine) < p.members into room
        from core.companies c join core.plans p on p.code = c.plan where c.id = invitation.company_id;
        if place.state = 'approved' then
            outcome := 'member';
        elsif not room then
            outcome := 'no_room';
        else
            insert into core.memberships as m (id, company_id, user_id, role, state)
            values (new_membership, invitation.company_id, own.id, invitation.role, 'approved')
            on conflict (company_id, user_id) do update set role = excluded.role, state = 'approved'
            returning m.id into membership;
            update core.invitations i set accepted_at = now() where i.id = invitation.id;
            outcome := 'accepted';
        end if;
        company := invitation.company_id;
    end if;
    return next;
end $$;
revoke execute on function core.accept_invitation(bytea, uuid) from public;
grant execute on function core.accept_invitation(bytea, uuid) to studios_core;
