-- The audit log: what was done, written in the commit of what it records and never changed. No role of the services may change
-- or remove an entry; what makes it provable is the sealer's: a chain of hashes for each company, and a signature of its head.
-- company_id is null where something concerns no company, such as a profile. `personal` is encrypted with a key of the actor's
-- own, which lies in audit_subjects: without that row it says nothing, and the chain, which is over the ciphertext, still holds.
create table core.audit_log (
    id uuid primary key,
    company_id uuid,
    created_at timestamptz not null,
    actor_kind text not null check (actor_kind in ('user', 'api_key', 'operator', 'service')),
    actor_id uuid not null,
    service text not null,
    action text not null check (char_length(action) between 1 and 200),
    thing_kind text not null check (char_length(thing_kind) between 1 and 50),
    thing_id uuid,
    outcome text not null check (outcome in ('done', 'refused')),
    trace_id text not null,
    correlation_id text not null,
    personal bytea
);
create index audit_log_company on core.audit_log (company_id, id);
create index audit_log_actor on core.audit_log (company_id, actor_id, id);
create index audit_log_action on core.audit_log (company_id, action, id);
create index audit_log_thing on core.audit_log (company_id, thing_id, id);

-- Entries that the sealer has yet to take up.
create table core.audit_pending (
    entry_id uuid primary key,
    created_at timestamptz not null default now()
);

-- A chain is a company's, or the nil UUID's for what concerns none.
create table core.audit_links (
    chain uuid not null,
    seq bigint not null check (seq > 0),
    entry_id uuid not null unique,
    hash bytea not null,
    created_at timestamptz not null default now(),
    primary key (chain, seq)
);
create table core.audit_heads (
    chain uuid primary key,
    seq bigint not null,
    hash bytea not null,
    signed_at timestamptz not null,
    key bytea not null,
    signature bytea not null,
    created_at timestamptz not null default now()
);

-- The data key of who is recorded, sealed under the key ring. Erasing a person deletes the row.
create table core.audit_subjects (
    subject uuid primary key,
    sealed bytea not null,
    created_at timestamptz not null default now()
);

create function core.audit_is_pending() returns trigger
language plpgsql set search_path = ''
as $$
begin
    insert into core.audit_pending (entry_id) values (new.id);
    return null;
end $$;
revoke execute on function core.audit_is_pending() from public;
create trigger pending after insert on core.audit_log for each row execute function core.audit_is_pending();

alter table core.audit_log enable row level security, force row level security;
alter table core.audit_pending enable row level security, force row level security;
alter table core.audit_links enable row level security, force row level security;
alter table core.audit_heads enable row level security, force row level security;
alter table core.audit_subjects enable row level security, force row level security;
create policy owner on core.audit_log to studios_owner using (true) with check (true);
create policy owner on core.audit_pending to studios_owner using (true) with check (true);
create policy owner on core.audit_links to studios_owner using (true) with check (true);
create policy owner on core.audit_heads to studios_owner using (true) with check (true);
create policy owner on core.audit_subjects to studios_owner using (true) with check (true);

-- Who acts is the transaction's own caller, where he has a place or has had one.
create policy append on core.audit_log for insert to studios_core
    with check (actor_id = (select core.caller_id())
        and (company_id is null or exists (
            select from core.memberships m
            where m.company_id = audit_log.company_id and m.user_id = (select core.caller_id()))));
create policy read on core.audit_log for select to studios_core
    using (company_id = any (array(select core.caller_admin_companies())));
create policy seal on core.audit_log for select to studios_core_worker using (true);
grant select, insert on core.audit_log to studios_core;
grant select on core.audit_log to studios_core_worker;

create policy append on core.audit_pending for insert to studios_core with check (true);
create policy seal on core.audit_pending to studios_core_worker using (true);
grant insert on core.audit_pending to studios_core;
grant select, delete on core.audit_pending to studios_core_worker;

create policy read on core.audit_links for select to studios_core
    using (chain = any (array(select core.caller_admin_companies())));
create policy seal on core.audit_links to studios_core_worker using (true) with check (true);
grant select on core.audit_links to studios_core;
grant select, insert on core.audit_links to studios_core_worker;

create policy read on core.audit_heads for select to studios_core
    using (chain = any (array(select core.caller_admin_companies())));
create policy seal on core.audit_heads to studios_core_worker using (true) with check (true);
grant select on core.audit_heads to studios_core;
grant select, insert, update on core.audit_heads to studios_core_worker;

create policy own on core.audit_subjects to studios_core
    using (subject = (select core.caller_id())) with check (subject = (select core.caller_id()));
create policy erase on core.audit_subjects to studios_core_worker using (true);
grant select, insert on core.audit_subjects to studios_core;
grant select, delete on core.audit_subjects to studios_core_worker;

-- The sealed keys of those who acted in a company, for its admins.
create function core.audit_keys(company uuid, subjects uuid[]) returns table (subject uuid, sealed bytea)
language sql stable security definer set search_path = ''
as $$
    select s.subject, s.sealed from core.audit_subjects s
    where s.subject = any (subjects) and company in (select core.caller_admin_companies())
        and exists (select from core.audit_log l where l.company_id = company and l.actor_id = s.subject)
$$;
revoke execute on function core.audit_keys(uuid, uuid[]) from public;
grant execute on function core.audit_keys(uuid, uuid[]) to studios_core;

-- As before, and what was made is recorded by an entry of the log; `audits` holds them as JSON.
create function core.create_studios(
    claims text[], ids uuid[], companies uuid[], branches uuid[], names text[], descriptions text[], areas text[],
    method text, requests uuid[], hashes bytea[], audits text[])
returns table (
    item int, seen_claims text, outcome text, revision bigint, created_at timestamptz, updated_at timestamptz,
    first_hash bytea, first_id uuid, used bigint, allowed int)
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
    taken boolean[] := array_fill(false, array[cardinality(ids)]);
    reached uuid[];
begin
    for item in select i from generate_subscripts(requests, 1) i where requests[i] is not null order by requests[i], i loop
        perform set_config('request.jwt.claims', claims[item], true);
        delete from core.request_ids r
        where r.caller_id = core.caller_id() and r.method = create_studios.method and r.request_id = requests[item]
            and r.created_at < now() - interval '24 hours';
        insert into core.request_ids (caller_id, method, request_id, body_hash, resource_id)
        values (core.caller_id(), create_studios.method, requests[item], hashes[item], ids[item])
        on conflict do nothing;
        taken[item] := found;
    end loop;

    for item in select i from generate_subscripts(ids, 1) i order by companies[i], i loop
        perform set_config('request.jwt.claims', claims[item], true);
        seen_claims := current_setting('request.jwt.claims', true);
        revision := null; created_at := null; updated_at := null;
        first_hash := null; first_id := null; used := null; allowed := null;
        reached := array(select r.reached from core.caller_reach r where r.company_id = companies[item]);
        if reached = '{}' then
            outcome := 'no_company';
        elsif not array[companies[item], branches[item]] && reached then
            outcome := 'out_of_reach';
        elsif requests[item] is not null and not taken[item] then
            outcome := 'repeated';
            select r.body_hash, r.resource_id into first_hash, first_id from core.request_ids r
            where r.caller_id = core.caller_id() and r.method = create_studios.method and r.request_id = requests[item];
        else
            select q.used, q.allowed into used, allowed from core.studio_quota(companies[item]) q;
            if used >= allowed then
                outcome := 'no_room';
            elsif branches[item] is not null and not exists (
                select from core.branches b where b.company_id = companies[item] and b.id = branches[item]) then
                outcome := 'no_branch';
            else
                insert into core.studios as s (id, company_id, branch_id, name, description, business_area, created_by)
                values (ids[item], companies[item], branches[item], names[item], descriptions[item], areas[item],
                    core.caller_id())
                on conflict (company_id, name) where deleted_at is null do nothing
                returning s.revision, s.created_at, s.updated_at into revision, created_at, updated_at;
                outcome := case when found then 'made' else 'name_taken' end;
                if found then
                    insert into core.audit_log
                    select * from jsonb_populate_record(null::core.audit_log, audits[item]::jsonb);
                end if;
            end if;
        end if;
        if taken[item] and outcome <> 'made' then
            delete from core.request_ids r
            where r.caller_id = core.caller_id() and r.method = create_studios.method and r.request_id = requests[item];
        end if;
        return next;
    end loop;
end $$;
revoke execute on function
    core.create_studios(text[], uuid[], uuid[], uuid[], text[], text[], text[], text, uuid[], bytea[], text[]) from public;
grant execute on function
    core.create_studios(text[], uuid[], uuid[], uuid[], text[], text[], text[], text, uuid[], bytea[], text[]) to studios_core;
