"""psycopg 3: libpq underneath, extended protocol, prepared statements `_pg3_0`, …, pipelines, binary results."""

import threading
import time

import psycopg
from psycopg import errors

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
        "autocommit": True,
        # Prepared from the first execution.
        "prepare_threshold": 0,
    }
    return psycopg.connect(**(keys | more))


def one(connection, text, parameters=None, **more):
    return connection.execute(text, parameters, **more).fetchone()[0]


def refused(error, connection, text, parameters=None):
    try:
        connection.execute(text, parameters)
    except error:
        return
    raise AssertionError(f"{text[:100]} was not refused with {error.__name__}")


def clients(**more):
    return [connect(application_name=f"psycopg3 {n}", **more) for n in range(CLIENTS)]


def close(connections):
    for connection in connections:
        connection.close()


def login():
    with connect() as connection:
        same(one(connection, "SELECT current_user::text"), common.USER)
    try:
        connect(password="wrong")
    except psycopg.OperationalError as error:
        same("password authentication failed" in str(error), True)
    else:
        raise AssertionError("a wrong password was accepted")


def tables():
    with connect() as connection:
        connection.execute("DROP TABLE IF EXISTS psycopg3_t, psycopg3_copy")
        connection.execute("CREATE TABLE psycopg3_t (id int PRIMARY KEY, v text)")
        connection.execute("CREATE TABLE psycopg3_copy (id int PRIMARY KEY, v text)")
        connection.execute("SELECT settle()")


def parameters():
    connections = clients()
    for n, connection in enumerate(connections):
        connection.execute(f"SET TimeZone TO '{common.ZONES[n]}'")
        connection.execute(f"SET search_path TO schema_{n}, public")
    for _ in range(5):
        for n, connection in enumerate(connections):
            same(one(connection, "SHOW TimeZone"), common.ZONES[n])
            same(one(connection, "SELECT current_setting('search_path')"), f"schema_{n}, public")
            same(one(connection, "SHOW application_name"), f"psycopg3 {n}")
            same(connection.info.parameter_status("TimeZone"), common.ZONES[n])
    close(connections)


def settings_by_function():
    connections = [connect(), connect()]
    for n, connection in enumerate(connections):
        connection.execute("SELECT set_config('DateStyle', %s, false)", (common.STYLES[n],))
    for _ in range(5):
        for n, connection in enumerate(connections):
            same(one(connection, "SHOW DateStyle"), common.STYLES[n])
    close(connections)


def prepared():
    connections = clients()
    for n in range(REPEAT):
        for m, connection in enumerate(connections):
            # The same text everywhere, and `_pg3_0` of each client is that text.
            same(one(connection, "SELECT %s::int * 1000 + %s::int", (n, m)), n * 1000 + m)
    close(connections)


def one_name_many_texts():
    connections = clients()
    for n in range(REPEAT):
        for m, connection in enumerate(connections):
            # `_pg3_0` of each client is another text.
            same(one(connection, f"SELECT 'client {m}', %s::int", (n,)), f"client {m}")
    close(connections)


def more_statements_than_are_kept():
    connection, other = connect(), connect()
    connection.prepared_max, other.prepared_max = 700, 50
    for _ in range(2):
        for n in range(600):
            same(one(connection, f"SELECT {n} + %s::int", (1,)), n + 1)
            same(one(other, f"SELECT {n} + %s::int", (2,)), n + 2)
    close([connection, other])


def at_once():
    problems = []

    def work(m):
        try:
            with connect() as connection:
                for n in range(REPEAT):
                    same(one(connection, "SELECT %s::int * 1000 + %s::int", (n, m)), n * 1000 + m)
                    with connection.transaction():
                        same(one(connection, f"SELECT 'client {m}'"), f"client {m}")
                        same(one(connection, "SELECT %s::text", (str(n),)), str(n))
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
    with connection.transaction():
        connection.execute("INSERT INTO psycopg3_t VALUES (%s, %s)", (1, "committed"))
    with connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO psycopg3_t VALUES (%s, %s)", (2, "rolled back"))
    with connection.transaction():
        connection.execute("INSERT INTO psycopg3_t VALUES (%s, %s)", (3, "kept"))
        try:
            with connection.transaction():
                connection.execute("INSERT INTO psycopg3_t VALUES (%s, %s)", (1, "again"))
        except errors.UniqueViolation:
            pass
        connection.execute("INSERT INTO psycopg3_t VALUES (%s, %s)", (4, "kept too"))
    same(one(connection, "SELECT array_agg(id ORDER BY id) FROM psycopg3_t"), [1, 3, 4])
    connection.execute("BEGIN")
    refused(errors.DivisionByZero, connection, "SELECT 1 / %s::int", (0,))
    refused(errors.InFailedSqlTransaction, connection, "SELECT 1")
    same(connection.info.transaction_status, psycopg.pq.TransactionStatus.INERROR)
    connection.execute("COMMIT")
    same(connection.info.transaction_status, psycopg.pq.TransactionStatus.IDLE)
    connection.read_only = True
    with connection.transaction():
        same(one(connection, "SELECT count(*) FROM psycopg3_t"), 3)
        refused(errors.ReadOnlySqlTransaction, connection, "INSERT INTO psycopg3_t VALUES (%s, %s)", (5, "no"))
    connection.read_only = False
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    with connection.transaction():
        same(one(connection, "SHOW transaction_isolation"), "serializable")
    connection.close()


def pipelines():
    connections = clients()
    for n in range(10):
        for m, connection in enumerate(connections):
            with connection.pipeline():
                cursors = [connection.execute("SELECT %s::int, %s::int", (m, k)) for k in range(50)]
                same([cursor.fetchone() for cursor in cursors], [(m, k) for k in range(50)])
    connection = connections[0]
    with connection.pipeline(), connection.transaction():
        connection.execute("INSERT INTO psycopg3_t VALUES (%s, %s)", (10, "piped"))
        connection.execute("INSERT INTO psycopg3_t VALUES (%s, %s)", (11, "piped"))
    same(one(connection, "SELECT count(*) FROM psycopg3_t WHERE id IN (10, 11)"), 2)
    close(connections)


def an_error_in_a_pipeline():
    connection = connect()
    for _ in range(5):
        try:
            with connection.pipeline():
                first = connection.execute("SELECT %s::int", (1,))
                connection.execute("SELECT 1 / %s::int", (0,))
                skipped = connection.execute("SELECT %s::int", (3,))
                same(first.fetchone(), (1,))
                skipped.fetchone()
        except (errors.DivisionByZero, psycopg.errors.PipelineAborted):
            pass
        else:
            raise AssertionError("the error in the pipeline was not seen")
        same(one(connection, "SELECT %s::text", ("works",)), "works")
    # Several synchronisation points in one pipeline: what comes after the point is not skipped.
    with connection.pipeline() as pipeline:
        connection.execute("SELECT %s::int", (1,))
        pipeline.sync()
        cursor = connection.execute("SELECT %s::int", (2,))
        pipeline.sync()
        same(cursor.fetchone(), (2,))
    connection.close()


def batches():
    connection = connect()
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO psycopg3_t VALUES (%s, %s)", [(n, f"batch {n}") for n in range(1000, 3000)])
        same(cursor.rowcount, 2000)
        cursor.executemany("SELECT %s::int", [(n,) for n in range(100)], returning=True)
        found = []
        while True:
            found.append(cursor.fetchone()[0])
            if not cursor.nextset():
                break
        same(found, list(range(100)))
    connection.close()


def copies():
    connection = connect()
    rows = "".join(f"{n}\t{common.COPY_FILLER}\n" for n in range(common.COPIED))
    with connection.cursor() as cursor:
        with cursor.copy("COPY psycopg3_copy FROM STDIN") as copy:
            copy.write(rows)
        same(cursor.rowcount, common.COPIED)
        with cursor.copy("COPY (SELECT * FROM psycopg3_copy ORDER BY id) TO STDOUT") as copy:
            found = b"".join(bytes(data) for data in copy)
        same(found.decode() == rows, True)
        with cursor.copy("COPY (SELECT id, v FROM psycopg3_copy ORDER BY id LIMIT 3) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            same([row[0] for row in copy.rows()], [0, 1, 2])
        try:
            with cursor.copy("COPY psycopg3_copy FROM STDIN") as copy:
                copy.write("700000\tfine\nnot a number\t\n" + "800000\tx\n" * 100_000)
        except errors.InvalidTextRepresentation:
            pass
        else:
            raise AssertionError("a COPY of something else than numbers was accepted")
        try:
            with cursor.copy("COPY psycopg3_copy FROM STDIN") as copy:
                copy.write("700000\tfine\n")
                raise RuntimeError("the client gives up")
        except RuntimeError:
            pass
    same(one(connection, "SELECT count(*) FROM psycopg3_copy"), common.COPIED)
    # Left in the middle: psycopg cancels it and reads what still comes.
    try:
        with connection.cursor() as cursor, cursor.copy("COPY psycopg3_copy TO STDOUT") as copy:
            copy.read()
            raise RuntimeError("the client has seen enough")
    except RuntimeError:
        pass
    same(one(connection, "SELECT 1"), 1)
    connection.close()


def cancelled():
    connection, other = connect(), connect()
    timer = threading.Timer(0.3, connection.cancel_safe)
    timer.start()
    began = time.monotonic()
    refused(errors.QueryCanceled, connection, "SELECT pg_sleep(60)")
    assert time.monotonic() - began < 30
    timer.join()
    connection.cancel_safe()
    for n in range(20):
        same(one(connection, "SELECT %s::int", (n,)), n)
        same(one(other, "SELECT %s::int", (n,)), n)
    close([connection, other])


def notifications():
    listener, sender = connect(), connect()
    listener.execute("LISTEN psycopg3_channel")
    for n in range(20):
        sender.execute("SELECT pg_notify('psycopg3_channel', %s)", (f"number {n}",))
    found = [notify.payload for notify in listener.notifies(timeout=20, stop_after=20)]
    same(found, [f"number {n}" for n in range(20)])
    close([listener, sender])


def mistakes():
    connection = connect()
    for text, parameters, error in [
        ("SELEC 1", None, errors.SyntaxError),
        ("INSERT INTO psycopg3_t VALUES (%s, %s)", (1, "again"), errors.UniqueViolation),
        ("SELECT 1 / %s::int", (0,), errors.DivisionByZero),
        ("EXECUTE nobody_prepared_this", None, errors.InvalidSqlStatementName),
        ("SELECT * FROM no_such_table WHERE id = %s", (1,), errors.UndefinedTable),
        ("SELECT %s::int", ("not a number",), errors.InvalidTextRepresentation),
    ]:
        for _ in range(5):
            refused(error, connection, text, parameters)
            same(one(connection, "SELECT %s::text", ("works",)), "works")
    connection.close()


def sizes():
    connection = connect()
    big = "x" * common.BIG
    for binary in (False, True):
        same(one(connection, "SELECT %s::text", (big,), binary=binary) == big, True)
        same(one(connection, "SELECT %s::bytea", (big.encode(),), binary=binary) == big.encode(), True)
        rows = connection.execute(
            "SELECT n, NULL::text, 'row ' || n FROM generate_series(1, %s::int) n", (common.MANY,), binary=binary
        ).fetchall()
        same(len(rows), common.MANY)
        same(rows[-1], (common.MANY, None, f"row {common.MANY}"))
        row = connection.execute("SELECT NULL, '', %s::int[]", ([1, None],), binary=binary).fetchone()
        same(row, (None, "", [1, None]))
    same(connection.execute("SELECT 1 WHERE %s", (False,)).fetchall(), [])
    connection.close()


def server_side_cursors():
    connection = connect()
    with connection.transaction(), connection.cursor("c") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT n FROM generate_series(1, %s::int) n", (5000,))
        same(sum(row[0] for row in cursor), 5000 * 5001 // 2)
    connection.close()


def row_by_row():
    connection = connect()
    with connection.cursor() as cursor:
        same(sum(row[0] for row in cursor.stream("SELECT n FROM generate_series(1, 5000) n")), 5000 * 5001 // 2)
    connection.close()


def forgetting():
    connection, other = connect(), connect()
    same(one(connection, "SELECT %s::int", (1,)), 1)
    same(one(other, "SELECT %s::int", (1,)), 1)
    connection.execute("SET TimeZone TO 'Asia/Tokyo'")
    # psycopg forgets its own statements at DEALLOCATE ALL and DISCARD ALL.
    connection.execute("DEALLOCATE ALL")
    same(one(connection, "SELECT %s::int", (2,)), 2)
    connection.execute("DISCARD ALL")
    same(one(connection, "SELECT %s::int", (3,)), 3)
    assert one(connection, "SHOW TimeZone") != "Asia/Tokyo"
    # Another client's are its own.
    for _ in range(10):
        same(one(other, "SELECT %s::int", (2,)), 2)
    close([connection, other])


def several_in_one():
    # Never prepared, and without parameters: simple queries.
    connection = connect(prepare_threshold=None)
    cursor = connection.execute("SELECT 1; INSERT INTO psycopg3_t VALUES (61, ''); SELECT 3")
    found = []
    while True:
        found.append(cursor.fetchone()[0] if cursor.description else None)
        if not cursor.nextset():
            break
    same(found, [1, None, 3])
    refused(errors.UniqueViolation, connection, "INSERT INTO psycopg3_t VALUES (60, ''); INSERT INTO psycopg3_t VALUES (61, '')")
    same(one(connection, "SELECT count(*) FROM psycopg3_t WHERE id = 60"), 0)
    connection.close()


def changed_tables():
    """A prepared statement whose result changes: PostgreSQL's own error, then it works again."""
    first, second = connect(), connect()
    first.execute("DROP TABLE IF EXISTS psycopg3_changed")
    first.execute("CREATE TABLE psycopg3_changed AS SELECT 1 AS n")
    first.execute("SELECT settle()")
    same(one(second, "SELECT * FROM psycopg3_changed"), 1)
    first.execute("ALTER TABLE psycopg3_changed ADD m int")
    first.execute("SELECT settle()")
    try:
        one(second, "SELECT * FROM psycopg3_changed")
    except errors.FeatureNotSupported as error:
        same("cached plan must not change result type" in str(error), True)
    second.execute("DEALLOCATE ALL")
    same(second.execute("SELECT * FROM psycopg3_changed").fetchone(), (1, None))
    close([first, second])


common.run([
    login, tables, parameters, settings_by_function, prepared, one_name_many_texts, more_statements_than_are_kept, at_once,
    transactions, pipelines, an_error_in_a_pipeline, batches, copies, cancelled, notifications, mistakes, sizes,
    server_side_cursors, row_by_row, forgetting, several_in_one, changed_tables,
])
