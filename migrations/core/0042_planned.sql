-- The functions that look something up for somebody who may not read the table keep their plans: a query of an SQL function that
-- runs as its owner or with a search_path of its own is parsed and planned anew at each call, which took ten times as long as
-- the look-up itself.

create or replace function core.find_user_by_email(address text) returns uuid
language plpgsql stable security definer set search_path = ''
as $$ begin return (select i.user_id from core.password_identities i where i.email = address); end $$;

create or replace function core.find_user_by_refresh_token(hash bytea) returns uuid
language plpgsql stable security definer set search_path = ''
as $$ begin return (select t.user_id from core.refresh_tokens t where t.token_hash = hash); end $$;

create or replace function core.find_user_by_mail_token(hash bytea) returns uuid
language plpgsql stable security definer set search_path = ''
as $$ begin return (select t.user_id from core.mail_tokens t where t.token_hash = hash); end $$;

create or replace function core.find_user_by_identity(of_issuer text, of_subject text) returns uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
    return (select i.user_id from core.external_identities i where i.issuer = of_issuer and i.subject = of_subject);
end $$;

create or replace function core.find_company_by_join_code(hash bytea) returns uuid
language plpgsql stable security definer set search_path = ''
as $$ begin return (select c.company_id from core.join_codes c where c.code_hash = hash); end $$;

create or replace function core.find_object(company uuid, hash bytea) returns uuid
language plpgsql stable security definer set search_path = ''
as $$
begin
    return (select o.id from core.objects o
        where o.company_id = company and o.sha256 = hash and company in (select core.caller_companies()));
end $$;

create or replace function core.company_is_new(company uuid) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
    return exists (select from core.companies c where c.id = company and c.created_by = core.caller_id())
        and not exists (select from core.memberships m where m.company_id = company);
end $$;

create or replace function core.company_is_suspended(company uuid) returns boolean
language plpgsql stable security definer set search_path = ''
as $$ begin return exists (select from core.companies c where c.id = company and c.suspended_at is not null); end $$;

create or replace function core.company_name(company uuid) returns text
language plpgsql stable security definer set search_path = ''
as $$
begin
    return (select c.name from core.companies c
        where c.id = company
            and exists (select from core.memberships m where m.company_id = c.id and m.user_id = core.caller_id()));
end $$;

create or replace function core.studio_is_deleted(studio uuid) returns boolean
language plpgsql stable security definer set search_path = ''
as $$ begin return exists (select from core.studios s where s.id = studio and s.deleted_at is not null); end $$;

create or replace function core.current_outbox_position() returns bigint
language plpgsql stable security definer set search_path = ''
as $$ begin return (select coalesce(max(o.position), 0) from core.outbox o); end $$;

create or replace function core.member_names(company uuid) returns table (user_id uuid, full_name text)
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select u.id, u.full_name
    from core.memberships m join core.users u on u.id = m.user_id
    where m.company_id = company and company in (select core.caller_companies());
end $$;

create or replace function core.member_profiles(company uuid, users uuid[]) returns table (user_id uuid, full_name text, email text)
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select u.id, u.full_name,
        case when u.id = core.caller_id() or company in (select core.caller_admin_companies()) then u.email end
    from core.memberships m join core.users u on u.id = m.user_id
    where m.company_id = company and m.user_id = any (users)
        and (u.id = core.caller_id() or company in (select core.caller_companies()));
end $$;

create or replace function core.audit_keys(company uuid, subjects uuid[]) returns table (subject uuid, sealed bytea)
language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select s.subject, s.sealed from core.audit_subjects s
    where s.subject = any (subjects) and company in (select core.caller_admin_companies())
        and exists (select from core.audit_log l where l.company_id = company and l.actor_id = s.subject);
end $$;

create or replace function core.ask_to_join(membership uuid, hash bytea) returns void
language plpgsql security definer set search_path = ''
as $$
begin
    insert into core.memberships (id, company_id, user_id, role, state)
    select membership, c.company_id, core.caller_id(), 'member', 'pending' from core.join_codes c
    where c.code_hash = hash and core.caller_id() is not null
    on conflict (company_id, user_id) do nothing;
end $$;
