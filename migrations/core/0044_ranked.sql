-- Chunks that a question's words find are weighed first, and only those of them are looked at closely that can come first by that:
-- with hundreds of them, that was more than half of a search.

create or replace function core.match_chunks(studio uuid, documents uuid[], query tsquery, lexemes text[], most int)
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
        -- Put into an array and taken out of it, the words are read out of their storage once.
        select f.id, f.document_id, f.index, (array[f.search])[1] as stems
        from found f where f.document_id = any (documents)
    ), weighed as materialized (
        select r.id, r.document_id, r.index, r.stems,
            coalesce((select sum(w.weight) from unnest(words, weights) w (word, weight) where r.stems @@ w.word), 0) as weight
        from reached r
    )
    select w.id, ts_rank_cd(w.stems, query, 32) + w.weight as rank
    from weighed w
    -- How near to one another the words stand adds less than 1, and is looked at where that can still count.
    where w.weight > coalesce((select l.weight from weighed l order by l.weight desc offset most - 1 limit 1), 0) - 1
    order by rank desc, w.document_id, w.index
    limit most;
end $$;
