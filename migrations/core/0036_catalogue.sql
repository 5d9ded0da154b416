-- What the check of the catalogue found: views that read with their owner's eyes, and filters of lists without an index.

-- Which companies are the caller's follows from what he reaches, in one look-up whose policy is a comparison; a view of the
-- memberships that reads with his eyes would go through theirs besides, which makes a gathered read a third dearer.
alter policy read on core.companies using (id = any (array(select r.company_id from core.reach r)));
drop view core.caller_places;
-- It shows the caller's own rows alone, which the policy below it says as well.
alter view core.caller_reach set (security_invoker = true);

create index memberships_state on core.memberships (company_id, state, id);
create index files_state on core.files (company_id, studio_id, state, id);
create index files_mime_type on core.files (company_id, studio_id, mime_type, id);
create index files_uploader on core.files (company_id, studio_id, uploaded_by, id);
