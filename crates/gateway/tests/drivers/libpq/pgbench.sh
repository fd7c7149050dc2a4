#!/usr/bin/env bash
# pgbench: libpq, in each of its three ways to send statements.
set -euo pipefail
. "$(dirname "$0")/common.sh"

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
export PGCONNECT_TIMEOUT=20 PGSSLMODE=disable

# More clients than the gateway's pool has server connections. Each has a thread of its own: pgbench waits for the answer
# to a Parse, and does nothing else in that thread meanwhile, such as ending another client's transaction.
clients=8

bench() {
  local said
  said="$(timeout 120 pgbench -n -c $clients -j $clients "$@" 2>&1)" || fail "$said"
  # No client may have been sent away: pgbench goes on without it.
  [[ "$said" != *aborted* && "$said" == *"number of transactions actually processed"* ]] || fail "$said"
  [[ "$said" != *"failed transactions:"* || "$said" == *"failed transactions: 0"* ]] || fail "$said"
}

ask() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

initialised() {
  local said
  said="$(pgbench -i -s 1 -q 2>&1)" || fail "$said"
  ask -c 'SELECT settle()' >/dev/null
}

cat >"$folder/several.sql" <<'SQL'
\set aid random(1, 100000 * :scale)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP);
END;
SELECT count(*) FROM pgbench_branches WHERE bid = 1;
SELECT :client_id AS me, :delta AS it \gset
\if :me <> :client_id
SELECT 1 / 0;
\endif
SQL
cat >"$folder/readonly.sql" <<'SQL'
\set aid random(1, 100000 * :scale)
BEGIN READ ONLY;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SELECT bbalance FROM pgbench_branches WHERE bid = 1;
COMMIT;
SQL
cat >"$folder/errors.sql" <<'SQL'
\set aid random(1, 100000 * :scale)
BEGIN;
SAVEPOINT s;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
ROLLBACK TO SAVEPOINT s;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
ROLLBACK;
SQL
# Pipelines are for the extended protocol.
cat >"$folder/pipeline.sql" <<'SQL'
\set aid random(1, 100000 * :scale)
\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SELECT bbalance FROM pgbench_branches WHERE bid = 1;
COMMIT;
\endpipeline
SQL

in_mode() {
  bench -M "$1" -t 100 -S
  bench -M "$1" -t 25
  bench -M "$1" -t 25 -N
  bench -M "$1" -t 25 -f "$folder/several.sql" -D scale=1
  bench -M "$1" -t 25 -f "$folder/readonly.sql" -D scale=1
  bench -M "$1" -t 25 -f "$folder/errors.sql" -D scale=1
  # A connection for each transaction.
  bench -M "$1" -t 5 -S -C
}

simple() { in_mode simple; }
extended() { in_mode extended; }
prepared() { in_mode prepared; }

pipelined() {
  bench -M extended -t 25 -f "$folder/pipeline.sql" -D scale=1
  bench -M prepared -t 25 -f "$folder/pipeline.sql" -D scale=1
}

# Every update of pgbench is in three tables: none was lost, none was done twice.
consistent() {
  ask -c 'SELECT settle()' >/dev/null
  ask -c 'TRUNCATE pgbench_history' -c 'UPDATE pgbench_branches SET bbalance = 0' -c 'UPDATE pgbench_tellers SET tbalance = 0' \
    -c 'UPDATE pgbench_accounts SET abalance = 0 WHERE abalance <> 0'
  bench -M prepared -t 25
  ask -c 'SELECT settle()' >/dev/null
  same "$(ask -c 'SELECT count(*) FROM pgbench_history')" $((clients * 25))
  same "$(ask -c 'SELECT count(*) FROM (SELECT sum(delta) FROM pgbench_history UNION SELECT sum(bbalance) FROM pgbench_branches
    UNION SELECT sum(tbalance) FROM pgbench_tellers UNION SELECT sum(abalance) FROM pgbench_accounts) AS sums')" 1
}

run_checks initialised simple extended prepared pipelined consistent
