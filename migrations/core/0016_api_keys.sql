-- API keys: machines of a company. A key is a user of its own, with a member's place in that one company and nowhere else, so
-- every policy that holds for members holds for it; `machine` keeps its place out of what is said of people.
alter table core.memberships add column machine boolean not null default false;

-- `hash` is a MAC of the key under the key ring; the key itself is nowhere. `prefix` is its beginning, for people.
create table core.api_keys (
    id uuid primary key references core.users (id) on delete cascade,
    company_id uuid not null,
    name text not null check (char_length(name) between 2 and 100),
    hash bytea not null unique,
    prefix text not null,
    scopes text[] not null check (cardinality(scopes) between 1 and 100),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    created_by uuid references core.users (id) on delete set null,
    created_at timestamptz not null default now(),
    foreign key (company_id, id) references core.memberships (company_id, user_id) on delete cascade
);
create index api_keys_company on core.api_keys (company_id, id);
create index api_keys_created_by on core.api_keys (created_by);
create unique index api_keys_name on core.api_keys (company_id, name) where revoked_at is null;

alter table core.api_keys enable row level security, force row level security;
create policy owner on core.api_keys to studios_owner using (true) with check (true);
create policy read on core.api_keys for select to studios_core
    using (company_id = any (array(select core.caller_admin_companies())));
create policy revoke on core.api_keys for update to studios_core
    using (company_id = any (array(select core.caller_admin_companies())));
grant select on core.api_keys to studios_core;
grant update (revoked_at) on core.api_keys to studios_core;

-- Makes a key's user, his place and the key, for an admin of the company. Says false where the company has all it may have.
create function core.create_api_key(
    key uuid, membership uuid, company uuid, name text, hash bytea, prefix text, scopes text[], branches uuid[],
    expires timestamptz) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
    if company not in (select core.caller_admin_companies()) then
        raise insufficient_privilege using message = 'an admin of the company may do this';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('core.api_keys ' || company, 0));
    if (select count(*) >= 100 from core.api_keys k where k.company_id = company and k.revoked_at is null) then
        return false;
    end if;
    insert into core.users (id, full_name) values (key, name);
    insert into core.memberships (id, company_id, user_id, role, state, machine)
    values (membership, company, key, 'member', 'approved', true);
    insert into core.membership_branches (company_id, user_id, branch_id) select company, key, b from unnest(branches) b;
    insert into core.api_keys (id, company_id, name, hash, prefix, scopes, expires_at, created_by)
    values (key, company, name, hash, prefix, scopes, expires, core.caller_id());
    return true;
end $$;

-- What a key may do, by what it hashes to, before anything else of who calls is known; and that it was used, to the minute.
create function core.use_api_key(hashes bytea[]) returns table (
    id uuid, company_id uuid, scopes text[], expires_at timestamptz)
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_column
declare
    used timestamptz;
begin
    select k.id, k.company_id, k.scopes, k.expires_at, k.last_used_at into id, company_id, scopes, expires_at, used
    from core.api_keys k join core.memberships m on m.company_id = k.company_id and m.user_id = k.id
    where k.hash = any (hashes) and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
        and m.state = 'approved';
    if not found then
        return;
    end if;
    if used is null or used < now() - interval '1 minute' then
        -- Whoever else notes it at this moment notes the same.
        perform from core.api_keys k where k.hash = any (hashes) for no key update skip locked;
        if found then
            update core.api_keys k set last_used_at = now() where k.hash = any (hashes);
        end if;
    end if;
    return next;
end $$;
revoke execute on function
    core.create_api_key(uuid, uuid, uuid, text, bytea, text, text[], uuid[], timestamptz), core.use_api_key(bytea[]) from public;
grant execute on function
    core.create_api_key(uuid, uuid, uuid, text, bytea, text, text[], uuid[], timestamptz), core.use_api_key(bytea[])
    to studios_core;

-- As before, without machines.
create or replace function core.member_quota(company uuid) returns table (used bigint, allowed int)
language plpgsql security definer set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('core.memberships ' || company, 0));
    return query
    select (select count(*) from core.memberships m where m.company_id = c.id and m.state = 'approved' and not m.machine),
        p.members
    from core.companies c join core.plans p on p.code = c.plan
    where c.id = company and c.id in (select core.caller_companies());
end $$;
