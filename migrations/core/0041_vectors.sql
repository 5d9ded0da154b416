-- Vectors of chunks, by which they are found for what they mean. execution-service makes them with the company's model; here they
-- are kept and searched. A document's line says whose vectors its chunks have and who is making them.
create table core.embeddings (
    document_id uuid primary key,
    company_id uuid not null,
    -- The model whose vectors all its chunks have; empty where none has.
    model text not null default '',
    -- Who makes them has them to himself until then.
    leased_until timestamptz,
    -- The model that refused its text, and why: it is not asked again.
    refused_by text,
    refusal text not null default '',
    created_at timestamptz not null default now(),
    foreign key (company_id, document_id) references core.documents (company_id, id) on delete cascade
);
create index embeddings_document on core.embeddings (company_id, document_id);
create index embeddings_model on core.embeddings (company_id, model, document_id);
alter table core.embeddings enable row level security, force row level security;
create policy owner on core.embeddings to studios_owner using (true) with check (true);
create policy work on core.embeddings to studios_core_worker using (true) with check (true);
grant select on core.embeddings to studios_core_worker;
grant insert (document_id, company_id), update (model, leased_until, refused_by, refusal)
    on core.embeddings to studios_core_worker;

insert into core.embeddings (document_id, company_id)
select d.id, d.company_id from core.documents d where d.chunk_count > 0;

-- One signed byte a dimension: its direction is the vector's, and all of a studio's can be read in one go.
create table core.chunk_vectors (
    chunk_id uuid primary key,
    company_id uuid not null,
    document_id uuid not null,
    model text not null check (model <> ''),
    vector bytea not null check (length(vector) between 1 and 16384),
    created_at timestamptz not null default now(),
    foreign key (company_id, document_id) references core.documents (company_id, id) on delete cascade
);
create index chunk_vectors_document on core.chunk_vectors (company_id, document_id);
-- They do not get smaller by it.
alter table core.chunk_vectors alter column vector set storage external;
alter table core.chunk_vectors enable row level security, force row level security;
create policy owner on core.chunk_vectors to studios_owner using (true) with check (true);
create policy work on core.chunk_vectors to studios_core_worker using (true) with check (true);
grant select, delete on core.chunk_vectors to studios_core_worker;
grant insert (chunk_id, company_id, document_id, model, vector), update (model, vector) on core.chunk_vectors to studios_core_worker;

-- The vectors of documents of a company of the caller's, which gives those that he reaches.
create function core.document_vectors(company uuid, documents uuid[], of_model text)
returns table (chunk_id uuid, vector bytea)
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_custom_plan
as $$
begin
    if company is null or not company = any (array(select core.caller_companies())) then
        return;
    end if;
    return query
    select v.chunk_id, v.vector from core.chunk_vectors v
    where v.company_id = company and v.document_id = any (documents) and v.model = of_model;
end $$;
revoke execute on function core.document_vectors(uuid, uuid[], text) from public;
grant execute on function core.document_vectors(uuid, uuid[], text) to studios_core;
