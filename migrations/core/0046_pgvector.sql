-- pgvector, where the database has that extension (0.8 or newer): vectors are then found here, by an index where a studio has many.
-- Nothing here needs it. `studios migrate` begins to use it whenever it is there, without a pause: a column is filled bit by bit while
-- searches go on as they did, and the constraint that says that it is full is what they go by from then on.

-- Where the extension's types and operators are, as it is written in a statement.
create function core.pgvector_schema() returns text
language plpgsql stable set search_path = ''
as $$
begin
    return (select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace
        where e.extname = 'vector' and (regexp_match(e.extversion, '^(\d+)\.(\d+)'))::int[] >= array[0, 8]);
end $$;
revoke execute on function core.pgvector_schema() from public;

-- Whether all vectors are there as the extension compares them. With the extension, dropped, goes the column, and this with it.
create function core.uses_pgvector() returns boolean
language plpgsql stable set search_path = ''
as $$
begin
    return exists (select from pg_constraint c
        where c.conrelid = 'core.chunk_vectors'::regclass and c.conname = 'chunk_vectors_halved' and c.convalidated);
end $$;
revoke execute on function core.uses_pgvector() from public;
grant execute on function core.uses_pgvector() to studios_core;

create function core.halve_vector() returns trigger
language plpgsql set search_path = ''
as $$
begin
    new.half := case when length(new.vector) <= 4000 then core.halved(new.vector) end;
    return new;
end $$;
revoke execute on function core.halve_vector() from public;

-- The column `half`, empty yet, its trigger and its constraint. Numbers of 16 bits have the stored bytes exactly. It is of vectors of
-- at most 4,000 dimensions: an index takes no more, and so many are in a row's own page, where they are read several times as fast.
create function core.use_pgvector() returns void
language plpgsql set search_path = ''
as $$
declare
    home constant text := core.pgvector_schema();
begin
    if home is null or exists (select from pg_attribute a
        where a.attrelid = 'core.chunk_vectors'::regclass and a.attname = 'half' and not a.attisdropped) then
        return;
    end if;
    execute format('create function core.halved(vector bytea) returns %1$s.halfvec
        language sql immutable strict parallel safe
        return array(select (get_byte(vector, place) # 128) - 128 from generate_series(0, length(vector) - 1) place)::%1$s.halfvec', home);
    revoke execute on function core.halved(bytea) from public;
    grant execute on function core.halved(bytea) to studios_core_worker;
    execute format('alter table core.chunk_vectors add column half %s.halfvec,
        add constraint chunk_vectors_halved check (half is not null or length(vector) > 4000) not valid', home);
    alter table core.chunk_vectors alter column half set storage plain;
    -- Named for the column too, so that it goes with it.
    create trigger halve before insert or update of vector, half on core.chunk_vectors
        for each row execute function core.halve_vector();
end $$;
revoke execute on function core.use_pgvector() from public;

-- Fills it for as many chunks as are told, after one: the last of them, or null where there is none, and how many lacked it.
create function core.halve_vectors(after uuid, most int) returns table (last uuid, halved bigint)
language plpgsql set search_path = ''
as $$
begin
    return query execute '
        with step as (
            select v.chunk_id from core.chunk_vectors v where v.chunk_id > $1 order by v.chunk_id limit $2
        ), done as (
            update core.chunk_vectors v set vector = v.vector from step s
            where v.chunk_id = s.chunk_id and v.half is null and length(v.vector) <= 4000
            returning v.chunk_id
        )
        select (select s.chunk_id from step s order by s.chunk_id desc limit 1), (select count(*) from done)'
    using after, most;
end $$;
revoke execute on function core.halve_vectors(uuid, int) from public;

create function core.vector_index(company uuid, of_model text, dimensions int) returns text
language plpgsql stable set search_path = ''
as $$
begin
    return 'chunk_vectors_near_'
        || left(encode(sha256(convert_to(concat_ws(' ', company, dimensions, of_model), 'UTF8')), 'hex'), 16);
end $$;
revoke execute on function core.vector_index(uuid, text, int) from public;

-- The statements that are left to run, outside of a transaction, for each company with a studio of more chunks than are compared one
-- by one to have its index, of its own, so that nobody else pays for it and it finds nobody else's; those of the hundred largest.
-- One is dropped when the company's largest studio has come down to half of that, or has another model's vectors.
create function core.vector_indexes() returns table (name text, statement text)
language plpgsql stable set search_path = ''
as $$
declare
    home constant text := core.pgvector_schema();
begin
    if home is null or not core.uses_pgvector() then
        return;
    end if;
    return query
    with large as materialized (
        select d.company_id, e.model, sum(d.chunk_count) as chunks, (array_agg(d.id))[1] as document
        from core.documents d join core.embeddings e on e.document_id = d.id
        where e.model <> '' and d.chunk_count > 0
        group by d.company_id, d.studio_id, e.model
        having sum(d.chunk_count) > 25000
    ), kept as materialized (
        select l.company_id, l.model, v.dimensions, max(l.chunks) as chunks,
            core.vector_index(l.company_id, l.model, v.dimensions) as name
        from large l, lateral (
            select length(c.vector) as dimensions from core.chunk_vectors c
            where c.company_id = l.company_id and c.document_id = l.document and c.model = l.model
            limit 1) v
        where v.dimensions <= 4000
        group by l.company_id, l.model, v.dimensions
        order by max(l.chunks) desc
        limit 100
    ), built as materialized (
        select c.relname::text as name, i.indisvalid as is_valid
        from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = 'core.chunk_vectors'::regclass and starts_with(c.relname, 'chunk_vectors_near_')
    )
    -- What a build that was broken off leaves behind goes first.
    select b.name, format('drop index concurrently if exists core.%I', b.name)
    from built b left join kept k on k.name = b.name
    where k.name is null or not b.is_valid
    union all
    select k.name, format('create index concurrently %I on core.chunk_vectors
        using hnsw ((half::%2$s.halfvec(%3$s)) %2$s.halfvec_cosine_ops)
        where company_id = %4$L and model = %5$L and length(vector) = %3$s', k.name, home, k.dimensions, k.company_id, k.model)
    from kept k left join built b on b.name = k.name
    where k.chunks > 50000 and b.is_valid is not true;
end $$;
revoke execute on function core.vector_indexes() from public;

-- The chunks that the company's index finds nearest; null where it has none, or where the documents are so small a part of what is in
-- it that going through them is sooner done.
create function core.nearest_indexed(company uuid, documents uuid[], of_model text, numbers real[], chunks bigint, most int)
returns uuid[]
language plpgsql stable
set search_path = '' set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
declare
    home constant text := core.pgvector_schema();
    nearest uuid[];
begin
    if not exists (select from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indexrelid = to_regclass('core.' || core.vector_index(company, of_model, cardinality(numbers)))
            and i.indisvalid and 50 * chunks >= c.reltuples) then
        return null;
    end if;
    -- It goes on until it has found enough that are in the documents.
    perform set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', '400', true),
        set_config('hnsw.max_scan_tuples', '100000', true), set_config('hnsw.scan_mem_multiplier', '4', true);
    execute format('select array(
            select v.chunk_id from core.chunk_vectors v
            where v.company_id = %3$L and v.model = %4$L and length(v.vector) = %2$s and v.document_id = any ($1)
            order by v.half::%1$s.halfvec(%2$s) operator(%1$s.<=>) $2::%1$s.halfvec(%2$s)
            limit $3)', home, cardinality(numbers), company, of_model)
    into nearest using documents, numbers, most;
    return nearest;
end $$;
revoke execute on function core.nearest_indexed(uuid, uuid[], text, real[], bigint, int) from public;

-- The nearest vectors of documents of a company of the caller's, which gives those that he reaches: of so many chunks, at most
-- `most`, by the index where there is one and enough is found by it, and otherwise all of them compared.
create function core.nearest_vectors(company uuid, documents uuid[], of_model text, numbers real[], chunks bigint, most int)
returns table (chunk_id uuid, vector bytea)
language plpgsql stable security definer set search_path = '' set plan_cache_mode = force_custom_plan
as $$
declare
    nearest uuid[];
begin
    if company is null or not company = any (array(select core.caller_companies())) then
        return;
    end if;
    if chunks > 50000 then
        nearest := core.nearest_indexed(company, documents, of_model, numbers, chunks, most);
    end if;
    if nearest is null or cardinality(nearest) < most then
        -- Vectors of other lengths cannot be compared, and are left out before that.
        execute format('select array(
                select v.chunk_id from core.chunk_vectors v
                where v.company_id = $1 and v.document_id = any ($2) and v.model = $3 and length(v.vector) = cardinality($4)
                order by v.half operator(%1$s.<=>) $4::%1$s.halfvec, v.chunk_id
                limit $5)', core.pgvector_schema())
        into nearest using company, documents, of_model, numbers, most;
    end if;
    return query select v.chunk_id, v.vector from core.chunk_vectors v where v.chunk_id = any (nearest);
end $$;
revoke execute on function core.nearest_vectors(uuid, uuid[], text, real[], bigint, int) from public;
grant execute on function core.nearest_vectors(uuid, uuid[], text, real[], bigint, int) to studios_core;

-- What vectors are made for searching is left out of exports in either form.
create or replace function core.rows_of(in_table regclass, condition text, subject uuid, marks boolean)
returns table (kind text, data jsonb)
language plpgsql stable security definer set search_path = ''
as $$
declare
    hidden text[] := array(select a.attname::text from pg_attribute a join pg_type t on t.oid = a.atttypid
        where a.attrelid = in_table and a.attnum > 0 and not a.attisdropped
            and case when marks then t.typname not in ('uuid', 'timestamptz')
                else t.typname in ('bytea', 'tsvector', 'halfvec') and a.attname <> 'personal'
                    or a.attname ~ '(^|_)(hash|secret|token|multipart_id|trace_context)$' end);
begin
    return query execute format('select %L::text, to_jsonb(t) - $2 from %s t where %s',
        split_part(in_table::text, '.', 2), in_table, condition) using subject, hidden;
end $$;
