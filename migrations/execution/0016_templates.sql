-- Templates: automations that are picked, filled in and run. company_id is null for the platform's own, which every company reads
-- and only the owner of the schema writes: by the catalogue that comes with the program, whose templates are known by their key.
-- created_by is null for those, and once its maker's account was erased.
create table execution.templates (
    id uuid primary key,
    company_id uuid,
    key text check (char_length(key) between 1 and 100),
    name text not null check (char_length(name) between 3 and 200),
    description text not null check (char_length(description) between 10 and 1000),
    area text not null check (area in ('marketing', 'sales', 'operations', 'customer_support', 'finance', 'hr', 'other')),
    complexity text not null check (complexity in ('beginner', 'intermediate', 'advanced')),
    estimated_minutes int not null check (estimated_minutes between 1 and 1440),
    tags text[] not null default '{}' check (cardinality(tags) <= 10),
    active boolean not null default true,
    newest_version text not null,
    created_by uuid,
    deleted_at timestamptz,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((company_id is null) = (key is not null)),
    unique (company_id, id)
);
create unique index templates_name_per_owner on execution.templates (company_id, name) nulls not distinct
    where deleted_at is null;
create unique index templates_key on execution.templates (key) where key is not null;
create index templates_created_by on execution.templates (created_by);
create trigger touch before update on execution.templates for each row execute function execution.touch();

-- What a search for words looks in. The words of a name count like those of its description and tags.
create function execution.template_words(name text, description text, tags text[]) returns tsvector
language sql immutable parallel safe set search_path = ''
as $$ select to_tsvector('pg_catalog.english', name || ' ' || description || ' ' || array_to_string(tags, ' ')) $$;
create index templates_words on execution.templates using gin (execution.template_words(name, description, tags));

-- Immutable: no update is granted to anybody but the owner. The place orders versions as semver does.
create table execution.template_versions (
    id uuid primary key,
    company_id uuid,
    template_id uuid not null,
    version text not null check (char_length(version) between 5 and 32),
    place int[] not null check (cardinality(place) = 3),
    notes text not null default '' check (char_length(notes) <= 1000),
    definition jsonb not null check (jsonb_typeof(definition) = 'object'),
    sample_input jsonb not null check (jsonb_typeof(sample_input) = 'object'),
    published_by uuid,
    created_at timestamptz not null default now(),
    constraint template_versions_version unique (template_id, place),
    -- Of the platform's, whose company is null, the second says nothing.
    foreign key (template_id) references execution.templates (id) on delete cascade,
    foreign key (company_id, template_id) references execution.templates (company_id, id) on delete cascade
);
create index template_versions_template on execution.template_versions (company_id, template_id);
create index template_versions_published_by on execution.template_versions (published_by);

alter table execution.templates enable row level security, force row level security;
create policy owner on execution.templates to studios_owner using (true) with check (true);
create policy read on execution.templates for select to studios_execution
    using (company_id is null or company_id = (select execution.caller_company()));
create policy make on execution.templates for insert to studios_execution
    with check (company_id = (select execution.caller_company()) and created_by = (select execution.caller_id()));
create policy change on execution.templates for update to studios_execution
    using (company_id = (select execution.caller_company())
        and ((select execution.caller_is_admin()) or created_by = (select execution.caller_id())));
grant select on execution.templates to studios_execution;
grant insert (id, company_id, name, description, area, complexity, estimated_minutes, tags, newest_version, created_by)
    on execution.templates to studios_execution;
grant update (name, description, area, complexity, estimated_minutes, tags, active, newest_version, deleted_at)
    on execution.templates to studios_execution;

alter table execution.template_versions enable row level security, force row level security;
create policy owner on execution.template_versions to studios_owner using (true) with check (true);
create policy read on execution.template_versions for select to studios_execution
    using (company_id is null or company_id = (select execution.caller_company()));
-- The foreign key does not ask whose the template is; its own policy does.
create policy make on execution.template_versions for insert to studios_execution
    with check (company_id = (select execution.caller_company()) and published_by = (select execution.caller_id())
        and exists (select from execution.templates t where t.id = template_versions.template_id
            and t.company_id = template_versions.company_id));
grant select on execution.template_versions to studios_execution;
grant insert (id, company_id, template_id, version, place, notes, definition, sample_input, published_by)
    on execution.template_versions to studios_execution;

-- Whose a template is, before the caller's place there is known: ids only.
create function execution.locate_template(template uuid) returns table (company_id uuid)
language sql stable security definer set search_path = ''
as $$ select t.company_id from execution.templates t where t.id = template $$;

-- The workflow that runs a version of a template in a studio: one for each, and for each model that takes the place of those it
-- names. It never changes; its name is the template's and may be another workflow's too.
alter table execution.workflows
    add column template_id uuid,
    add column template_version_id uuid,
    add column template_version text,
    add column template_model text,
    add constraint workflows_template check (
        (template_id is null) = (template_version_id is null) and (template_id is null) = (template_version is null)
        and (template_id is null) = (template_model is null));
drop index execution.workflows_name_per_studio;
create unique index workflows_name_per_studio on execution.workflows (company_id, studio_id, name)
    where deleted_at is null and template_id is null;
create unique index workflows_template_instance
    on execution.workflows (company_id, studio_id, template_version_id, template_model)
    where deleted_at is null and template_id is not null;
create index workflows_of_template on execution.workflows (company_id, studio_id, template_id) where template_id is not null;
grant insert (template_id, template_version_id, template_version, template_model, published_version, has_unpublished_changes)
    on execution.workflows to studios_execution;

-- A studio runs templates that its company may see.
create policy template on execution.workflows as restrictive for insert to studios_execution
    with check (template_version_id is null
        or exists (select from execution.template_versions v where v.id = workflows.template_version_id
            and v.template_id = workflows.template_id));

-- Which of these workflows run templates, and which: what does not change, and is told with executions that the caller sees.
create function execution.locate_template_runs(workflows uuid[])
    returns table (workflow_id uuid, template_id uuid, template_version text)
language sql stable security definer set search_path = ''
as $$
    select w.id, w.template_id, w.template_version
    from execution.workflows w where w.id = any(workflows) and w.template_id is not null
$$;
revoke execute on function execution.locate_template(uuid), execution.locate_template_runs(uuid[]) from public;
grant execute on function execution.locate_template(uuid), execution.locate_template_runs(uuid[]) to studios_execution;
