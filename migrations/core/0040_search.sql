-- Search: a document has a language, by whose rules its words and those of a query are matched, and tags; a chunk says apart what
-- it repeats of the one before it.
alter table core.documents
    add column language text not null default 'english' constraint documents_language check (language in (
        'simple', 'arabic', 'armenian', 'basque', 'catalan', 'danish', 'dutch', 'english', 'finnish', 'french', 'german', 'greek',
        'hindi', 'hungarian', 'indonesian', 'irish', 'italian', 'lithuanian', 'nepali', 'norwegian', 'portuguese', 'romanian',
        'russian', 'serbian', 'spanish', 'swedish', 'tamil', 'turkish', 'yiddish')),
    -- Told by its maker; otherwise found out whenever the document is processed.
    add column language_told boolean not null default false,
    add column tags text[] not null default '{}' constraint documents_tags check (cardinality(tags) <= 20);
grant insert (language, language_told, tags) on core.documents to studios_core;
grant update (language) on core.documents to studios_core_worker;

alter table core.chunks
    alter column search drop expression,
    add column overlap text not null default '';
grant insert (overlap) on core.chunks to studios_core_worker;

-- A chunk's own words in its document's language, and its studio as one more, which no text has in it: with that the index
-- finds the studio's few chunks among everybody's, however often all the others have a word.
-- Angle brackets are blanks: the parser would take Vec<String> for a word and a tag, and tags are not indexed.
create function core.index_chunk() returns trigger
language plpgsql set search_path = ''
as $$
begin
    select setweight(to_tsvector(d.language::regconfig, translate(new.section, '<>', '  ')), 'A')
        || setweight(to_tsvector(d.language::regconfig, translate(new.content, '<>', '  ')), 'B')
        || array_to_tsvector(array[E'\x01' || d.studio_id])
    into new.search
    from core.documents d where d.id = new.document_id;
    return new;
end $$;
revoke execute on function core.index_chunk() from public;
create trigger search before insert on core.chunks for each row execute function core.index_chunk();

-- Most of a search is reading words out of their storage, which this makes shorter where the server was built with it.
do $$
begin
    alter table core.chunks alter column search set compression lz4;
exception when feature_not_supported then
    null;
end $$;

-- What waits to be put into the index would be gone through by every search.
alter index core.chunks_search set (fastupdate = off);
update core.chunks c set search = c.search || array_to_tsvector(array[E'\x01' || d.studio_id])
from core.documents d where d.id = c.document_id;

-- The best chunks of some documents of a studio, by ids alone: under row level security a search cannot use its index, so the
-- caller gives the documents that he reaches, and reads the chunks found through the policies. Lexemes, if given, count: a
-- chunk that has more of them comes first, and the rarer one is in those documents, the more it counts. Then the rarest
-- lexemes choose the chunks that are ranked, as many as give enough of them: one that has common ones alone would come last.
create function core.match_chunks(studio uuid, documents uuid[], query tsquery, lexemes text[], most int)
returns table (chunk_id uuid, score float8)
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_custom_plan set enable_seqscan = off
as $$
declare
    here constant tsquery := ('''' || E'\x01' || studio || '''')::tsquery;
    enough constant bigint := greatest(4 * most, 200);
    choosing tsquery := query;
    words tsquery[];
    weights float8[];
begin
    if query is null or numnode(query) = 0 then
        return;
    end if;
    if cardinality(lexemes) > 0 then
        with total as materialized (
            select coalesce(sum(d.chunk_count), 0) as n from core.documents d where d.id = any (documents)
        ), counted as materialized (
            select one.word, having_it.n, sum(having_it.n) over (order by having_it.n, lexeme) - having_it.n as rarer
            from unnest(lexemes) lexeme,
                lateral (select ('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''')::tsquery as word) one,
                lateral (select count(*) as n
                         from (select c.document_id from core.chunks c where c.search @@ (here && one.word) offset 0) c
                         where c.document_id = any (documents)) having_it
            where having_it.n > 0
        )
        select array_agg(c.word order by c.n), array_agg(ln(1 + (greatest(t.n - c.n, 0) + 0.5) / (c.n + 0.5)) order by c.n),
            (string_agg(c.word::text, ' | ') filter (where c.rarer < enough))::tsquery
        into words, weights, choosing
        from counted c, total t;
        if choosing is null then
            return;
        end if;
    end if;
    return query
    with found as materialized (
        select c.id, c.document_id, c.index, c.search
        from core.chunks c
        where c.search @@ (here && choosing)
            -- Whatever is given: scores tell what a text has in it.
            and c.company_id = any (array(select core.caller_companies()))
    ), reached as materialized (
        -- Joined with nothing, the words are read out of their storage once.
        select f.id, f.document_id, f.index, f.search || ''::tsvector as stems
        from found f where f.document_id = any (documents)
    )
    select r.id, ts_rank_cd(r.stems, query, 32)
        + coalesce((select sum(w.weight) from unnest(words, weights) w (word, weight) where r.stems @@ w.word), 0) as rank
    from reached r
    order by rank desc, r.document_id, r.index
    limit most;
end $$;
revoke execute on function core.match_chunks(uuid, uuid[], tsquery, text[], int) from public;
grant execute on function core.match_chunks(uuid, uuid[], tsquery, text[], int) to studios_core;

-- The words of a document as they are written, in lower case: a word of a query that is none of them may be a typo of one.
create table core.document_words (
    document_id uuid primary key,
    company_id uuid not null,
    words text[] not null,
    created_at timestamptz not null default now(),
    foreign key (company_id, document_id) references core.documents (company_id, id) on delete cascade
);
create index document_words_document on core.document_words (company_id, document_id);
alter table core.document_words enable row level security, force row level security;
create policy owner on core.document_words to studios_owner using (true) with check (true);
create policy reach on core.document_words for select to studios_core
    using (exists (select from core.documents d where d.id = document_id));
create policy work on core.document_words to studios_core_worker using (true) with check (true);
grant select on core.document_words to studios_core;
grant select on core.document_words to studios_core_worker;
grant insert (document_id, company_id, words), update (words) on core.document_words to studios_core_worker;
