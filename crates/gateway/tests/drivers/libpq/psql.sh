#!/usr/bin/env bash
# psql: simple queries, typed or in scripts.
set -euo pipefail
. "$(dirname "$0")/common.sh"

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
export PGCONNECT_TIMEOUT=20 PGSSLMODE=disable

# What psql prints for what comes on standard input, errors included; it stops at the first of them.
ask() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@" 2>&1; }

refuses() {
  local said
  if said="$(ask -v VERBOSITY=sqlstate -c "$2")"; then fail "$2 was not refused but: $said"; fi
  [[ "$said" == *"$1"* ]] || fail "$2 was refused with: $said"
}

login() {
  same "$(ask -c 'SELECT current_user')" "$PGUSER"
  local said
  if said="$(PGPASSWORD=wrong ask -c 'SELECT 1')"; then fail "a wrong password was accepted"; fi
  [[ "$said" == *"password authentication failed"* ]] || fail "$said"
}

tables() {
  ask >/dev/null <<'SQL' || fail "no tables"
SET client_min_messages TO warning;
DROP TABLE IF EXISTS psql_t, psql_copy;
CREATE TABLE psql_t (id int PRIMARY KEY, v text);
CREATE TABLE psql_copy (id int PRIMARY KEY, v text);
SELECT settle();
SQL
}

parameters() {
  local n said
  for n in 1 2 3 4 5 6; do
    said="$(PGOPTIONS="-c work_mem=100${n}kB" PGAPPNAME="psql $n" PGTZ=Asia/Tokyo ask <<SQL
SHOW work_mem; SHOW application_name; SHOW TimeZone;
SET DateStyle TO 'German, DMY'; SET search_path TO schema_$n, public;
SHOW DateStyle; SHOW search_path;
SQL
)"
    same "$said" "100${n}kB
psql $n
Asia/Tokyo
German, DMY
schema_$n, public"
  done
  same "$(ask -c 'SHOW search_path')" '"$user", public'
}

prepared() {
  same "$(ask <<'SQL'
PREPARE p (int) AS SELECT $1 + 1;
EXECUTE p(1); EXECUTE p(2);
DEALLOCATE p;
PREPARE p AS SELECT 'another';
EXECUTE p;
DISCARD ALL;
\set ON_ERROR_STOP 0
EXECUTE p;
SELECT 'works';
SQL
)" '2
3
another
ERROR:  prepared statement "p" does not exist
works'
}

transactions() {
  same "$(ask <<'SQL'
BEGIN; INSERT INTO psql_t VALUES (1, 'committed'); COMMIT;
BEGIN; INSERT INTO psql_t VALUES (2, 'rolled back'); ROLLBACK;
BEGIN;
INSERT INTO psql_t VALUES (3, 'kept');
\set ON_ERROR_ROLLBACK on
\set ON_ERROR_STOP 0
\set VERBOSITY sqlstate
INSERT INTO psql_t VALUES (1, 'again');
INSERT INTO psql_t VALUES (4, 'kept too');
COMMIT;
SELECT array_agg(id ORDER BY id) FROM psql_t;
\set ON_ERROR_ROLLBACK off
BEGIN READ ONLY;
SELECT count(*) FROM psql_t;
INSERT INTO psql_t VALUES (5, 'no');
SELECT 1;
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE; SHOW transaction_isolation; COMMIT;
SQL
)" 'ERROR:  23505
{1,3,4}
3
ERROR:  25006
ERROR:  25P02
serializable'
}

one_transaction() {
  printf 'INSERT INTO psql_t VALUES (10);\nSELECT 1 / 0;\n' >"$folder/fails.sql"
  if ask -1 -f "$folder/fails.sql" >/dev/null; then fail "the division was not refused"; fi
  same "$(ask -c 'SELECT count(*) FROM psql_t WHERE id = 10')" 0
}

copies() {
  seq 0 39999 | awk '{ printf "%d\tcopied copied copied copied copied copied copied copied copied\n", $1 }' >"$folder/in"
  ask -c "\\copy psql_copy FROM '$folder/in'" -c 'SELECT settle()' >/dev/null
  ask -c "\\copy (SELECT * FROM psql_copy ORDER BY id) TO '$folder/out'"
  cmp "$folder/in" "$folder/out" || fail "what came out is not what went in"
  ask -c "\\copy psql_copy TO '$folder/binary' (FORMAT binary)"
  ask -c 'TRUNCATE psql_copy' -c "\\copy psql_copy FROM '$folder/binary' (FORMAT binary)"
  { printf '700000\tfine\nnot a number\t\n'; seq 800000 850000 | awk '{ printf "%d\tx\n", $1 }'; } >"$folder/broken"
  same "$(ask -v ON_ERROR_STOP=0 -v VERBOSITY=sqlstate <<SQL
\\copy psql_copy FROM '$folder/broken'
SELECT count(*) FROM psql_copy;
SQL
)" 'ERROR:  22P02
40000'
  # Data in the script itself, then more of the script.
  same "$(ask <<'SQL'
BEGIN;
COPY psql_copy FROM STDIN;
700001	x
700002	y
\.
SELECT count(*) FROM psql_copy WHERE id > 700000;
ROLLBACK;
SQL
)" 2
}

cancelled() {
  ask -v ON_ERROR_STOP=0 -v VERBOSITY=sqlstate -c 'SELECT pg_sleep(60)' >"$folder/said" &
  local psql=$! began=$SECONDS
  # Not before it has logged in and asked.
  until [ "$(ask -c "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'")" = 1 ] ||
    [ $((SECONDS - began)) -gt 20 ]; do sleep 0.1; done
  kill -INT "$(pgrep -P "$psql" psql || echo "$psql")"
  wait "$psql" || true
  [ $((SECONDS - began)) -lt 40 ] || fail "it was not cancelled"
  [[ "$(cat "$folder/said")" == *57014* ]] || fail "it said: $(cat "$folder/said")"
}

notifications() {
  local said
  said="$(ask <<'SQL'
LISTEN psql_channel;
NOTIFY psql_channel, 'to myself';
SELECT 1;
SQL
)"
  [[ "$said" == *'"to myself"'* ]] || fail "$said"
}

mistakes() {
  refuses 42601 'SELEC 1'
  refuses 23505 "INSERT INTO psql_t VALUES (1, 'again')"
  refuses 22012 'SELECT 1 / 0'
  refuses 26000 'EXECUTE nobody_prepared_this'
  refuses 42P01 'SELECT * FROM no_such_table'
  same "$(ask -v ON_ERROR_STOP=0 -v VERBOSITY=sqlstate <<'SQL'
SELEC 1;
SELECT 'works';
SELECT 1 / 0;
SELECT 'works';
SQL
)" 'ERROR:  42601
works
ERROR:  22012
works'
}

sizes() {
  same "$(ask -c "SELECT repeat('x', 10 * 1024 * 1024)" | wc -c)" $((10 * 1024 * 1024 + 1))
  { printf "SELECT length('"; head -c $((10 * 1024 * 1024)) /dev/zero | tr '\0' x; printf "');\n"; } >"$folder/long.sql"
  same "$(ask -f "$folder/long.sql")" $((10 * 1024 * 1024))
  same "$(ask -c 'SELECT n, NULL FROM generate_series(1, 100000) n' | tail -n 1)" '100000|'
  # Fetched in pieces, over a cursor.
  same "$(ask -v FETCH_COUNT=1000 -c 'SELECT n FROM generate_series(1, 100000) n' | tail -n 1)" 100000
}

several_in_one() {
  same "$(ask -c 'SELECT 1; SELECT 2; SELECT 3' | tail -n 1)" 3
  refuses 23505 "INSERT INTO psql_t VALUES (60); INSERT INTO psql_t VALUES (1)"
  same "$(ask -c 'SELECT count(*) FROM psql_t WHERE id = 60')" 0
  same "$(ask <<'SQL'
SELECT 1 \; INSERT INTO psql_t VALUES (61) \; SELECT count(*) FROM psql_t WHERE id = 61;
SQL
)" '1
1'
}

describing() {
  [[ "$(ask -c '\d psql_t')" == *integer* ]] || fail 'no \d'
  ask -c '\dt' -c '\dn' -c '\df settle' -c '\conninfo' >/dev/null || fail "no lists"
  same "$(ask <<'SQL'
SELECT 'SELECT ' || n FROM generate_series(1, 3) n \gexec
SELECT 5 AS n \gset
SELECT :n;
SELECT 1 AS a, 'x' AS b \gdesc
\c
SELECT 'reconnected';
SQL
)" '1
2
3
5
a|integer
b|text
reconnected'
}

run_checks login tables parameters prepared transactions one_transaction copies cancelled notifications mistakes sizes \
  several_in_one describing
