#!/bin/sh
# Installs Postgres server binaries with the system's package manager, unless
# there are some where the local stack looks for them.
set -eu

for postgres in "${HOLDFAST_PG_BIN:-/nowhere}/postgres" "$(command -v postgres || echo /nowhere)" \
    /usr/lib/postgresql/*/bin/postgres \
    /opt/homebrew/opt/postgresql*/bin/postgres /usr/local/opt/postgresql*/bin/postgres; do
    if [ -x "$postgres" ] && [ -x "$(dirname "$postgres")/initdb" ]; then
        exit 0
    fi
done

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if command -v apt-get >/dev/null; then
    echo "No Postgres server here: installing Debian's package postgresql"
    as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends postgresql >/dev/null
elif command -v brew >/dev/null; then
    echo "No Postgres server here: installing Homebrew's formula postgresql@17"
    brew install --quiet postgresql@17
else
    echo "No Postgres server here: install one (postgres and initdb), or name its folder in HOLDFAST_PG_BIN" >&2
    exit 1
fi
