-- The keys that sign access tokens. The private half lies sealed under the root key ring.
create table core.signing_keys (
    kid text primary key,
    public_jwk jsonb not null,
    sealed_private_key bytea not null,
    signs_from timestamptz not null,
    signs_until timestamptz not null,
    created_at timestamptz not null default now()
);
create index signing_keys_signs_until on core.signing_keys (signs_until);
alter table core.signing_keys enable row level security, force row level security;
create policy owner on core.signing_keys to studios_owner using (true) with check (true);
create policy service on core.signing_keys to studios_core using (true) with check (true);
grant select, insert, delete on core.signing_keys to studios_core;
