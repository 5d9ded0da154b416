-- The model that makes the vectors of a company's documents, and of what is looked for in them: one of its own, and one at most.
alter table execution.models
    add column embeds_documents boolean not null default false,
    add constraint models_embedding_owned check (company_id is not null or not embeds_documents);
create unique index models_embedding on execution.models (company_id) where embeds_documents;
grant update (embeds_documents) on execution.models to studios_execution;
