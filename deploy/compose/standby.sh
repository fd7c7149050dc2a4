#!/usr/bin/env bash
# A copy of the primary that follows it: made at the first start, continued at every other.
set -euo pipefail
primary="${PRIMARY:-primary}" port="${PRIMARY_PORT:-5432}"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  PGPASSWORD="$(cat "${SECRETS:-/run/secrets}/replicator")"
  export PGPASSWORD
  # The slot has the primary keep what the standby has not received. It is left from an earlier copy, if there was one.
  slot=(--create-slot --slot=standby)
  if psql --no-psqlrc -tA "host=$primary port=$port user=replicator replication=true" \
    -c 'READ_REPLICATION_SLOT standby' | grep -q '^physical'; then slot=(--slot=standby); fi
  pg_basebackup --host="$primary" --port="$port" --username=replicator --pgdata="$PGDATA" \
    --wal-method=stream --checkpoint=fast --write-recovery-conf "${slot[@]}"
  unset PGPASSWORD
  chmod 0700 "$PGDATA"
fi
exec postgres "$@"
