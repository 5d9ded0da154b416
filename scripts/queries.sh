#!/usr/bin/env bash
# Checks every query of the workspace against a fresh schema and writes the data (.sqlx) that builds without a database use.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true)
[ -n "$bin" ] || bin=$(dirname "$(command -v initdb)")
dir=$(mktemp -d)
as_postgres=()
if [ "$(id -u)" = 0 ]; then
    chown nobody "$dir"
    as_postgres=(setpriv "--reuid=$(id -u nobody)" "--regid=$(id -g nobody)" --clear-groups)
fi
trap '(cd "$dir" && "${as_postgres[@]}" "$bin/pg_ctl" -D "$dir/data" -m immediate stop) >/dev/null; rm -rf "$dir"' EXIT

(
    cd "$dir"
    "${as_postgres[@]}" "$bin/initdb" -D "$dir/data" -U postgres --auth=trust >/dev/null
    "${as_postgres[@]}" "$bin/pg_ctl" -D "$dir/data" -w -l "$dir/log" start \
        -o "-k $dir -c listen_addresses= -c fsync=off" >/dev/null
)
query=(psql -q -v ON_ERROR_STOP=1 -h "$dir" -U postgres postgres)
{
    echo 'create role studios_owner; create role studios_core; create role studios_core_worker;'
    echo 'create role studios_execution; create role studios_engine;'
    echo 'create schema core authorization studios_owner; create schema execution authorization studios_owner;'
    echo 'set role studios_owner;'
    cat migrations/core/*.sql migrations/execution/*.sql
} | "${query[@]}" >/dev/null

rm -rf .sqlx
mkdir .sqlx
# Queries are checked when their crate is compiled, so the crates that have some are compiled anew.
touch core-service/src/lib.rs execution-service/src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$PWD/.sqlx" DATABASE_URL="postgres://postgres@localhost/postgres?host=$dir" \
    cargo check --quiet --workspace --all-targets
echo "$(ls .sqlx | wc -l) queries"
