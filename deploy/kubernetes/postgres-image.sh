#!/bin/bash
# postgres-image.sh FILE.tar [NAME:TAG] makes a Postgres image from Debian's packages, in the format
# of `docker save`, for clusters that cannot pull one. It takes the variables of the official image
# that the chart sets: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB and PGDATA. Needs root and
# debootstrap.
set -euo pipefail
out=$(realpath -m "$1") name=${2:-holdfast.local/postgres:15}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
debootstrap --variant=minbase --include=postgresql-15 bookworm "$root" "$mirror" >"$work/log" 2>&1 ||
    { tail "$work/log" >&2; exit 1; }
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/* "$root"/var/lib/postgresql/*
sed -i 's/^postgres:x:[0-9]*:[0-9]*:/postgres:x:999:999:/' "$root/etc/passwd"
sed -i 's/^postgres:x:[0-9]*:/postgres:x:999:/' "$root/etc/group"

install -d -o 999 -g 999 "$root/run/postgresql"
install -d -o 999 -g 999 -m 700 "$root/var/lib/postgresql/data" # a new volume takes its owner

cat >"$root/entrypoint.sh" <<'SCRIPT'
#!/bin/bash
set -euo pipefail
export PATH=$PATH:/usr/lib/postgresql/15/bin
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --auth-host=scram-sha-256 --auth-local=trust \
        --encoding=UTF8 --locale=C.UTF-8 >/dev/null
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    # Not over TCP yet, where clients would find a database that is not complete.
    pg_ctl --wait --options="-c listen_addresses=''" start >/dev/null
    createdb --username="$POSTGRES_USER" --maintenance-db=postgres "$POSTGRES_DB"
    pg_ctl --wait stop >/dev/null
fi
exec postgres -c listen_addresses='*' "$@"
SCRIPT
chmod 755 "$root/entrypoint.sh"
ln -sf /usr/lib/postgresql/15/bin/{postgres,initdb,pg_ctl,pg_isready} "$root/usr/bin/"

mkdir "$work/image"
tar -C "$root" --sort=name --numeric-owner --exclude=./dev/* -cf "$work/image/layer.tar" .
layer=$(sha256sum "$work/image/layer.tar" | cut -d' ' -f1)
cat >"$work/image/config.json" <<JSON
{"architecture":"$(dpkg --print-architecture)","os":"linux","config":{"Entrypoint":["/entrypoint.sh"],"User":"999:999"},
 "rootfs":{"type":"layers","diff_ids":["sha256:$layer"]}}
JSON
echo "[{\"Config\":\"config.json\",\"RepoTags\":[\"$name\"],\"Layers\":[\"layer.tar\"]}]" >"$work/image/manifest.json"
tar -C "$work/image" -cf "$out" manifest.json config.json layer.tar
