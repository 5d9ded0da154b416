-- What the check of the catalogue found: a grant that let a model be moved to another company, as far as the policies went, and
-- filters of lists without an index.
revoke update on execution.models from studios_execution;
grant update (name, provider_model, context_length, default_config, input_price_micros, output_price_micros, enabled)
    on execution.models to studios_execution;

create index connections_kind on execution.connections (company_id, kind, id);
create index templates_area on execution.templates (company_id, area, id);
create index templates_complexity on execution.templates (company_id, complexity, id);
create index templates_tags on execution.templates using gin (tags);
