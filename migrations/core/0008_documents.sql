create table core.documents (
    id uuid primary key,
    company_id uuid not null,
    studio_id uuid not null,
    title text not null check (char_length(title) between 1 and 255),
    mime_type text not null,
    access_level text not null check (access_level in ('private', 'studio', 'company')),
    status text not null default 'pending' check (status in ('pending', 'processing', 'completed', 'failed')),
    failure_reason text not null default '',
    size_bytes bigint not null check (size_bytes > 0),
    sha256 bytea not null,
    text_cleaned boolean not null default false,
    chunk_count int not null default 0,
    metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
    created_by uuid not null references core.users (id),
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (company_id, id),
    foreign key (company_id, studio_id) references core.studios (company_id, id) on delete cascade
);
create index documents_studio on core.documents (company_id, studio_id, id) include (size_bytes);
create index documents_status on core.documents (studio_id, status, id);
create index documents_created_by on core.documents (created_by);
create trigger touch before update on core.documents for each row execute function core.touch();

-- The extracted text lies apart, so that lists do not carry it.
create table core.document_texts (
    document_id uuid primary key,
    company_id uuid not null,
    text text not null,
    created_at timestamptz not null default now(),
    foreign key (company_id, document_id) references core.documents (company_id, id) on delete cascade
);
create index document_texts_document on core.document_texts (company_id, document_id);

create table core.chunks (
    id uuid primary key,
    company_id uuid not null,
    document_id uuid not null,
    index int not null check (index >= 0),
    section text not null default '',
    content text not null check (content <> ''),
    token_count int not null check (token_count >= 0),
    -- Angle brackets are blanks: the parser would take Vec<String> for a word and a tag, and tags are not indexed.
    search tsvector not null generated always as (
        setweight(to_tsvector('english', translate(section, '<>', '  ')), 'A')
        || setweight(to_tsvector('english', translate(content, '<>', '  ')), 'B')) stored,
    created_at timestamptz not null default now(),
    constraint chunks_index_per_document unique (document_id, index),
    foreign key (company_id, document_id) references core.documents (company_id, id) on delete cascade
);
create index chunks_document on core.chunks (company_id, document_id);
create index chunks_search on core.chunks using gin (search);

alter table core.documents enable row level security, force row level security;
create policy owner on core.documents to studios_owner using (true) with check (true);
create policy reach on core.documents to studios_core
    using (company_id = any (array(select core.caller_companies()))
        and case access_level
            when 'private' then created_by = (select core.caller_id())
            when 'company' then true
            else exists (select from core.studios s where s.id = studio_id)
        end);
create policy make on core.documents as restrictive for insert to studios_core
    with check (created_by = (select core.caller_id())
        and exists (select from core.studios s where s.id = studio_id));
create policy remove on core.documents as restrictive for delete to studios_core
    using (created_by = (select core.caller_id())
        or company_id = any (array(select core.caller_admin_companies())));
create policy work on core.documents to studios_core_worker using (true) with check (true);
grant select, delete on core.documents to studios_core;
grant insert (id, company_id, studio_id, title, mime_type, access_level, size_bytes, sha256, text_cleaned, metadata, created_by)
    on core.documents to studios_core;
grant update (status, failure_reason) on core.documents to studios_core;
grant select on core.documents to studios_core_worker;
grant update (status, failure_reason, chunk_count) on core.documents to studios_core_worker;

alter table core.document_texts enable row level security, force row level security;
create policy owner on core.document_texts to studios_owner using (true) with check (true);
create policy reach on core.document_texts to studios_core
    using (exists (select from core.documents d where d.id = document_id))
    with check (exists (select from core.documents d where d.id = document_id));
create policy work on core.document_texts for select to studios_core_worker using (true);
grant select on core.document_texts to studios_core;
grant insert (document_id, company_id, text) on core.document_texts to studios_core;
grant select on core.document_texts to studios_core_worker;

alter table core.chunks enable row level security, force row level security;
create policy owner on core.chunks to studios_owner using (true) with check (true);
create policy reach on core.chunks for select to studios_core
    using (exists (select from core.documents d where d.id = document_id));
create policy work on core.chunks to studios_core_worker using (true) with check (true);
grant select on core.chunks to studios_core;
grant select, delete on core.chunks to studios_core_worker;
grant insert (id, company_id, document_id, index, section, content, token_count) on core.chunks to studios_core_worker;

-- The bytes of the documents of a company of the caller's, those that he does not see among them. Held under a lock until
-- the commit, so that of two who add something both are counted.
create function core.lock_storage(company uuid) returns bigint
language plpgsql security definer set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('core.storage ' || company, 0));
    return (select coalesce(sum(size_bytes), 0) from core.documents
            where company_id = company and company in (select core.caller_companies()));
end $$;
-- The best chunks of some documents, by ids alone: under row level security a search cannot use its index, so the caller
-- gives the documents that he reaches, and reads the chunks found through the policies. Lexemes, if given, count: a
-- chunk that has more of them comes first.
create function core.rank_chunks(documents uuid[], query tsquery, lexemes text[], most int)
returns table (chunk_id uuid, score float8)
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_custom_plan
as $$
begin
    return query
    select c.id, ts_rank_cd(c.search, query, 32) + coalesce(length(c.search) - length(ts_delete(c.search, lexemes)), 0)::float8 as rank
    from core.chunks c
    where c.document_id = any (documents) and c.search @@ query
        -- Whatever is given: scores tell what a text has in it.
        and c.company_id = any (array(select core.caller_companies()))
    order by rank desc, c.document_id, c.index
    limit most;
end $$;
revoke execute on function core.lock_storage(uuid), core.rank_chunks(uuid[], tsquery, text[], int) from public;
grant execute on function core.lock_storage(uuid), core.rank_chunks(uuid[], tsquery, text[], int) to studios_core;
