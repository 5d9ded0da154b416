-- What the check of the catalogue found: views that read with their owner's eyes, and filters of lists without an index.

-- Both show the caller's own rows alone, which the policies below them say as well. What he reaches (core.reach) would be looked up
-- faster than his memberships, but a suspended company is not among it, and its members are to be told that it is.
alter view core.caller_places set (security_invoker = true);
alter view core.caller_reach set (security_invoker = true);

create index memberships_state on core.memberships (company_id, state, id);
create index files_state on core.files (company_id, studio_id, state, id);
create index files_mime_type on core.files (company_id, studio_id, mime_type, id);
create index files_uploader on core.files (company_id, studio_id, uploaded_by, id);
