-- Large documents. A text lies in parts, so that nobody who writes or reads it holds it whole, and what becomes of a file is written
-- down bit by bit as a draft, which takes the place of what the document has once it is complete.
alter table core.document_texts
    -- How many bytes of the text stand before this part.
    add column start_byte bigint not null default 0 check (start_byte >= 0),
    drop constraint document_texts_pkey,
    add primary key (document_id, start_byte);
grant insert (start_byte) on core.document_texts to studios_core, studios_core_worker;
grant delete on core.document_texts to studios_core_worker;
revoke update (text) on core.document_texts from studios_core_worker;

-- Each try of a job writes one of its own; it goes with the job.
alter table core.jobs add unique (company_id, id);
create table core.drafts (
    id uuid primary key,
    company_id uuid not null,
    document_id uuid not null,
    job_id uuid not null,
    created_at timestamptz not null default now(),
    unique (company_id, id),
    foreign key (company_id, document_id) references core.documents (company_id, id) on delete cascade,
    foreign key (company_id, job_id) references core.jobs (company_id, id) on delete cascade
);
create index drafts_document on core.drafts (company_id, document_id);
create index drafts_job on core.drafts (company_id, job_id);

create table core.draft_texts (
    draft_id uuid not null,
    company_id uuid not null,
    start_byte bigint not null check (start_byte >= 0),
    text text not null,
    created_at timestamptz not null default now(),
    primary key (company_id, draft_id, start_byte),
    foreign key (company_id, draft_id) references core.drafts (company_id, id) on delete cascade
);

create table core.draft_chunks (
    draft_id uuid not null,
    company_id uuid not null,
    index int not null check (index >= 0),
    id uuid not null,
    section text not null,
    overlap text not null,
    content text not null,
    token_count int not null,
    page int,
    created_at timestamptz not null default now(),
    primary key (company_id, draft_id, index),
    foreign key (company_id, draft_id) references core.drafts (company_id, id) on delete cascade
);

alter table core.drafts enable row level security, force row level security;
create policy owner on core.drafts to studios_owner using (true) with check (true);
create policy work on core.drafts to studios_core_worker using (true) with check (true);
grant select, delete on core.drafts to studios_core_worker;
grant insert (id, company_id, document_id, job_id) on core.drafts to studios_core_worker;

alter table core.draft_texts enable row level security, force row level security;
create policy owner on core.draft_texts to studios_owner using (true) with check (true);
create policy work on core.draft_texts to studios_core_worker using (true) with check (true);
grant select on core.draft_texts to studios_core_worker;
grant insert (draft_id, company_id, start_byte, text) on core.draft_texts to studios_core_worker;

alter table core.draft_chunks enable row level security, force row level security;
create policy owner on core.draft_chunks to studios_owner using (true) with check (true);
create policy work on core.draft_chunks to studios_core_worker using (true) with check (true);
grant select on core.draft_chunks to studios_core_worker;
grant insert (draft_id, company_id, index, id, section, overlap, content, token_count, page) on core.draft_chunks to studios_core_worker;

-- As before, and without drafts: what is there of them is nobody's yet.
create or replace function core.export_company(company uuid) returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    found regclass;
begin
    return query select r.* from core.rows_of('core.companies', 'id = $1', company, false) r;
    for found in select * from core.tables_with('company_id') loop
        continue when found in ('core.outbox'::regclass, 'core.drafts'::regclass, 'core.draft_texts'::regclass,
            'core.draft_chunks'::regclass);
        return query select r.kind, r.data - 'personal' from core.rows_of(found, 'company_id = $1', company, false) r;
    end loop;
end $$;
