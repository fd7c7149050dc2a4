"""What the Python clients share: where the server is, how a check is told, what is checked against."""

import os
import sys
import time
import traceback

HOST = os.environ["PGHOST"]
PORT = int(os.environ["PGPORT"])
USER = os.environ["PGUSER"]
PASSWORD = os.environ["PGPASSWORD"]
DATABASE = os.environ["PGDATABASE"]
# More than the gateway's pool has server connections, so that they have to share them.
CLIENTS = 6
# How often each of them executes its statements.
REPEAT = 100
BIG = 10 * 1024 * 1024
MANY = 100_000
# Rows of a COPY: about 4 MB.
COPIED = 40_000
COPY_FILLER = "copied " * 13

ZONES = ["Asia/Tokyo", "America/Lima", "Europe/Paris", "Africa/Cairo", "Asia/Kolkata", "Pacific/Auckland"]
STYLES = ["ISO, DMY", "German, DMY", "SQL, MDY", "Postgres, MDY", "ISO, YMD", "SQL, DMY"]


def passed(name, began):
    print(f"ok {name} ({time.monotonic() - began:.2f} s)", flush=True)


def failed(name):
    print(f"FAILED {name}", flush=True)
    traceback.print_exc(file=sys.stdout)
    sys.stdout.flush()
    # Threads and event loops of a client that is stuck must not keep this process alive.
    os._exit(1)


def run(checks):
    """Runs each check; the first that fails ends it all."""
    for check in checks:
        began = time.monotonic()
        try:
            check()
        except BaseException:
            failed(check.__name__)
        passed(check.__name__, began)


async def run_async(checks):
    for check in checks:
        began = time.monotonic()
        try:
            await check()
        except BaseException:
            failed(check.__name__)
        passed(check.__name__, began)


def same(found, expected):
    if found != expected:
        raise AssertionError(f"found {found!r:.300} instead of {expected!r:.300}")
