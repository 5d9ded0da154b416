-- Documents made from files: their text is extracted in the background. Until then there is no text, and what it may at most
-- have is held of the company's storage.
alter table core.documents
    add column file_id uuid,
    -- Of the file; it stays when the file goes, and the text with it.
    add column file_version int check (file_version >= 1),
    drop constraint documents_size_bytes_check,
    add constraint documents_size_bytes_check check (size_bytes >= 0),
    add foreign key (company_id, file_id) references core.files (company_id, id) on delete set null (file_id);
create index documents_file on core.documents (company_id, file_id);
grant insert (file_id, file_version) on core.documents to studios_core;
grant update (size_bytes, sha256, text_cleaned) on core.documents to studios_core_worker;

drop policy work on core.document_texts;
create policy work on core.document_texts to studios_core_worker using (true) with check (true);
grant insert (document_id, company_id, text), update (text) on core.document_texts to studios_core_worker;

alter table core.chunks add column page int check (page >= 1);
grant insert (page) on core.chunks to studios_core_worker;
