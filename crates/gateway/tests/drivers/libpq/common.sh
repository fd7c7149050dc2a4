# Sourced by the checks of programs that come with PostgreSQL: how a check is told.

fail() {
  printf 'FAILED %s\n%s\n' "$check" "$*"
  exit 1
}

same() { [ "$1" = "$2" ] || fail "found '${1:0:300}' instead of '${2:0:300}'"; }

# Runs each function; the first that fails ends it all.
run_checks() {
  for check in "$@"; do
    local began=$SECONDS
    "$check"
    echo "ok $check ($((SECONDS - began)) s)"
  done
}
