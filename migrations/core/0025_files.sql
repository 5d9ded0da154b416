-- Files of studios. Their bytes lie in the object store, under names made of the tenant, the content's hash and the row's id:
-- a tenant's identical content is stored once, and what is deleted and comes again gets another name, so that removing the
-- old object can never take the new one.

-- Content in the object store, for as long as a version refers to it.
create table core.objects (
    id uuid primary key,
    company_id uuid not null references core.companies (id) on delete cascade,
    sha256 bytea not null check (octet_length(sha256) = 32),
    size_bytes bigint not null check (size_bytes > 0),
    refs int not null default 0 check (refs >= 0),
    created_at timestamptz not null default now(),
    unique (company_id, id),
    unique (company_id, sha256)
);
create index objects_size on core.objects (company_id) include (size_bytes);

create table core.files (
    id uuid primary key,
    company_id uuid not null,
    studio_id uuid not null,
    name text not null check (char_length(name) between 1 and 255),
    access_level text not null check (access_level in ('private', 'studio', 'company')),
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    state text not null check (state in ('scanning', 'ready', 'quarantined', 'lost')),
    state_reason text not null default '',
    -- Of the current version.
    version int not null check (version >= 1),
    mime_type text not null,
    size_bytes bigint not null check (size_bytes > 0),
    sha256 bytea not null,
    uploaded_by uuid not null references core.users (id),
    last_accessed_at timestamptz,
    deleted_at timestamptz,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (company_id, id),
    foreign key (company_id, studio_id) references core.studios (company_id, id) on delete cascade
);
create index files_studio on core.files (company_id, studio_id, id);
create index files_uploaded_by on core.files (uploaded_by);
create index files_deleted_at on core.files (deleted_at) where deleted_at is not null;
-- Being read changes no etag.
create trigger touch before update of name, access_level, metadata, state, version, deleted_at on core.files
    for each row execute function core.touch();

create table core.file_versions (
    file_id uuid not null,
    number int not null check (number >= 1),
    company_id uuid not null,
    object_id uuid not null,
    mime_type text not null,
    size_bytes bigint not null,
    sha256 bytea not null,
    state text not null check (state in ('scanning', 'ready', 'quarantined', 'lost')),
    state_reason text not null default '',
    uploaded_by uuid not null references core.users (id),
    created_at timestamptz not null default now(),
    primary key (file_id, number),
    foreign key (company_id, file_id) references core.files (company_id, id) on delete cascade,
    -- Checked at the end, so that a company's removal may take the two in any order.
    foreign key (company_id, object_id) references core.objects (company_id, id) deferrable initially deferred
);
create index file_versions_file on core.file_versions (company_id, file_id);
create index file_versions_object on core.file_versions (company_id, object_id);
create index file_versions_uploaded_by on core.file_versions (uploaded_by);

-- Uploads under way: what is reserved, and how far they are. Whole parts lie in the object store; what follows the last one
-- lies here. A lease says who is at it.
create table core.uploads (
    id uuid primary key,
    company_id uuid not null,
    studio_id uuid not null,
    file_id uuid,
    name text not null,
    mime_type text not null,
    access_level text not null check (access_level in ('private', 'studio', 'company')),
    metadata jsonb not null default '{}',
    expected_sha256 bytea,
    size_bytes bigint not null check (size_bytes > 0),
    received_bytes bigint not null default 0 check (received_bytes between 0 and size_bytes),
    part_bytes int not null check (part_bytes > 0),
    multipart_id text,
    parts text[] not null default '{}',
    tail bytea not null default '',
    -- The hash and the checks of the content, as far as it has come; null at the beginning.
    inspection bytea,
    lease_id uuid,
    leased_until timestamptz,
    expires_at timestamptz not null,
    created_by uuid not null references core.users (id),
    created_at timestamptz not null default now(),
    unique (company_id, id),
    foreign key (company_id, studio_id) references core.studios (company_id, id) on delete cascade,
    foreign key (company_id, file_id) references core.files (company_id, id) on delete cascade
);
create index uploads_company on core.uploads (company_id, studio_id) include (size_bytes);
create index uploads_file on core.uploads (company_id, file_id);
create index uploads_expires_at on core.uploads (expires_at);
create index uploads_created_by on core.uploads (created_by);

-- Names in the object store that nothing refers to any more, written in the commit that makes it so.
create table core.object_removals (
    id bigint generated always as identity primary key,
    key text not null,
    multipart_id text,
    created_at timestamptz not null default now()
);

-- When a company's objects are next compared with its rows.
create table core.object_sweeps (
    company_id uuid primary key references core.companies (id) on delete cascade,
    due_at timestamptz not null default now() + interval '1 day',
    created_at timestamptz not null default now()
);
create index object_sweeps_due_at on core.object_sweeps (due_at);

create function core.object_key(company uuid, sha256 bytea, id uuid) returns text
language sql immutable set search_path = ''
as $$ select 'objects/' || company || '/' || encode(sha256, 'hex') || '/' || id $$;

-- Counts what refers to content; with the last reference it goes.
create function core.count_references() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    if tg_op = 'INSERT' then
        update core.objects set refs = refs + 1 where company_id = new.company_id and id = new.object_id;
    else
        update core.objects set refs = refs - 1 where company_id = old.company_id and id = old.object_id;
        delete from core.objects where company_id = old.company_id and id = old.object_id and refs = 0;
    end if;
    return null;
end $$;
create trigger count_references after insert or delete on core.file_versions
    for each row execute function core.count_references();

create function core.remove_object() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into core.object_removals (key) values (core.object_key(old.company_id, old.sha256, old.id));
    return null;
end $$;
create trigger remove_object after delete on core.objects for each row execute function core.remove_object();

-- However an upload ends, nothing is left under its name.
create function core.remove_upload() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into core.object_removals (key, multipart_id)
    values ('staging/' || old.company_id || '/' || old.id, old.multipart_id);
    return null;
end $$;
create trigger remove_upload after delete on core.uploads for each row execute function core.remove_upload();
revoke execute on function core.count_references(), core.remove_object(), core.remove_upload() from public;

alter table core.objects enable row level security, force row level security;
create policy owner on core.objects to studios_owner using (true) with check (true);
create policy work on core.objects for select to studios_core_worker using (true);
grant select on core.objects to studios_core_worker;

alter table core.files enable row level security, force row level security;
create policy owner on core.files to studios_owner using (true) with check (true);
create policy reach on core.files to studios_core
    using (company_id = any (array(select core.caller_companies()))
        and (state in ('ready', 'lost') or uploaded_by = (select core.caller_id()))
        and case access_level
            when 'private' then uploaded_by = (select core.caller_id())
            when 'company' then true
            else exists (select from core.studios s where s.id = studio_id)
        end);
create policy make on core.files as restrictive for insert to studios_core
    with check (uploaded_by = (select core.caller_id())
        and exists (select from core.studios s where s.id = studio_id));
create policy work on core.files to studios_core_worker using (true) with check (true);
grant select on core.files to studios_core;
grant insert (id, company_id, studio_id, name, access_level, metadata, state, version, mime_type, size_bytes, sha256, uploaded_by)
    on core.files to studios_core;
grant update (name, access_level, metadata, state, state_reason, version, mime_type, size_bytes, sha256, last_accessed_at, deleted_at)
    on core.files to studios_core;
grant select, delete on core.files to studios_core_worker;
grant update (state, state_reason, version, mime_type, size_bytes, sha256) on core.files to studios_core_worker;

alter table core.file_versions enable row level security, force row level security;
create policy owner on core.file_versions to studios_owner using (true) with check (true);
create policy reach on core.file_versions to studios_core
    using ((state in ('ready', 'lost') or uploaded_by = (select core.caller_id()))
        and exists (select from core.files f where f.id = file_id))
    with check (uploaded_by = (select core.caller_id()) and exists (select from core.files f where f.id = file_id));
create policy work on core.file_versions to studios_core_worker using (true) with check (true);
grant select on core.file_versions to studios_core, studios_core_worker;
grant insert (file_id, number, company_id, object_id, mime_type, size_bytes, sha256, state, uploaded_by)
    on core.file_versions to studios_core;
grant update (state, state_reason) on core.file_versions to studios_core_worker;

alter table core.uploads enable row level security, force row level security;
create policy owner on core.uploads to studios_owner using (true) with check (true);
create policy own on core.uploads to studios_core
    using (created_by = (select core.caller_id())
        and company_id = any (array(select core.caller_companies()))
        and exists (select from core.studios s where s.id = studio_id and s.deleted_at is null));
create policy expire on core.uploads to studios_core_worker using (true);
grant select, delete on core.uploads to studios_core, studios_core_worker;
grant insert (id, company_id, studio_id, file_id, name, mime_type, access_level, metadata, expected_sha256, size_bytes, part_bytes,
              lease_id, leased_until, expires_at, created_by) on core.uploads to studios_core;
grant update (received_bytes, multipart_id, parts, tail, inspection, lease_id, leased_until, expires_at) on core.uploads to studios_core;

alter table core.object_removals enable row level security, force row level security;
create policy owner on core.object_removals to studios_owner using (true) with check (true);
create policy work on core.object_removals to studios_core_worker using (true);
grant select, delete on core.object_removals to studios_core_worker;

alter table core.object_sweeps enable row level security, force row level security;
create policy owner on core.object_sweeps to studios_owner using (true) with check (true);
create policy work on core.object_sweeps to studios_core_worker using (true) with check (true);
grant select on core.object_sweeps to studios_core_worker;
grant update (due_at) on core.object_sweeps to studios_core_worker;
grant insert (id, company_id, kind, payload, trace_context) on core.jobs to studios_core_worker;

-- As before, with what files hold and what uploads have reserved.
create or replace function core.lock_storage(company uuid) returns bigint
language plpgsql security definer set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('core.storage ' || company, 0));
    if company not in (select core.caller_companies()) then
        return 0;
    end if;
    return (select coalesce(sum(size_bytes), 0) from core.documents where company_id = company)
        + (select coalesce(sum(size_bytes), 0) from core.objects where company_id = company)
        + (select coalesce(sum(size_bytes), 0) from core.uploads where company_id = company);
end $$;

-- The object of this content in a company of the caller's, if there is one; asked only by who has the whole content.
create function core.find_object(company uuid, hash bytea) returns uuid
language sql stable security definer set search_path = ''
as $$ select id from core.objects
      where company_id = company and sha256 = hash and company in (select core.caller_companies()) $$;
-- Makes an object's row, or answers with the one that is there. It stays until the commit.
create function core.keep_object(object uuid, company uuid, hash bytea, size bigint) returns uuid
language plpgsql security definer set search_path = ''
as $$
declare
    kept uuid;
begin
    if company not in (select core.caller_companies()) then
        return null;
    end if;
    insert into core.objects as o (id, company_id, sha256, size_bytes) values (object, company, hash, size)
    on conflict (company_id, sha256) do update set size_bytes = o.size_bytes
    returning id into kept;
    insert into core.object_sweeps (company_id) values (company) on conflict do nothing;
    return kept;
end $$;
-- The number of a file's next version, those that the caller does not see counted. Held until the commit.
create function core.next_file_version(file uuid) returns int
language plpgsql security definer set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('core.file_versions ' || file, 0));
    return (select coalesce(max(number), 0) + 1 from core.file_versions where file_id = file);
end $$;
revoke execute on function core.object_key(uuid, bytea, uuid), core.find_object(uuid, bytea),
    core.keep_object(uuid, uuid, bytea, bigint), core.next_file_version(uuid) from public;
grant execute on function core.find_object(uuid, bytea), core.keep_object(uuid, uuid, bytea, bigint),
    core.next_file_version(uuid) to studios_core;
