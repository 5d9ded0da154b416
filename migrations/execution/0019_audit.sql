-- The audit log of this schema, of the same shape as core's: what was done, written in the commit of what it records and never
-- changed. No role of the services may change or remove an entry; what makes it provable is the sealer's: a chain of hashes for
-- each company, and a signature of its head. `personal` is encrypted with a key of the actor's own, which lies in
-- audit_subjects: without that row it says nothing, and the chain, which is over the ciphertext, still holds.
create table execution.audit_log (
    id uuid primary key,
    company_id uuid not null,
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
create index audit_log_company on execution.audit_log (company_id, id);
create index audit_log_actor on execution.audit_log (company_id, actor_id, id);
create index audit_log_action on execution.audit_log (company_id, action, id);
create index audit_log_thing on execution.audit_log (company_id, thing_id, id);

-- Entries that the sealer has yet to take up.
create table execution.audit_pending (
    entry_id uuid primary key,
    created_at timestamptz not null default now()
);

-- A chain is a company's.
create table execution.audit_links (
    chain uuid not null,
    seq bigint not null check (seq > 0),
    entry_id uuid not null unique,
    hash bytea not null,
    created_at timestamptz not null default now(),
    primary key (chain, seq)
);
create table execution.audit_heads (
    chain uuid primary key,
    seq bigint not null,
    hash bytea not null,
    signed_at timestamptz not null,
    key bytea not null,
    signature bytea not null,
    created_at timestamptz not null default now()
);

-- The data key of who is recorded, sealed under the key ring. Erasing a person deletes the row.
create table execution.audit_subjects (
    subject uuid primary key,
    sealed bytea not null,
    created_at timestamptz not null default now()
);

create function execution.audit_is_pending() returns trigger
language plpgsql set search_path = ''
as $$
begin
    insert into execution.audit_pending (entry_id) values (new.id);
    return null;
end $$;
revoke execute on function execution.audit_is_pending() from public;
create trigger pending after insert on execution.audit_log for each row execute function execution.audit_is_pending();

alter table execution.audit_log enable row level security, force row level security;
alter table execution.audit_pending enable row level security, force row level security;
alter table execution.audit_links enable row level security, force row level security;
alter table execution.audit_heads enable row level security, force row level security;
alter table execution.audit_subjects enable row level security, force row level security;
create policy owner on execution.audit_log to studios_owner using (true) with check (true);
create policy owner on execution.audit_pending to studios_owner using (true) with check (true);
create policy owner on execution.audit_links to studios_owner using (true) with check (true);
create policy owner on execution.audit_heads to studios_owner using (true) with check (true);
create policy owner on execution.audit_subjects to studios_owner using (true) with check (true);

-- Who acts is the transaction's own caller, in his company. The engine writes those of starts, which come with them.
create policy append on execution.audit_log for insert to studios_execution
    with check (actor_id = (select execution.caller_id()) and company_id = (select execution.caller_company()));
create policy read on execution.audit_log for select to studios_execution
    using (company_id = (select execution.caller_company()) and (select execution.caller_is_admin()));
create policy seal on execution.audit_log to studios_engine using (true) with check (true);
grant select, insert on execution.audit_log to studios_execution;
grant select, insert on execution.audit_log to studios_engine;

create policy append on execution.audit_pending for insert to studios_execution with check (true);
create policy seal on execution.audit_pending to studios_engine using (true) with check (true);
grant insert on execution.audit_pending to studios_execution;
grant select, insert, delete on execution.audit_pending to studios_engine;

create policy read on execution.audit_links for select to studios_execution
    using (chain = (select execution.caller_company()) and (select execution.caller_is_admin()));
create policy seal on execution.audit_links to studios_engine using (true) with check (true);
grant select on execution.audit_links to studios_execution;
grant select, insert on execution.audit_links to studios_engine;

create policy read on execution.audit_heads for select to studios_execution
    using (chain = (select execution.caller_company()) and (select execution.caller_is_admin()));
create policy seal on execution.audit_heads to studios_engine using (true) with check (true);
grant select on execution.audit_heads to studios_execution;
grant select, insert, update on execution.audit_heads to studios_engine;

create policy own on execution.audit_subjects to studios_execution
    using (subject = (select execution.caller_id())) with check (subject = (select execution.caller_id()));
create policy erase on execution.audit_subjects to studios_engine using (true);
grant select, insert on execution.audit_subjects to studios_execution;
grant select, delete on execution.audit_subjects to studios_engine;

-- The sealed keys of those who acted in a company, for its admins.
create function execution.audit_keys(company uuid, subjects uuid[]) returns table (subject uuid, sealed bytea)
language sql stable security definer set search_path = ''
as $$
    select s.subject, s.sealed from execution.audit_subjects s
    where s.subject = any (subjects) and company = execution.caller_company() and execution.caller_is_admin()
        and exists (select from execution.audit_log l where l.company_id = company and l.actor_id = s.subject)
$$;
revoke execute on function execution.audit_keys(uuid, uuid[]) from public;
grant execute on function execution.audit_keys(uuid, uuid[]) to studios_execution;
