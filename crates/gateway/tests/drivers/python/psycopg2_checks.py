"""psycopg2: libpq underneath, everything in simple queries."""

import io
import select
import threading
import time

import psycopg2
import psycopg2.extensions
from psycopg2 import errors

import common
from common import CLIENTS, REPEAT, same


def connect(**more):
    keys = {
        "host": common.HOST,
        "port": common.PORT,
        "user": common.USER,
        "password": common.PASSWORD,
        "dbname": common.DATABASE,
        "connect_timeout": 20,
    }
    connection = psycopg2.connect(**(keys | more))
    connection.autocommit = True
    return connection


def one(connection, text, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
        return cursor.fetchone()[0]


def do(connection, text, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)


def refused(error, connection, text):
    try:
        do(connection, text)
    except error:
        return
    raise AssertionError(f"{text[:100]} was not refused with {error.__name__}")


def clients():
    return [connect(application_name=f"psycopg2 {n}") for n in range(CLIENTS)]


def login():
    with connect() as connection:
        same(one(connection, "SELECT current_user::text"), common.USER)
    try:
        connect(password="wrong")
    except psycopg2.OperationalError as error:
        same("password authentication failed" in str(error), True)
    else:
        raise AssertionError("a wrong password was accepted")


def tables():
    connection = connect()
    do(connection, "DROP TABLE IF EXISTS psycopg2_t, psycopg2_copy")
    do(connection, "CREATE TABLE psycopg2_t (id int PRIMARY KEY, v text)")
    do(connection, "CREATE TABLE psycopg2_copy (id int PRIMARY KEY, v text)")
    do(connection, "SELECT settle()")
    connection.close()


def parameters():
    connections = clients()
    for n, connection in enumerate(connections):
        do(connection, f"SET TimeZone TO '{common.ZONES[n]}'")
        do(connection, f"SET DateStyle TO '{common.STYLES[n]}'")
        do(connection, f"SET search_path TO schema_{n}, public")
        do(connection, f"SET work_mem TO '{1000 + n}kB'")
    for _ in range(5):
        for n, connection in enumerate(connections):
            same(one(connection, "SHOW TimeZone"), common.ZONES[n])
            same(one(connection, "SHOW DateStyle"), common.STYLES[n])
            same(one(connection, "SELECT current_setting('search_path')"), f"schema_{n}, public")
            same(one(connection, "SHOW work_mem"), f"{1000 + n}kB")
            same(one(connection, "SHOW application_name"), f"psycopg2 {n}")
            same(connection.get_parameter_status("TimeZone"), common.ZONES[n])
    do(connections[0], "RESET ALL")
    same(one(connections[0], "SHOW application_name"), "psycopg2 0")
    same(one(connections[1], "SHOW TimeZone"), common.ZONES[1])
    fresh = connect()
    same(one(fresh, "SELECT current_setting('search_path')"), '"$user", public')
    for connection in connections + [fresh]:
        connection.close()


def start_up_options():
    connection = connect(options="-c TimeZone=Asia/Tokyo -c work_mem=1234kB")
    other = connect()
    for _ in range(5):
        same(one(connection, "SHOW TimeZone"), "Asia/Tokyo")
        same(one(connection, "SHOW work_mem"), "1234kB")
        assert one(other, "SHOW work_mem") != "1234kB"
    connection.close()
    other.close()


def prepared_in_sql():
    connection = connect()
    do(connection, "PREPARE p (int) AS SELECT $1 + 1")
    for n in range(REPEAT):
        same(one(connection, f"EXECUTE p({n})"), n + 1)
    do(connection, "DEALLOCATE p")
    refused(errors.InvalidSqlStatementName, connection, "EXECUTE p(1)")
    do(connection, "PREPARE p AS SELECT 'another'")
    same(one(connection, "EXECUTE p"), "another")
    do(connection, "DISCARD ALL")
    refused(errors.InvalidSqlStatementName, connection, "EXECUTE p")
    connection.close()


def interleaved():
    connections = clients()
    for n in range(REPEAT):
        for m, connection in enumerate(connections):
            same(one(connection, "SELECT %s * 1000 + %s", (n, m)), n * 1000 + m)
    for connection in connections:
        connection.close()


def at_once():
    problems = []

    def work(m):
        try:
            connection = connect()
            for n in range(REPEAT):
                same(one(connection, "SELECT %s * 1000 + %s", (n, m)), n * 1000 + m)
            connection.close()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(m,), daemon=True) for m in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        same(thread.is_alive(), False)
    same(problems, [])


def transactions():
    connection = connect()
    connection.autocommit = False
    do(connection, "INSERT INTO psycopg2_t VALUES (1, 'committed')")
    connection.commit()
    do(connection, "INSERT INTO psycopg2_t VALUES (2, 'rolled back')")
    connection.rollback()
    do(connection, "INSERT INTO psycopg2_t VALUES (3, 'kept')")
    do(connection, "SAVEPOINT s")
    refused(errors.UniqueViolation, connection, "INSERT INTO psycopg2_t VALUES (1, 'again')")
    refused(errors.InFailedSqlTransaction, connection, "SELECT 1")
    do(connection, "ROLLBACK TO SAVEPOINT s")
    do(connection, "INSERT INTO psycopg2_t VALUES (4, 'kept too')")
    connection.commit()
    same(one(connection, "SELECT array_agg(id ORDER BY id) FROM psycopg2_t"), [1, 3, 4])
    connection.commit()
    connection.set_session(readonly=True)
    same(one(connection, "SELECT count(*) FROM psycopg2_t"), 3)
    refused(errors.ReadOnlySqlTransaction, connection, "INSERT INTO psycopg2_t VALUES (5, 'no')")
    connection.rollback()
    connection.set_session(readonly=False, isolation_level="SERIALIZABLE")
    same(one(connection, "SHOW transaction_isolation"), "serializable")
    connection.commit()
    connection.close()


def copies():
    connection = connect()
    rows = "".join(f"{n}\t{common.COPY_FILLER}\n" for n in range(common.COPIED))
    with connection.cursor() as cursor:
        cursor.copy_expert("COPY psycopg2_copy FROM STDIN", io.StringIO(rows))
        same(cursor.rowcount, common.COPIED)
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT * FROM psycopg2_copy ORDER BY id) TO STDOUT", out)
        same(out.getvalue() == rows, True)
        broken = io.StringIO(rows.replace("\n", "\nnot a number\t\n", 1))
        try:
            cursor.copy_expert("COPY psycopg2_copy FROM STDIN", broken)
        except errors.InvalidTextRepresentation:
            pass
        else:
            raise AssertionError("a COPY of something else than numbers was accepted")
    same(one(connection, "SELECT count(*) FROM psycopg2_copy"), common.COPIED)
    # The next check reads it over another connection.
    do(connection, "SELECT settle()")
    connection.close()


class Breaks:
    """A file that fails in the middle: libpq then sends CopyFail."""

    def __init__(self):
        self.reads = 0

    def read(self, _size):
        self.reads += 1
        if self.reads > 3:
            raise RuntimeError("the file broke")
        return f"{common.COPIED + self.reads}\tx\n"


def copy_that_the_client_breaks_off():
    connection = connect()
    with connection.cursor() as cursor:
        try:
            cursor.copy_expert("COPY psycopg2_copy FROM STDIN", Breaks())
        except (errors.QueryCanceled, RuntimeError):
            pass
        else:
            raise AssertionError("a broken COPY succeeded")
    same(one(connection, "SELECT count(*) FROM psycopg2_copy"), common.COPIED)
    connection.close()


def cancelled():
    connection, other = connect(), connect()
    timer = threading.Timer(0.3, connection.cancel)
    timer.start()
    began = time.monotonic()
    refused(errors.QueryCanceled, connection, "SELECT pg_sleep(60)")
    assert time.monotonic() - began < 30
    timer.join()
    # It hits nobody else, and nothing later.
    connection.cancel()
    for n in range(20):
        same(one(connection, "SELECT %s", (n,)), n)
        same(one(other, "SELECT %s", (n,)), n)
    connection.close()
    other.close()


def notifications():
    listener, sender = connect(), connect()
    do(listener, "LISTEN psycopg2_channel")
    for n in range(20):
        do(sender, f"NOTIFY psycopg2_channel, 'number {n}'")
    deadline = time.monotonic() + 20
    while len(listener.notifies) < 20 and time.monotonic() < deadline:
        select.select([listener], [], [], 0.1)
        listener.poll()
    same([notify.payload for notify in listener.notifies], [f"number {n}" for n in range(20)])
    do(listener, "UNLISTEN *")
    same(one(listener, "SELECT 1"), 1)
    listener.close()
    sender.close()


def mistakes():
    connection = connect()
    for text, error in [
        ("SELEC 1", errors.SyntaxError),
        ("INSERT INTO psycopg2_t VALUES (1, 'again')", errors.UniqueViolation),
        ("SELECT 1 / 0", errors.DivisionByZero),
        ("EXECUTE nobody_prepared_this", errors.InvalidSqlStatementName),
        ("SELECT * FROM no_such_table", errors.UndefinedTable),
        ("SELECT 1; SELECT 1 / 0; INSERT INTO psycopg2_t VALUES (50, 'no')", errors.DivisionByZero),
    ]:
        for _ in range(5):
            refused(error, connection, text)
            same(one(connection, "SELECT 'works'"), "works")
    same(one(connection, "SELECT count(*) FROM psycopg2_t WHERE id = 50"), 0)
    connection.close()


def sizes():
    connection = connect()
    big = "x" * common.BIG
    same(one(connection, "SELECT %s", (big,)) == big, True)
    same(one(connection, "SELECT length(repeat('y', %s))", (common.BIG,)), common.BIG)
    with connection.cursor() as cursor:
        cursor.execute("SELECT n, NULL::text, 'row ' || n FROM generate_series(1, %s) n", (common.MANY,))
        rows = cursor.fetchall()
        same(len(rows), common.MANY)
        same(rows[-1], (common.MANY, None, f"row {common.MANY}"))
        cursor.execute("SELECT NULL, '', '{}'::int[] WHERE NULL IS NULL")
        same(cursor.fetchall(), [(None, "", [])])
        cursor.execute("SELECT 1 WHERE false")
        same(cursor.fetchall(), [])
    connection.close()


def named_cursors():
    connection = connect()
    connection.autocommit = False
    with connection.cursor("c") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT n FROM generate_series(1, 5000) n")
        same(sum(row[0] for row in cursor), 5000 * 5001 // 2)
    connection.commit()
    connection.close()


def forgetting():
    connection = connect()
    do(connection, "SET TimeZone TO 'Asia/Tokyo'")
    do(connection, "DISCARD ALL")
    assert one(connection, "SHOW TimeZone") != "Asia/Tokyo"
    do(connection, "DEALLOCATE ALL")
    do(connection, "RESET ALL")
    same(one(connection, "SELECT 1"), 1)
    connection.close()


def several_in_one():
    connection = connect()
    # One transaction: the last one's error undoes the first.
    refused(errors.UniqueViolation, connection, "INSERT INTO psycopg2_t VALUES (60, ''); INSERT INTO psycopg2_t VALUES (1, '')")
    same(one(connection, "SELECT count(*) FROM psycopg2_t WHERE id = 60"), 0)
    same(one(connection, "INSERT INTO psycopg2_t VALUES (61, ''); SELECT 1; SELECT count(*) FROM psycopg2_t WHERE id = 61"), 1)
    same(one(connection, "BEGIN; INSERT INTO psycopg2_t VALUES (62, ''); COMMIT; SELECT count(*) FROM psycopg2_t WHERE id = 62"), 1)
    connection.close()


def temporary_tables():
    first, second = connect(), connect()
    do(first, "CREATE TEMP TABLE psycopg2_temp (n int)")
    do(first, "INSERT INTO psycopg2_temp VALUES (1)")
    for _ in range(10):
        same(one(first, "SELECT n FROM psycopg2_temp"), 1)
        refused(errors.UndefinedTable, second, "SELECT n FROM psycopg2_temp")
    first.close()
    for _ in range(10):
        refused(errors.UndefinedTable, second, "SELECT n FROM psycopg2_temp")
    second.close()


common.run([
    login, tables, parameters, start_up_options, prepared_in_sql, interleaved, at_once, transactions, copies,
    copy_that_the_client_breaks_off, cancelled, notifications, mistakes, sizes, named_cursors, forgetting, several_in_one,
    temporary_tables,
])
