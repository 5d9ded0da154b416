#!/usr/bin/env bash
# Installs what building and testing need and this machine lacks. Quick when nothing is missing.
#   scripts/setup.sh TOOLS_DIR
set -euo pipefail
tools=$1
buf=1.75.0
deny=0.20.2
machete=0.9.2

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

packages=()
command -v cc >/dev/null || packages+=(build-essential)
command -v curl >/dev/null || packages+=(curl)
command -v setpriv >/dev/null || packages+=(util-linux)
command -v npm >/dev/null || packages+=(nodejs npm)
if ! command -v initdb >/dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
    packages+=(postgresql)
fi
if [ ${#packages[@]} -gt 0 ]; then
    echo "setup: installing ${packages[*]}" >&2
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

cargo_tool() { # name version
    if [ "$("$1" --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1)" != "$2" ]; then
        echo "setup: installing $1 $2" >&2
        cargo install --quiet --locked "$1@$2"
    fi
}
cargo_tool cargo-deny "$deny"
cargo_tool cargo-machete "$machete"

if [ "$("$tools/node_modules/.bin/buf" --version 2>/dev/null)" != "$buf" ]; then
    echo "setup: installing buf $buf" >&2
    npm install --silent --no-audit --no-fund --no-save --prefix "$tools" "@bufbuild/buf@$buf" >&2
    # Package managers may hold back install scripts; the binary itself lies in the platform's package.
    [ -x "$tools/node_modules/.bin/buf" ] || {
        mkdir -p "$tools/node_modules/.bin"
        ln -sf "$(ls -d "$tools"/node_modules/@bufbuild/buf-linux-*/bin/buf | head -n 1)" "$tools/node_modules/.bin/buf"
    }
fi
