-- What a question's words weigh in each chunk follows from the index alone: which chunks it names for each word. The words of a chunk
-- are read out of their storage only where the chunk can come first; reading those of all that were found was half of a search.

create or replace function core.match_chunks(studio uuid, documents uuid[], query tsquery, lexemes text[], most int)
returns table (chunk_id uuid, score float8)
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_custom_plan set enable_seqscan = off
as $$
declare
    here constant tsquery := ('''' || E'\x01' || studio || '''')::tsquery;
    mine uuid[];
    chunk_count bigint;
begin
    if query is null or numnode(query) = 0 then
        return;
    end if;
    -- Whatever is given: scores tell what a text has in it.
    select array_agg(d.id), sum(d.chunk_count) into mine, chunk_count
    from core.documents d
    where d.id = any (documents) and d.company_id = any (array(select core.caller_companies()));
    if coalesce(cardinality(lexemes), 0) = 0 then
        return query
        select c.id, ts_rank_cd(c.search, query, 32)::float8 as rank
        from (select f.id, f.document_id, f.index, f.search from core.chunks f where f.search @@ (here && query) offset 0) c
        where c.document_id = any (mine)
        order by rank desc, c.document_id, c.index
        limit most;
        return;
    end if;
    return query
    with words as materialized (
        select found.ids, ln(1 + (greatest(chunk_count - cardinality(found.ids), 0) + 0.5) / (cardinality(found.ids) + 0.5)) as weight
        from unnest(lexemes) lexeme,
            lateral (select array_agg(c.id) as ids
                     from (select f.id, f.document_id
                           from core.chunks f
                           where f.search @@ (here && ('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''')::tsquery)
                           offset 0) c
                     where c.document_id = any (mine)) found
        where found.ids is not null
    ), weighed as materialized (
        -- In whole numbers, whose sum is the same in any order.
        select id, sum((w.weight * 1e6)::bigint)::float8 / 1e6 as weight
        from words w, unnest(w.ids) id
        group by id
    )
    select w.id, ts_rank_cd(c.search, query, 32) + w.weight as rank
    from weighed w join core.chunks c on c.id = w.id
    -- How near to one another the words stand adds less than 1, and is looked at where that can still count.
    where w.weight > coalesce((select l.weight from weighed l order by l.weight desc offset most - 1 limit 1), 0) - 1
    order by rank desc, c.document_id, c.index
    limit most;
end $$;

-- The vectors of documents of a company of the caller's, which gives those that he reaches: all of one length of a document in one
-- row, one after the other. A row for each, as core.document_vectors gives them to services of the version before, was a third of
-- what comparing them took.
create function core.vectors_by_document(company uuid, documents uuid[], of_model text)
returns table (chunk_ids uuid[], vectors bytea)
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_custom_plan
as $$
begin
    if company is null or not company = any (array(select core.caller_companies())) then
        return;
    end if;
    return query
    select array_agg(v.chunk_id), string_agg(v.vector, '') from core.chunk_vectors v
    where v.company_id = company and v.document_id = any (documents) and v.model = of_model
    group by v.document_id, length(v.vector);
end $$;
revoke execute on function core.vectors_by_document(uuid, uuid[], text) from public;
grant execute on function core.vectors_by_document(uuid, uuid[], text) to studios_core;
