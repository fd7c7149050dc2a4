#!/usr/bin/env bash
# Run once, by the image, when the database is made: who replicates, who watches, and who uses it.
set -euo pipefail
secrets="${SECRETS:-/run/secrets}"

psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
  --set replicator="$(cat "$secrets/replicator")" --set watcher="$(cat "$secrets/watcher")" \
  --set app="$(cat "$secrets/app")" <<'SQL'
create role replicator login replication password :'replicator';
create role herdsman login password :'watcher';
grant pg_monitor to herdsman;
create role app login password :'app';
create database app owner app;
SQL
echo 'host replication replicator all scram-sha-256' >>"$PGDATA/pg_hba.conf"
