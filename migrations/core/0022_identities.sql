-- Who an identity of another issuer is, before a user is known.
create function core.find_user_by_identity(of_issuer text, of_subject text) returns uuid
language sql stable security definer set search_path = ''
as $$ select user_id from core.external_identities where issuer = of_issuer and subject = of_subject $$;
revoke execute on function core.find_user_by_identity(text, text) from public;
grant execute on function core.find_user_by_identity(text, text) to studios_core;
grant insert (email_verified) on core.users to studios_core;
